"""Collectives over nodes: flat rings, double trees, trees under switches that add, hierarchical ones, peers.

A node's ports work side by side: each of its `p` devices of the group has a share of them. The library's algorithms run
in the protocols of `kernels.collective_inside`; between nodes a hop goes through the network's proxy thread, which
costs more than the wire, and trees reach their bandwidth late, because chunks fill a pipeline up and down the tree.
Nothing of that was measured here: hops, shares and the trees' slow middle are those that NCCL's own tuner reckons with
(its public source, src/graph/tuning.cc, later src/tuning), taken as times. `net_hop` 0 leaves the link's latency alone.

======================  ====================================  ======================================================
algorithm               hops                                  bytes of a device inside; of a node between
======================  ====================================  ======================================================
ring                    P - 1 (all-reduce twice), of which    the ring's; the ring's once a node
                        N - 1 between nodes
tree (all-reduce)       2 (p - 1 inside, log2 N between)      2 S; S of two nodes, else 2 S
nvls_tree (all-reduce)  2 log2 N between                      (p + 1) / p S in the switch; as the tree
hierarchical            rings: inside, between, inside        the rings' of p; the rings' of N, one after the other
======================  ====================================  ======================================================
"""

import math

from kernels.collective_layout import (
    ANY,
    DIRECT,
    HIERARCHICAL,
    LAUNCH_S,
    LL,
    LL128_EFF,
    LL128_HOP_S,
    LL_EFF,
    LL_HOP_S,
    NET_HOP,
    NO_ALGORITHM,
    NVLS_EFF,
    NVLS_S,
    NVLS_TREE,
    OUT_EFF,
    RING,
    SIMPLE,
    SIMPLE_EFF,
    SIMPLE_HOP_S,
    SIMPLE_S,
    TREE,
    TUNER_LL_BYTE_PER_S,
    Floats,
    Parts,
    faster,
    flat_ring,
    num_hop,
    peer_hop,
    ring_byte,
    ring_step,
)
from kernels.jit import njit
from kernels.machine import LINK_BYTE_PER_S, LINK_LATENCY_S, LINK_OUT, LINK_UP
from kernels.optable import ALL_REDUCE, ALL_TO_ALL, P2P

# LL, LL128, Simple; seconds a hop and shares of the ring's bandwidth
RING_NET_S = (2.7e-6, 4.0e-6, 14e-6)  # hwLatencies, NET, ring
TREE_NET_S = (5.0e-6, 8.5e-6, 14e-6)  # NET, tree
TREE_UP_S = (0.6e-6, 1.25e-6, 4.0e-6)  # NVLINK, tree
NVLS_TREE_NET_S = 20.9e-6  # NET, NVLS tree
RING_UP_S = (1e-6, 1.9e-6, 3.4e-6)  # NVLINK, ring; 1 us at least: every step of a ring over nodes has its proxy's
START_S = (6.6e-6, 14e-6, 8.4e-6)  # baseLatencies
PLATEAU = 1.4  # latency of a Simple all-reduce ring over nodes
RING_SHARE = (0.5, 0.92, 1.0)
TREE_SHARE = (0.92 / 3.8, 0.92 * 120.0 / 128.0, 0.92)
LL_NET = 0.25  # what LL reaches over nodes, of what it reaches in one (llMaxBws: 0.22 to 0.32)
# treeCorrectionFactor: share of its bandwidth that a tree reaches at 64 B, 128 B, ... 512 MiB
TREE_RAMP = (
    (1.0, 1.0, 1.0, 1.0, 0.9, 0.8, 0.7, 0.7, 0.7, 0.7, 0.6, 0.5, 0.4, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.0, 1.0,
     1.0, 1.0),
    (1.0, 1.0, 1.0, 1.0, 1.0, 0.9, 0.8, 0.8, 0.8, 0.7, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.8, 0.9, 0.9, 0.9, 0.9, 1.0,
     1.0, 1.0),
    (0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.8, 0.7, 0.6, 0.6, 0.5, 0.5, 0.5, 0.5, 0.6, 0.7, 0.8, 0.7, 0.7, 0.8, 0.9,
     0.9, 0.9),
)  # fmt: skip


@njit
def tree_ramp(protocol: int, message_byte: float) -> float:
    """Share of its bandwidth that a tree reaches with this message; between powers of two as their logarithm goes, so
    that time grows with every byte.

    >>> tree_ramp(SIMPLE, 2.0**20), round(tree_ramp(SIMPLE, 2.0**20.5), 3), tree_ramp(SIMPLE, 2.0**40)
    (0.5, 0.55, 0.9)
    """
    row = TREE_RAMP[protocol]
    place = min(max(math.log2(message_byte / 64.0), 0.0), len(row) - 1.0)
    low = min(int(place), len(row) - 2)
    return row[low] + (place - low) * (row[low + 1] - row[low])


@njit
def between_parts(
    kind: int, message_byte: float, group_size: int, group_node: int, link: Floats, fit: Floats, only: int
) -> Parts:
    """The fastest algorithm over nodes, or `only` that one; as `kernels.collective.collective_parts`.

    Of a library that picks by a tuner (NCCL) the hierarchical one has to be asked for: it has none.
    """
    best = (NO_ALGORITHM, 0.0, 0.0, 0.0)
    if kind in (P2P, ALL_TO_ALL):
        return _peers(kind, message_byte, group_size, group_node, link, fit, only)
    for protocol in range(SIMPLE + 1):
        best = faster(best, _ring(kind, message_byte, group_size, group_node, link, fit, protocol), only)
        if kind == ALL_REDUCE:
            best = faster(best, _tree(message_byte, group_size, group_node, link, fit, protocol), only)
    per_node = max(1, group_size // group_node)
    if kind == ALL_REDUCE and fit[NVLS_EFF] > 0.0 and per_node > 2:
        best = faster(best, _nvls_tree(message_byte, per_node, group_node, link, fit), only)
    if fit[TUNER_LL_BYTE_PER_S] <= 0.0 or only != ANY:
        best = faster(best, _hierarchical(kind, message_byte, per_node, group_node, link, fit), only)
    return best


@njit
def _hop_s(protocol: int, fit: Floats) -> float:
    """A hop's share in the protocol, on top of a link's latency."""
    if protocol == LL:
        return fit[LL_HOP_S]
    return fit[SIMPLE_HOP_S] if protocol == SIMPLE else fit[LL128_HOP_S]


@njit
def _inside_rate(protocol: int, link: Floats, fit: Floats) -> float:
    """Bytes a second of a device's links inside its node in the protocol."""
    share = fit[LL_EFF] if protocol == LL else fit[SIMPLE_EFF] if protocol == SIMPLE else fit[LL128_EFF]
    return link[LINK_UP, LINK_BYTE_PER_S] * share  # of a whole node's devices; `crowd` was met in one node alone


@njit
def _outside_rate(protocol: int, share: float, per_node: int, link: Floats, fit: Floats) -> float:
    """Bytes a second of a node's ports together in the protocol, of which the library reaches `share`."""
    rate = link[LINK_OUT, LINK_BYTE_PER_S] * fit[OUT_EFF] * per_node
    if fit[NET_HOP] <= 0.0:
        return rate
    rate *= share
    if protocol == LL and fit[TUNER_LL_BYTE_PER_S] > 0.0:
        rate = min(rate, LL_NET * fit[TUNER_LL_BYTE_PER_S])
    return rate


@njit
def _start_s(protocol: int, fit: Floats) -> float:
    """Start and end of the kernel, and Simple's handshake."""
    return max(fit[LAUNCH_S] + (fit[SIMPLE_S] if protocol == SIMPLE else 0.0), fit[NET_HOP] * START_S[protocol])


@njit
def _ring(
    kind: int, message_byte: float, group_size: int, group_node: int, link: Floats, fit: Floats, protocol: int
) -> Parts:
    """A flat ring: `per_node` rings leave and enter a node, each through its own port."""
    hop_s, net = _hop_s(protocol, fit), fit[NET_HOP]
    up_s = ring_step(link) * max(link[LINK_UP, LINK_LATENCY_S] + hop_s, net * RING_UP_S[protocol])
    out_s = max(link[LINK_OUT, LINK_LATENCY_S] + hop_s, net * RING_NET_S[protocol])
    out = _outside_rate(protocol, RING_SHARE[protocol], max(1, group_size // group_node), link, fit)
    hops_s, inside_s, between_s = flat_ring(
        kind, message_byte, group_size, group_node, up_s, out_s, _inside_rate(protocol, link, fit), out
    )
    if kind == ALL_REDUCE and protocol == SIMPLE and net > 0.0:
        hops_s *= PLATEAU
    return RING, _start_s(protocol, fit) + hops_s, inside_s, between_s


@njit
def _tree(message_byte: float, group_size: int, group_node: int, link: Floats, fit: Floats, protocol: int) -> Parts:
    """Two binary trees over the nodes, half of the bytes each, and a chain inside every node: up and down."""
    per_node = max(1, group_size // group_node)
    hop_s, net = _hop_s(protocol, fit), fit[NET_HOP]
    up_s = max(link[LINK_UP, LINK_LATENCY_S] + hop_s, net * TREE_UP_S[protocol])
    out_s = max(link[LINK_OUT, LINK_LATENCY_S] + hop_s, net * TREE_NET_S[protocol])
    fixed_s = _start_s(protocol, fit) + 2.0 * ((per_node - 1.0) * ring_step(link) * up_s + _depth(group_node) * out_s)
    ramp = tree_ramp(protocol, message_byte) if net > 0.0 else 1.0
    inside_s = 2.0 * message_byte / _inside_rate(protocol, link, fit) if per_node > 1 else 0.0
    between_s = _tree_byte(message_byte, group_node) / _outside_rate(
        protocol, TREE_SHARE[protocol], per_node, link, fit
    )
    return TREE, fixed_s, inside_s / ramp, between_s / ramp


@njit
def _nvls_tree(message_byte: float, per_node: int, group_node: int, link: Floats, fit: Floats) -> Parts:
    """The switch adds inside each node, a double tree adds over nodes, the switch multicasts; in a pipeline."""
    out_s = max(link[LINK_OUT, LINK_LATENCY_S], fit[NET_HOP] * NVLS_TREE_NET_S)
    fixed_s = fit[NVLS_S] + 2.0 * (link[LINK_UP, LINK_LATENCY_S] + _depth(group_node) * out_s)
    inside_s = message_byte * (per_node + 1.0) / per_node / (link[LINK_UP, LINK_BYTE_PER_S] * fit[NVLS_EFF])
    between_s = _tree_byte(message_byte, group_node) / _outside_rate(SIMPLE, TREE_SHARE[SIMPLE], per_node, link, fit)
    return NVLS_TREE, fixed_s, inside_s, between_s


@njit
def _depth(group_node: int) -> float:
    return float(math.ceil(math.log2(group_node)))


@njit
def _tree_byte(message_byte: float, group_node: int) -> float:
    """Bytes out of a node that is inner in one tree and a leaf in the other; two nodes have one edge in each."""
    return message_byte * (1.0 if group_node == 2 else 2.0)


@njit
def _hierarchical(kind: int, message_byte: float, per_node: int, group_node: int, link: Floats, fit: Floats) -> Parts:
    """Rings inside, then the pieces between nodes, one a device (an all-reduce: and rings inside again)."""
    up_s = link[LINK_UP, LINK_LATENCY_S] + fit[SIMPLE_HOP_S]
    out_s = max(link[LINK_OUT, LINK_LATENCY_S] + fit[SIMPLE_HOP_S], fit[NET_HOP] * RING_NET_S[SIMPLE])
    hops_s = num_hop(kind, per_node) * ring_step(link) * up_s + num_hop(kind, group_node) * out_s
    inside_s = ring_byte(kind, message_byte, per_node) / _inside_rate(SIMPLE, link, fit) if per_node > 1 else 0.0
    between_s = ring_byte(kind, message_byte, group_node) / _outside_rate(SIMPLE, 1.0, per_node, link, fit)
    return HIERARCHICAL, _start_s(SIMPLE, fit) + hops_s, inside_s, between_s


@njit
def _peers(
    kind: int, message_byte: float, group_size: int, group_node: int, link: Floats, fit: Floats, only: int
) -> Parts:
    """To one peer on another node, or to all: what stays in the node over its links, the rest through the own port."""
    per_node = max(1, group_size // group_node)
    away, home = message_byte, 0.0
    if kind == ALL_TO_ALL:
        away = message_byte * (group_size - per_node) / group_size
        home = message_byte * (per_node - 1.0) / group_size
    best = (NO_ALGORITHM, 0.0, 0.0, 0.0)
    for protocol in (LL, SIMPLE):
        hop_s = 0.0 if protocol == LL else fit[SIMPLE_HOP_S]
        out_s = max(link[LINK_OUT, LINK_LATENCY_S] + hop_s, fit[NET_HOP] * RING_NET_S[protocol])
        fixed_s = _start_s(protocol, fit) + (group_size - 1.0) * fit[LL_HOP_S] + out_s
        inside_s = home * peer_hop(link) / _inside_rate(protocol, link, fit) if home > 0.0 else 0.0
        between_s = away / _outside_rate(protocol, RING_SHARE[protocol], 1, link, fit)
        best = faster(best, (DIRECT, fixed_s, inside_s, between_s), only)
    return best
