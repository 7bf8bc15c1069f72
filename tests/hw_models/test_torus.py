"""Slices of many cubes as one torus, and what a torus does to rings and to messages to everybody."""

import math

import networkx as nx
import numpy as np
import pytest

from hw_models import catalog, topology
from hw_models.device import machine
from hw_models.topology import device_name, node_graph
from hw_models.torus import box, grown, peer_hop, ring_step
from kernels.collective import collective_s
from kernels.errors import InputError
from kernels.machine import LINK_BYTE_PER_S, LINK_LATENCY_S, LINK_UP
from kernels.optable import ALL_GATHER, ALL_REDUCE, ALL_TO_ALL


@pytest.mark.parametrize(
    ("name", "num_device", "dims"),
    [
        ("tpu_v5p_slice", 64, (4, 4, 4)), ("tpu_v5p_slice", 65, (4, 4, 8)), ("tpu_v5p_slice", 512, (8, 8, 8)),
        ("tpu_v5p_slice", 6144, (16, 16, 24)), ("tpu_v4_slice", 4096, (16, 16, 16)), ("tpu_v5e_slice", 256, (16, 16)),
    ],
)  # fmt: skip
def test_a_slice_is_one_torus(name: str, num_device: int, dims: tuple[int, ...]) -> None:
    """6,144 chips fell to 96 cubes on Ethernet."""
    system = catalog.system(name, num_device)
    assert (system.num_node, system.node.dims) == (1, dims)
    base = catalog.node(name)
    factor = math.prod(dims) / base.num_device
    assert system.node.rest_w == pytest.approx(factor * base.rest_w)
    assert system.node.num_nic == factor * base.num_nic


def test_beyond_the_largest_slice_there_are_several() -> None:
    system = catalog.system("tpu_v5p_slice", 10_000)
    assert (system.num_node, system.node.num_device) == (2, 6144)
    assert catalog.system("dgx_h100", 6144).num_node == 768  # nothing grows but tori


def test_a_large_slice_reduces_along_its_axes() -> None:
    link = machine(catalog.system("tpu_v5p_slice", 6144)).link
    assert link[LINK_UP, LINK_BYTE_PER_S] == pytest.approx(6 * 100e9)
    fit = machine(catalog.system("tpu_v5p_slice", 6144)).fit
    small = collective_s(ALL_REDUCE, 1.0, 6144, 1, link, fit[ALL_REDUCE, 0])[0]
    assert small == pytest.approx(2 * (15 + 15 + 23) * 1e-6, rel=1e-3)  # not 12,286 steps
    large = collective_s(ALL_GATHER, 1e12, 6144, 1, link, fit[ALL_GATHER, 0])[0]
    assert large == pytest.approx(6143 / 6144 * 1e12 / 600e9, rel=1e-3)


@pytest.mark.parametrize(("dims", "wrap"), [((4, 4, 4), True), ((4, 8), True), ((3, 5), False)])
def test_messages_to_all_are_held_by_the_busiest_axis(dims: tuple[int, ...], wrap: bool) -> None:
    """Against sending along the axes one after the other (dimension order), counting what every link carries."""
    count = math.prod(dims)
    load: dict[tuple[int, int, int], float] = {}  # (device, axis, direction)
    places = list(np.ndindex(*dims))
    for a in places:
        for b in places:
            here = list(a)
            for axis, side in enumerate(dims):
                ahead = (b[axis] - here[axis]) % side if wrap else b[axis] - here[axis]
                ways = [(1, ahead, 1.0)]
                if wrap:
                    ways = [(1, ahead, 1.0)] if 2 * ahead < side else [(-1, side - ahead, 1.0)]
                    if 2 * ahead == side:
                        ways = [(1, ahead, 0.5), (-1, ahead, 0.5)]
                elif ahead < 0:
                    ways = [(-1, -ahead, 1.0)]
                for step, hops, share in ways:
                    at = list(here)
                    for _ in range(hops):
                        key = int(np.ravel_multi_index(at, dims)), axis, step
                        load[key] = load.get(key, 0.0) + share
                        at[axis] = (at[axis] + step) % side
                here[axis] = b[axis]
    links = 2 * len(dims)
    straight = (count - 1) / links  # messages a link, if every peer had one
    if wrap:
        assert peer_hop(dims, dims, wrap) == pytest.approx(max(load.values()) / straight, rel=1e-9)
    else:
        assert 1.0 <= peer_hop(dims, dims, wrap) <= max(load.values()) / straight * 1.05


def test_all_to_all_on_a_pod_is_held_by_its_bisection() -> None:
    system = catalog.system("tpu_v5e_slice")
    arrays = machine(system)
    byte = 1e9
    seconds, light_s, _ = collective_s(ALL_TO_ALL, byte, 256, 1, arrays.link, arrays.fit[ALL_TO_ALL, 0])
    half = topology.bisection_byte_per_s(node_graph(system.node), [device_name(0, i) for i in range(256)], "scale_up")
    least = 128 * byte * 128 / 256 / half  # what one half has to send to the other
    assert light_s >= least * (1 - 1e-9)
    assert seconds >= light_s


def test_boxes_and_steps() -> None:
    assert box((4, 4, 4), 32) == (2, 4, 4)
    assert box((4, 4, 4), 12) == (1, 3, 4)
    assert box((4, 4, 4), 128) is None
    assert ring_step((2, 4, 4)) == pytest.approx(7 / 31)
    assert machine(catalog.system("tpu_v4_slice"), group_size=4).link[LINK_UP, LINK_LATENCY_S] == pytest.approx(1e-6)


def test_a_slice_of_thousands_is_made_at_once() -> None:
    graph = node_graph(grown(catalog.node("tpu_v4_slice"), 4096))
    scale_up = [edge for edge in graph.edges(data="kind") if edge[2] == "scale_up"]
    assert len(scale_up) == 3 * 4096
    assert nx.is_connected(graph)


def test_only_a_torus_has_slices(tmp_path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('base = "dgx_h100"\ntitle = "mine"\nnum_slice_device = { value = 64, source = "mine" }\n')
    with pytest.raises(InputError, match="only a torus has slices"):
        catalog.node(str(file))
