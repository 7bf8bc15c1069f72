"""How nodes are joined: rail-optimised, fat-tree and dragonfly networks between the ports of nodes.

Each function adds switches and links to a graph that holds the nodes. A link's latency is stated port to port across
one switch, so every edge of a way gets half of it.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from hw_models.spec import Link, System
from kernels.errors import InputError

if TYPE_CHECKING:
    import networkx as nx

Graph: TypeAlias = "nx.Graph[str]"
RATE, LATENCY = "link_byte_per_s", "latency_s"


def join(graph: Graph, a: str, b: str, byte_per_s: float, latency_s: float, kind: str) -> None:
    """One edge; `byte_per_s` is per direction."""
    graph.add_edge(a, b, **{RATE: byte_per_s, LATENCY: latency_s, "kind": kind})


def join_nodes(graph: Graph, system: System, radix: int, oversubscription: float) -> None:
    """Add the network of `system.node.network` made of switches with `radix` ports.

    `oversubscription`: rate that leaves hold towards nodes over the rate that they hold upwards; a dragonfly has none.
    """
    nic = system.node.nic
    assert nic is not None
    if radix < 4:
        raise InputError("out of range", field="radix", value=radix, allowed="4 or more")
    if oversubscription < 1:
        raise InputError("out of range", field="oversubscription", value=oversubscription, allowed="1 or more")
    if system.node.network == "dragonfly":
        if oversubscription != 1:
            raise InputError(
                "a dragonfly has no upward links", field="oversubscription", value=oversubscription, allowed="1"
            )
        _dragonfly(graph, system, nic, radix)
    else:
        down, num_nic = radix // 2, system.node.num_nic
        if system.node.network == "rail":
            _leaves(graph, system, nic, oversubscription, lambda node, port: f"leaf{port}.{node // down}")
        else:
            per_leaf = max(1, down // num_nic)
            _leaves(graph, system, nic, oversubscription, lambda node, port: f"leaf{node // per_leaf}")


def _ports(system: System) -> Iterator[tuple[int, int]]:
    return itertools.product(range(system.num_node), range(system.node.num_nic))


def _leaves(
    graph: Graph, system: System, nic: Link, oversubscription: float, leaf_of: Callable[[int, int], str]
) -> None:
    """Leaf switches and, where there are several, `spine`: one vertex for a non-blocking layer above them."""
    below: dict[str, float] = {}
    for node, port in _ports(system):
        leaf = leaf_of(node, port)
        if leaf not in below:
            graph.add_node(leaf, kind="leaf")
        below[leaf] = below.get(leaf, 0.0) + nic.byte_per_s
        join(graph, f"n{node}/nic{port}", leaf, nic.byte_per_s, nic.latency_s / 2, "nic")
    if len(below) > 1:
        graph.add_node("spine", kind="spine")
        for leaf, rate in below.items():
            join(graph, leaf, "spine", rate / oversubscription, nic.latency_s / 2, "network")


def dragonfly_shape(num_port: int, radix: int) -> tuple[int, int, int, int]:
    """(groups, routers a group, ports a router gives to nodes, links that join each pair of groups) of the balanced
    dragonfly: a group of 2h routers, joined each to each, with h ports to nodes and h to other groups each (Kim,
    Dally, Scott and Abts, "Technology-driven, highly-scalable dragonfly topology", ISCA 2008).

    >>> dragonfly_shape(10_000, 64)  # h = 16: groups of 32 routers and 512 ports; 512 global links over 19 others
    (20, 32, 16, 26)
    """
    h = (radix + 1) // 4  # h + h + 2h - 1 ports
    group = 2 * h * h
    if num_port <= group:
        return 1, -(-num_port // h), h, 0
    num_group = -(-num_port // group)
    if num_group > group + 1:
        raise InputError(
            f"switches of {radix} ports join {group * (group + 1)} ports at most", field="radix", value=radix
        )
    return num_group, 2 * h, h, group // (num_group - 1)


def _dragonfly(graph: Graph, system: System, nic: Link, radix: int) -> None:
    """Routers in groups joined each to each; global links spread evenly over the routers of a group. Ways follow
    least latency, that is minimal routing: at most one local, one global and one local link."""
    num_port = system.num_node * system.node.num_nic
    num_group, num_router, per_router, per_pair = dragonfly_shape(num_port, radix)
    half_s = nic.latency_s / 2
    for group in range(num_group):
        routers = [f"router{group}.{r}" for r in range(num_router)]
        graph.add_nodes_from(routers, kind="leaf")
        for a, b in itertools.combinations(routers, 2):
            join(graph, a, b, nic.byte_per_s, half_s, "network")
    for index, (node, port) in enumerate(_ports(system)):
        at = index // per_router
        router = f"router{at // num_router}.{at % num_router}"
        join(graph, f"n{node}/nic{port}", router, nic.byte_per_s, half_s, "nic")
    for low, high in itertools.combinations(range(num_group), 2):
        for link in range(per_pair):  # the k-th link of a group leaves from router k // h
            left = f"router{low}.{((high - 1) * per_pair + link) // per_router}"
            right = f"router{high}.{(low * per_pair + link) // per_router}"
            parallel = graph.edges[left, right][RATE] if graph.has_edge(left, right) else 0.0
            join(graph, left, right, parallel + nic.byte_per_s, half_s, "network")
