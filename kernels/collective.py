"""Time of a collective: the algorithms that a library has, and the fastest of them as its tuner picks.

Every algorithm is (launch) + (hops x latency of a hop) + (bytes through a device's link / bandwidth). Inside a
node a ring passes P - 1 pieces for a gather or a reduce-scatter and 2 (P - 1) for an all-reduce; each hop runs
in one of three protocols (LL, LL128, Simple) that trade latency for bandwidth. A switch that adds (NVLink SHARP)
moves (P + 1) / P of an all-reduce's bytes instead of 2 (P - 1) / P. The one-shot and two-shot all-reduce of
serving engines read their peers' memory directly, below a size. Over nodes an all-reduce is a flat ring, a
double binary tree over the nodes, or hierarchical: reduce-scatter inside, all-reduce of the pieces between,
all-gather inside.

Message sizes: the input of an all-reduce, reduce-scatter or all-to-all, the output of an all-gather, the bytes
sent point to point; all a device.
"""

import math

import numpy as np
import numpy.typing as npt

from kernels.jit import njit
from kernels.machine import LINK_BYTE_PER_S, LINK_LATENCY_S, LINK_OUT, LINK_UP, NUM_FIT
from kernels.optable import ALL_REDUCE, ALL_TO_ALL, BOUND_LATENCY, BOUND_LINK, P2P

Floats = npt.NDArray[np.float64]

COLLECTIVE_FIT: tuple[str, ...] = (
    "launch_s",  # start and end of the library's kernel on all devices
    "ll_hop_s",  # one hop inside a node in each protocol, on top of the link's own latency
    "ll128_hop_s",
    "simple_hop_s",
    "ll_eff",  # share of the link's bandwidth in each protocol
    "ll128_eff",
    "simple_eff",
    "ll128_max_byte",  # most that a device moves in LL or LL128: the tuner's switch to Simple
    "simple_s",  # Simple: filling its buffers
    "ramp_s",  # Simple: pieces too small to keep the pipeline full, the loss is sqrt(hops x ramp x bytes' time)
    "copy_ratio",  # moving a device's own piece, as link bytes
    "out_eff",  # share of the network's bandwidth between nodes
    "nvls_s",  # in-switch reduction: its launch
    "nvls_eff",  # and its share of the link's bandwidth; 0: the switch does not add
    "custom_s",  # direct all-reduce of serving engines: launch, a peer, one-shot and two-shot bandwidth
    "custom_peer_s",
    "custom_sync_s",  # second barrier of the two-shot kernel
    "one_shot_eff",
    "two_shot_eff",
    "custom_copy",  # two-shot: adding up a device's own share, as link bytes a byte
    "custom_max_byte",  # largest message that takes it among more than two devices; 0: never
    "custom_pair_max_byte",  # between two
    "host_s",  # eager dispatch that hides the kernel where no CUDA graph is used
    "host_copy",  # and the copy into a registered buffer, as link bytes a byte
)
(
    LAUNCH_S, LL_HOP_S, LL128_HOP_S, SIMPLE_HOP_S, LL_EFF, LL128_EFF, SIMPLE_EFF, LL128_MAX_BYTE, SIMPLE_S, RAMP_S,
    COPY_RATIO, OUT_EFF, NVLS_S, NVLS_EFF, CUSTOM_S, CUSTOM_PEER_S, CUSTOM_SYNC_S, ONE_SHOT_EFF, TWO_SHOT_EFF,
    CUSTOM_COPY, CUSTOM_MAX_BYTE, CUSTOM_PAIR_MAX_BYTE, HOST_S, HOST_COPY,
) = range(len(COLLECTIVE_FIT))  # fmt: skip

IDEAL_COLLECTIVE: tuple[float, ...] = (
    0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, math.inf, 0.0, 0.0,
    0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0,
    0.0, 0.0, 0.0, 0.0, 0.0,
)  # fmt: skip
assert len(COLLECTIVE_FIT) <= NUM_FIT

ALGORITHMS: tuple[str, ...] = ("ring", "direct", "nvls", "one_shot", "two_shot", "hierarchical", "tree")
RING, DIRECT, NVLS, ONE_SHOT, TWO_SHOT, HIERARCHICAL, TREE = range(len(ALGORITHMS))
NO_ALGORITHM, ANY = -1, -2
Parts = tuple[int, float, float, float]  # algorithm, seconds of launch and hops, of bytes inside and between nodes


@njit
def ring_byte(kind: int, message_byte: float, group_size: int) -> float:
    """Bytes that one device sends (and receives) in a ring, or directly for all-to-all and point to point.

    >>> ring_byte(ALL_REDUCE, 8.0, 4), ring_byte(ALL_TO_ALL, 8.0, 4), ring_byte(P2P, 8.0, 2)
    (12.0, 6.0, 8.0)
    """
    if kind == P2P:
        return message_byte
    share = (group_size - 1.0) / group_size
    return message_byte * share * (2.0 if kind == ALL_REDUCE else 1.0)


@njit
def num_hop(kind: int, group_size: int) -> int:
    """Steps that follow each other in a ring; the pieces of an all-to-all travel at the same time.

    >>> num_hop(ALL_REDUCE, 4), num_hop(ALL_TO_ALL, 4)
    (6, 1)
    """
    if kind in (P2P, ALL_TO_ALL):
        return 1
    return (2 if kind == ALL_REDUCE else 1) * (group_size - 1)


@njit
def collective_s(
    kind: int, link_byte: float, group_size: int, group_node: int, link: Floats, fit: Floats
) -> tuple[float, float, int]:
    """Seconds, speed-of-light seconds and bound of a collective of `group_size` devices spread evenly over
    `group_node` nodes; one device or no byte takes no time. `link` is `Machine.link`.

    >>> link = np.array([[2.0, 0.0, 8.0], [1.0, 0.0, 64.0], [1.0, 0.0, 1.0]]); fit = np.array(IDEAL_COLLECTIVE)
    >>> collective_s(ALL_REDUCE, 8.0, 4, 1, link, fit)  # 2 x 3/4 x 8 B at 2 B/s
    (6.0, 6.0, 3)
    >>> collective_s(ALL_REDUCE, 8.0, 4, 2, link, fit)  # ring over 2 x 1 B/s a node
    (6.0, 6.0, 3)
    """
    if group_size <= 1 or link_byte <= 0.0:
        return 0.0, 0.0, BOUND_LATENCY
    ideal_s = _ideal_s(kind, link_byte, group_size, group_node, link, fit)
    seconds = _total_s(collective_parts(kind, link_byte, group_size, group_node, link, fit, ANY))
    bound = BOUND_LINK if 2.0 * ideal_s >= seconds else BOUND_LATENCY
    if fit[HOST_S] > 0.0:
        seconds = max(fit[HOST_S], seconds + fit[HOST_COPY] * link_byte / link[LINK_UP, LINK_BYTE_PER_S])
    return seconds, ideal_s, bound


@njit
def collective_parts(
    kind: int, link_byte: float, group_size: int, group_node: int, link: Floats, fit: Floats, only: int
) -> Parts:
    """(algorithm, seconds of launch and hops, seconds of bytes inside nodes, seconds of bytes between nodes) of the
    fastest algorithm, or of `only` that one (not `ANY`; `NO_ALGORITHM` where it does not fit the collective).

    The two seconds of bytes follow each other in `HIERARCHICAL` and overlap in all others.
    """
    if group_node > 1:
        return _between(kind, link_byte, group_size, group_node, link, fit, only)
    return _inside(kind, link_byte, group_size, link, fit, only)


@njit
def _total_s(parts: Parts) -> float:
    algorithm, fixed_s, inside_s, between_s = parts
    return fixed_s + (inside_s + between_s if algorithm == HIERARCHICAL else max(inside_s, between_s))


@njit
def _faster(best: Parts, other: Parts, only: int) -> Parts:
    if only not in (ANY, other[0]) or (best[0] != NO_ALGORITHM and _total_s(best) <= _total_s(other)):
        return best
    return other


@njit
def _ideal_s(kind: int, message_byte: float, group_size: int, group_node: int, link: Floats, fit: Floats) -> float:
    """Seconds at the speed of the links, no latency."""
    up, out = link[LINK_UP, LINK_BYTE_PER_S], link[LINK_OUT, LINK_BYTE_PER_S]
    moved = ring_byte(kind, message_byte, group_size)
    if group_node <= 1:
        if (
            kind == ALL_REDUCE
            and fit[NVLS_EFF] > 0.0
            and group_size > 2
            and not _is_custom(message_byte, group_size, fit)
        ):
            return min(moved, message_byte * (group_size + 1.0) / group_size) / up
        return moved / up
    per_node = max(1, group_size // group_node)
    if kind == P2P:
        return message_byte / out
    if kind == ALL_TO_ALL:
        away, home = message_byte * (group_size - per_node), message_byte * (per_node - 1.0)
        return max(away / out, home / up) / group_size
    narrow = min(up, out * per_node) if per_node > 1 else out
    pieces_s = ring_byte(kind, message_byte, per_node) / up + ring_byte(kind, message_byte, group_node) / (
        out * per_node
    )
    return min(moved / narrow, pieces_s)


@njit
def _is_custom(message_byte: float, group_size: int, fit: Floats) -> bool:
    """Whether a serving engine's own all-reduce takes this message."""
    return message_byte <= (fit[CUSTOM_PAIR_MAX_BYTE] if group_size == 2 else fit[CUSTOM_MAX_BYTE])


@njit
def _inside(kind: int, message_byte: float, group_size: int, link: Floats, fit: Floats, only: int) -> Parts:
    """Inside a node."""
    bandwidth = link[LINK_UP, LINK_BYTE_PER_S]
    latency_s = link[LINK_UP, LINK_LATENCY_S]
    if kind == ALL_REDUCE and only in (ANY, ONE_SHOT, TWO_SHOT) and _is_custom(message_byte, group_size, fit):
        return _custom(message_byte, group_size, bandwidth, latency_s, fit)
    hop = num_hop(kind, group_size)
    byte_s = (ring_byte(kind, message_byte, group_size) + fit[COPY_RATIO] * message_byte / group_size) / bandwidth
    algorithm = DIRECT if kind in (P2P, ALL_TO_ALL) else RING
    best = (NO_ALGORITHM, 0.0, 0.0, 0.0)
    if ring_byte(kind, message_byte, group_size) <= fit[LL128_MAX_BYTE]:
        # all-to-all in LL: every peer has its channels, and they are what is narrow
        ll_byte_s = byte_s / fit[LL_EFF]
        if kind == ALL_TO_ALL:
            ll_byte_s = max(byte_s, ll_byte_s / (group_size - 1.0))
        fixed_s = fit[LAUNCH_S] + hop * (fit[LL_HOP_S] + latency_s)
        best = _faster(best, (algorithm, fixed_s, ll_byte_s, 0.0), only)
        fixed_s = fit[LAUNCH_S] + hop * (fit[LL128_HOP_S] + latency_s)
        best = _faster(best, (algorithm, fixed_s, byte_s / fit[LL128_EFF], 0.0), only)
    if best[0] == NO_ALGORITHM or math.isinf(fit[LL128_MAX_BYTE]):
        fixed_s = fit[LAUNCH_S] + fit[SIMPLE_S] + hop * (fit[SIMPLE_HOP_S] + latency_s)
        byte_s /= fit[SIMPLE_EFF]
        best = _faster(best, (algorithm, fixed_s, byte_s + math.sqrt(hop * fit[RAMP_S] * byte_s), 0.0), only)
    if kind == ALL_REDUCE and fit[NVLS_EFF] > 0.0 and group_size > 2:  # beside the ring, whichever is faster
        switch_s = message_byte * (group_size + 1.0) / group_size / bandwidth
        best = _faster(best, (NVLS, fit[NVLS_S] + 2.0 * latency_s, switch_s / fit[NVLS_EFF], 0.0), only)
    return best


@njit
def _custom(message_byte: float, group_size: int, bandwidth: float, latency_s: float, fit: Floats) -> Parts:
    """The direct all-reduce: one-shot (each device reads all of every peer) or two-shot (reads its share of every
    peer, then the results), by the sizes at which serving engines switch."""
    peer = group_size - 1.0
    start_s = fit[CUSTOM_S] + peer * fit[CUSTOM_PEER_S] + latency_s
    if group_size == 2 or message_byte < (524288.0 if group_size <= 4 else 262144.0):
        return ONE_SHOT, start_s, peer * message_byte / (bandwidth * fit[ONE_SHOT_EFF]), 0.0
    moved = (2.0 * peer + fit[CUSTOM_COPY]) / group_size * message_byte
    return TWO_SHOT, start_s + fit[CUSTOM_SYNC_S] + latency_s, moved / (bandwidth * fit[TWO_SHOT_EFF]), 0.0


@njit
def _between(
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
        return _faster(best, (DIRECT, launch_s + hop_out_s, 0.0, message_byte / out), only)
    if kind == ALL_TO_ALL:
        away = message_byte * (group_size - per_node) / group_size
        home = message_byte * (per_node - 1.0) / group_size
        return _faster(best, (DIRECT, launch_s + hop_out_s, home / up if home > 0.0 else 0.0, away / out), only)
    # flat ring: per_node rings leave and enter a node, each through its own port
    moved = ring_byte(kind, message_byte, group_size)
    hops, out_hops = num_hop(kind, group_size), num_hop(kind, group_node)
    fixed_s = launch_s + (hops - out_hops) * hop_up_s + out_hops * hop_out_s
    best = _faster(best, (RING, fixed_s, moved / up if per_node > 1 else 0.0, moved / out_node), only)
    # hierarchical: inside, then the pieces between nodes, one a device
    fixed_s = launch_s + num_hop(kind, per_node) * hop_up_s + out_hops * hop_out_s
    inside_s = ring_byte(kind, message_byte, per_node) / up if per_node > 1 else 0.0
    between_s = ring_byte(kind, message_byte, group_node) / out_node
    best = _faster(best, (HIERARCHICAL, fixed_s, inside_s, between_s), only)
    if kind == ALL_REDUCE:  # double binary tree over nodes: all bytes up and down
        depth = math.ceil(math.log2(group_node))
        fixed_s = launch_s + 2.0 * (depth * hop_out_s + (per_node - 1.0) * hop_up_s)
        inside_s = 2.0 * message_byte / up if per_node > 1 else 0.0
        best = _faster(best, (TREE, fixed_s, inside_s, 2.0 * message_byte / out_node), only)
    return best
