"""Networks between nodes: dragonflies by their definition, ten thousand devices, ways that agree with the graph."""

import itertools
from dataclasses import replace

import networkx as nx
import numpy as np
import pytest

from hw_models import catalog, topology
from hw_models.network import RATE, dragonfly_shape
from hw_models.routes import Routes
from hw_models.spec import System
from hw_models.topology import device_name
from kernels.errors import InputError


def dragonfly(num_node: int) -> System:
    system = catalog.system("dgx_h100", 8 * num_node)
    return replace(system, node=replace(system.node, network="dragonfly"))


def test_a_balanced_dragonfly() -> None:
    # switches of 7 ports: h = 2, groups of 4 routers with 2 ports each: 8 ports a group, one DGX fills it
    assert dragonfly_shape(9 * 8, 7) == (9, 4, 2, 1)  # the largest: every pair of 9 groups by one link (ISCA 2008)
    graph = topology.system_graph(dragonfly(9), radix=7)
    routers = [v for v, kind in graph.nodes(data="kind") if kind == "leaf"]
    assert len(routers) == 9 * 4
    assert {graph.degree(router) for router in routers} == {7}  # every port of every router is used
    network = graph.subgraph(routers)
    assert nx.diameter(network) == 3  # local, global, local
    assert network.number_of_edges() == 9 * 6 + 9 * 8 // 2  # each to each in a group, each to each between groups
    with pytest.raises(InputError, match="switches of 7 ports join 72 ports at most"):
        dragonfly_shape(73, 7)


def test_dragonfly_bisection() -> None:
    # 8 nodes fill 8 groups; each pair of groups has 8 // 7 = 1 link: 4 x 4 links of 50 GB/s cross the middle
    graph = topology.system_graph(dragonfly(8), radix=7)
    devices = [device_name(node, place) for node in range(8) for place in range(8)]
    assert topology.bisection_byte_per_s(graph, devices) == pytest.approx(16 * 50e9)
    few = topology.system_graph(dragonfly(2), radix=7)  # 8 links for the one pair, a port's worth each
    assert topology.bisection_byte_per_s(few, devices[:16]) == pytest.approx(8 * 50e9)


def test_a_small_dragonfly_is_one_group() -> None:
    graph = topology.system_graph(dragonfly(2))  # 16 ports, 16 a router at radix 64
    assert [v for v, kind in graph.nodes(data="kind") if kind == "leaf"] == ["router0.0"]


def test_bad_networks() -> None:
    with pytest.raises(InputError, match="a dragonfly has no upward links"):
        topology.system_graph(dragonfly(2), oversubscription=2.0)
    with pytest.raises(InputError, match=r"oversubscription = 0\.5"):
        topology.system_graph(catalog.system("dgx_h100", 16), oversubscription=0.5)
    with pytest.raises(InputError, match="radix = 2"):
        topology.system_graph(catalog.system("dgx_h100", 16), radix=2)


@pytest.mark.parametrize("network", ["rail", "fat_tree", "dragonfly"])
def test_ways_of_ten_thousand_devices(network: str) -> None:
    system = catalog.system("dgx_h100", 10_000)
    system = replace(system, node=replace(system.node, network=network))
    routes = Routes(system)
    assert system.num_device == 10_000
    assert routes.num_link == 2 * routes.graph.number_of_edges()
    rng = np.random.default_rng(7)
    for a, b in rng.integers(0, 10_000, (12, 2)):
        links = routes.between(int(a), int(b))
        names = [routes.name(link).split(">") for link in links]
        assert names[0][0] == routes.vertex(int(a))
        assert names[-1][1] == routes.vertex(int(b))
        assert all(x[1] == y[0] for x, y in itertools.pairwise(names))  # a walk
        if a // 8 != b // 8:  # no longer than the shortest way that the whole graph knows
            least_s = topology.path_latency_s(routes.graph, routes.vertex(int(a)), routes.vertex(int(b)))
            assert routes.latency_s[links].sum() == pytest.approx(least_s)
    # a device and its own number elsewhere: through its own port, on a rail
    assert {routes.name(link) for link in routes.between(3, 8 * 700 + 3)} >= {"n700/nic3>n700/pcie1"}


@pytest.mark.parametrize("name", ["a40_x8", "mi300x_x8", "tpu_v4_slice", "h100_pcie"])
def test_ways_inside_any_node(name: str) -> None:
    system = catalog.system(name)
    routes = Routes(system)
    for b in range(1, system.num_device):
        hops = topology.path(routes.graph, routes.vertex(0), routes.vertex(b))
        links = [routes.link(*hop) for hop in hops]  # in a torus several ways are equally short
        assert routes.latency_s[routes.between(0, b)].sum() == pytest.approx(routes.latency_s[links].sum())
        assert routes.byte_per_s[routes.between(0, b)].min() == min(routes.graph.edges[hop][RATE] for hop in hops)
