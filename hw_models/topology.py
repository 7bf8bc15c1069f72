"""Who is linked to whom: a node or a system as a networkx graph, and the alpha-beta link rows derived from it.

Vertices carry `kind` (device, switch, pcie, host, memory, nic, leaf, spine); edges carry `link_byte_per_s` (per
direction), `latency_s` (one way) and `kind` (scale_up, host, socket, memory, nic, network). A link whose latency
is stated port to port across a switch gives half of it to each of the two edges.
"""

import itertools
import math

import networkx as nx
import numpy as np

from hw_models.network import LATENCY, RATE, Graph, join, join_nodes
from hw_models.spec import Node, System
from hw_models.torus import box, peer_hop, ring_step
from kernels.errors import InputError
from kernels.machine import LINK_FIELDS, LINK_HOST, LINK_OUT, LINK_PEER_HOP, LINK_RING_STEP, LINK_UP, LINKS, Floats


def link_rows(system: System, group_size: int | None = None) -> Floats:
    """Rows `[len(LINKS), len(LINK_FIELDS)]` of `kernels.machine.Machine`, for groups of `group_size` devices inside
    a node (all of a node where not given).

    `scale_up`: what a device sends into its group and the largest latency between neighbours (and what
    a torus changes: `hw_models.torus`). `scale_out`: a
    device's share of its node's network ports when all of its devices send; zero without a port. `host`: a device's
    own link to its host; `num_device` devices share the way there.

    >>> from hw_models import catalog
    >>> [round(float(row[0]) / 1e9, 1) for row in link_rows(catalog.system("dgx_h100"))]
    [450.0, 50.0, 63.0]
    """
    node = system.node
    size = node.num_device if group_size is None else min(group_size, node.num_device)
    if size < 1:
        raise InputError("out of range", field="group_size", value=group_size, allowed="1 or more")
    rows = np.zeros((len(LINKS), len(LINK_FIELDS)))
    graph = node_graph(node)
    group = [device_name(0, i) for i in range(size)]
    if size > 1:
        rows[LINK_UP] = group_byte_per_s(graph, group), group_latency_s(graph, group), size, 1.0, 1.0
        sides = box(node.dims, size) if node.fabric == "torus" else None
        if sides is not None:
            rows[LINK_UP, LINK_RING_STEP] = ring_step(sides)
            rows[LINK_UP, LINK_PEER_HOP] = peer_hop(node.dims, sides, node.wrap)
    host_latency_s = node.host_link.latency_s if node.host_link else 0.0
    host_byte_per_s = node.host_link.byte_per_s if node.host_link else node.host_mem_byte_per_s
    if node.nic is not None:
        share = node.nic.byte_per_s * node.num_nic / node.num_device
        latency_s = node.nic.latency_s + 2 * host_latency_s  # device to port, port to port, port to device
        rows[LINK_OUT] = min(share, host_byte_per_s), latency_s, system.num_device, 1.0, 1.0
    sharing = node.num_device / (node.num_pcie_switch or node.num_device)
    rows[LINK_HOST] = host_byte_per_s, host_latency_s, sharing, 1.0, 1.0
    return rows


def device_name(node: int, device: int) -> str:
    """The vertex of a device."""
    return f"n{node}/device{device}"


def node_graph(node: Node, index: int = 0) -> Graph:
    """One node: its devices, scale-up fabric, PCIe tree, sockets, host memory and network ports."""
    graph: Graph = nx.Graph()
    devices = [device_name(index, i) for i in range(node.num_device)]
    graph.add_nodes_from(devices, kind="device")
    _add_fabric(graph, node, devices, index)
    _add_host(graph, node, devices, index)
    return graph


def _add_fabric(graph: Graph, node: Node, devices: list[str], index: int) -> None:
    link = node.scale_up
    if link is None:
        return
    rate = node.device.num_link * link.byte_per_s
    if node.fabric == "switch":
        switch = f"n{index}/switch"
        graph.add_node(switch, kind="switch")
        for device in devices:
            join(graph, device, switch, rate, link.latency_s / 2, "scale_up")
    elif node.fabric == "mesh":
        for a, b in itertools.combinations(devices, 2):
            join(graph, a, b, rate / (len(devices) - 1), link.latency_s, "scale_up")
    elif node.fabric == "pairs":
        for a, b in zip(devices[::2], devices[1::2], strict=True):
            join(graph, a, b, rate, link.latency_s, "scale_up")
    else:
        _add_torus(graph, node, devices, rate / (2 * len(node.dims)), link.latency_s)


def _add_torus(graph: Graph, node: Node, devices: list[str], rate: float, latency_s: float) -> None:
    """Device `i` sits at the row-major coordinates of `dims`, the last axis running fastest. An axis of two that
    wraps joins its two devices by two links."""
    places = list(itertools.product(*(range(side) for side in node.dims)))
    at = dict(zip(places, devices, strict=True))
    for place in places:
        for axis, side in enumerate(node.dims):
            step = place[axis] + 1
            if side == 1 or (step == side and not node.wrap):
                continue
            other = at[(*place[:axis], step % side, *place[axis + 1 :])]
            twice = graph.has_edge(at[place], other)
            join(graph, at[place], other, rate * (2 if twice else 1), latency_s, "scale_up")


def _add_host(graph: Graph, node: Node, devices: list[str], index: int) -> None:
    sockets = [f"n{index}/host{s}" for s in range(node.num_socket)]
    graph.add_nodes_from(sockets, kind="host")
    for s, socket in enumerate(sockets):
        graph.add_node(f"n{index}/memory{s}", kind="memory")
        join(graph, socket, f"n{index}/memory{s}", node.host_mem_byte_per_s / node.num_socket, 0.0, "memory")
    for a, b in itertools.combinations(sockets, 2):
        join(graph, a, b, node.socket_byte_per_s, 0.0, "socket")
    rate, latency_s = (
        (node.host_link.byte_per_s, node.host_link.latency_s) if node.host_link else (node.host_mem_byte_per_s, 0.0)
    )
    holders = sockets
    if node.num_pcie_switch:
        holders = [f"n{index}/pcie{s}" for s in range(node.num_pcie_switch)]
        graph.add_nodes_from(holders, kind="pcie")
        for s, holder in enumerate(holders):
            join(graph, holder, sockets[s * len(sockets) // len(holders)], rate, latency_s / 2, "host")
    half_s = latency_s / 2
    for i, device in enumerate(devices):
        join(graph, device, holders[i * len(holders) // len(devices)], rate, half_s, "host")
    for i in range(node.num_nic):
        nic = f"n{index}/nic{i}"
        graph.add_node(nic, kind="nic")
        join(graph, nic, holders[i * len(holders) // node.num_nic], rate, half_s, "host")


def system_graph(system: System, *, radix: int = 64, oversubscription: float = 1.0) -> Graph:
    """All nodes and the network between them, of switches with `radix` ports.

    `rail`: port `j` of every node goes to the leaf switches of rail `j`; `fat_tree`: all ports of a node go to one
    leaf. A leaf gives half of its ports to nodes; the other half, less `oversubscription`, goes up to `spine`, one
    vertex that stands for a non-blocking layer of switches (and is absent where one leaf holds all). `dragonfly`:
    groups of routers joined each to each, and groups joined each to each.
    """
    graph: Graph = nx.Graph()
    for index in range(system.num_node):
        graph.update(node_graph(system.node, index))
    if system.node.nic is not None:
        join_nodes(graph, system, radix, oversubscription)
    elif system.num_node > 1:
        raise InputError("no network port between its nodes", file=system.node.file, field="nic", value="")
    return graph


def path(graph: Graph, a: str, b: str) -> list[tuple[str, str]]:
    """The edges of the way of least latency from `a` to `b`: over the scale-up fabric where that joins them, else
    over everything."""
    ways = [graph]
    if a.partition("/")[0] == b.partition("/")[0]:  # in one node
        ways.insert(0, nx.subgraph_view(graph, filter_edge=lambda c, d: graph.edges[c, d]["kind"] == "scale_up"))
    for way in ways:
        try:
            return list(itertools.pairwise(nx.shortest_path(way, a, b, weight=LATENCY)))
        except nx.NetworkXNoPath:
            continue
    raise InputError(f"no way from {a} to {b}", field="fabric", value="none")


def path_byte_per_s(graph: Graph, a: str, b: str) -> float:
    """Rate of the narrowest edge on the way from `a` to `b`, alone on it."""
    return float(min(graph.edges[edge][RATE] for edge in path(graph, a, b)))


def path_latency_s(graph: Graph, a: str, b: str) -> float:
    """Sum of one-way latencies from `a` to `b`."""
    return float(sum(graph.edges[edge][LATENCY] for edge in path(graph, a, b)))


def bisection_byte_per_s(graph: Graph, devices: list[str], kind: str = "") -> float:
    """Per direction, from the first half of `devices` to the second: a maximum flow, so every way counts (or every
    way over edges of one `kind`)."""
    if len(devices) < 2:
        raise InputError("a bisection needs two devices", field="devices", value=len(devices), allowed="2 or more")
    flow: Graph = nx.Graph()
    flow.add_edges_from((a, b, data) for a, b, data in graph.edges(data=True) if kind in ("", data["kind"]))
    half = len(devices) // 2
    for end, members in (("half:a", devices[:half]), ("half:b", devices[half:])):
        for member in members:
            flow.add_edge(end, member)  # without a capacity: unlimited
    return float(nx.maximum_flow_value(flow, "half:a", "half:b", capacity=RATE))


def group_byte_per_s(graph: Graph, group: list[str]) -> float:
    """What each device of `group` sends to the others in a collective, per direction, all sending at once.

    Behind one switch: the device's links to it. Linked directly (pair, mesh, torus): the sum of a device's links
    inside the group, the least over devices, which collectives that use all links reach. Else one ring in the order
    given over least-latency ways, where each edge is shared by the hops that cross it.
    """
    if len(group) < 2:
        return math.inf
    shared = set.intersection(*(set(graph[device]) for device in group))
    behind = [v for v in shared if graph.nodes[v]["kind"] == "switch"]
    if behind:
        return float(min(graph.edges[device, behind[0]][RATE] for device in group))
    direct = direct_links(graph, group)
    if direct is not None:
        return float(min(sum(direct.edges[edge][RATE] for edge in direct.edges(device)) for device in group))
    used: dict[tuple[str, str], int] = {}
    for a, b in itertools.pairwise([*group, group[0]]):
        for edge in path(graph, a, b):
            used[edge] = used.get(edge, 0) + 1
    return float(min(graph.edges[edge][RATE] / count for edge, count in used.items()))


def group_latency_s(graph: Graph, group: list[str]) -> float:
    """One hop of a collective in `group`: the largest latency of a direct link inside it, else of the ways between
    neighbours of the ring in the order given."""
    if len(group) < 2:
        return 0.0
    direct = direct_links(graph, group)
    if direct is not None:
        return float(max(data[LATENCY] for *_, data in direct.edges(data=True)))
    return max(path_latency_s(graph, a, b) for a, b in itertools.pairwise([*group, group[0]]))


def direct_links(graph: Graph, group: list[str]) -> "Graph | None":
    """The scale-up links inside a group, where they join all of it without a switch."""
    direct: Graph = nx.Graph()
    inside = graph.subgraph(group).edges(data=True)
    direct.add_edges_from((a, b, data) for a, b, data in inside if data["kind"] == "scale_up")
    return direct if set(direct) == set(group) and nx.is_connected(direct) else None
