"""Collectives over nodes: flat rings, a tree over the nodes, hierarchical ones, and messages to peers."""

import math

from kernels.collective_layout import (
    DIRECT,
    HIERARCHICAL,
    LAUNCH_S,
    NO_ALGORITHM,
    OUT_EFF,
    RING,
    SIMPLE_EFF,
    SIMPLE_HOP_S,
    TREE,
    Floats,
    Parts,
    faster,
    num_hop,
    ring_byte,
)
from kernels.jit import njit
from kernels.machine import LINK_BYTE_PER_S, LINK_LATENCY_S, LINK_OUT, LINK_UP
from kernels.optable import ALL_REDUCE, ALL_TO_ALL, P2P


@njit
def between_parts(
    kind: int, message_byte: float, group_size: int, group_node: int, link: Floats, fit: Floats, only: int
) -> Parts:
    """Over nodes; every device has its own network port."""
    launch_s = fit[LAUNCH_S]
    hop_up_s = link[LINK_UP, LINK_LATENCY_S] + fit[SIMPLE_HOP_S]
    hop_out_s = link[LINK_OUT, LINK_LATENCY_S] + fit[SIMPLE_HOP_S]
    per_node = max(1, group_size // group_node)
    out = link[LINK_OUT, LINK_BYTE_PER_S] * fit[OUT_EFF]
    out_node = out * per_node  # one node's ports together
    up = link[LINK_UP, LINK_BYTE_PER_S] * fit[SIMPLE_EFF]
    best = (NO_ALGORITHM, 0.0, 0.0, 0.0)
    if kind == P2P:
        return faster(best, (DIRECT, launch_s + hop_out_s, 0.0, message_byte / out), only)
    if kind == ALL_TO_ALL:
        away = message_byte * (group_size - per_node) / group_size
        home = message_byte * (per_node - 1.0) / group_size
        return faster(best, (DIRECT, launch_s + hop_out_s, home / up if home > 0.0 else 0.0, away / out), only)
    # flat ring: per_node rings leave and enter a node, each through its own port
    moved = ring_byte(kind, message_byte, group_size)
    hops, out_hops = num_hop(kind, group_size), num_hop(kind, group_node)
    fixed_s = launch_s + (hops - out_hops) * hop_up_s + out_hops * hop_out_s
    best = faster(best, (RING, fixed_s, moved / up if per_node > 1 else 0.0, moved / out_node), only)
    # hierarchical: inside, then the pieces between nodes, one a device
    fixed_s = launch_s + num_hop(kind, per_node) * hop_up_s + out_hops * hop_out_s
    inside_s = ring_byte(kind, message_byte, per_node) / up if per_node > 1 else 0.0
    between_s = ring_byte(kind, message_byte, group_node) / out_node
    best = faster(best, (HIERARCHICAL, fixed_s, inside_s, between_s), only)
    if kind == ALL_REDUCE:  # double binary tree over nodes: all bytes up and down
        depth = math.ceil(math.log2(group_node))
        fixed_s = launch_s + 2.0 * (depth * hop_out_s + (per_node - 1.0) * hop_up_s)
        inside_s = 2.0 * message_byte / up if per_node > 1 else 0.0
        best = faster(best, (TREE, fixed_s, inside_s, 2.0 * message_byte / out_node), only)
    return best
