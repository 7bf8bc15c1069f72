"""Time of a collective: the algorithms that a library has, and the fastest of them as its tuner picks.

**The one door.** Serving, training, fabric and studies all ask

    collective_s(kind, message_byte, group_size, group_node, link, fit) -> (seconds, speed-of-light seconds, bound)

`kind`: ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER, ALL_TO_ALL or P2P of `kernels.optable`. `message_byte`: the input of an
all-reduce, reduce-scatter or all-to-all, the output of an all-gather, the bytes sent point to point; all a device.
`group_size` devices lie evenly on `group_node` nodes (`kernels.rank_layout` counts those of any parallel group, and
says which hop of a pipeline leaves its node: P2P is a group of 2 on 1 or 2 nodes). `link` is `Machine.link`, `fit` is
`Machine.fit[kind, format]`, `IDEAL_COLLECTIVE` at the speed of light. Jitted, O(1), monotone in bytes and in ranks.

Every algorithm is (launch) + (hops x latency of a hop) + (bytes through a device's link / bandwidth). Inside a
node a ring passes P - 1 pieces for a gather or a reduce-scatter and 2 (P - 1) for an all-reduce; each hop runs
in one of three protocols (LL, LL128, Simple) that trade latency for bandwidth, and the library's tuner picks one
by its own estimates, which are not the times (`protocol`). A message is spread over channels as it grows: a piece
below `LL_PART_BYTE` (`P2P_PART_BYTE` to a peer) stays on one channel and goes at that channel's rate, so that
times are flat until every channel has such a piece. Simple passes a piece on slice by slice: a hop waits for a
slice, a share of the piece until slices reach their largest. A switch that adds (NVLink SHARP) moves (P + 1) / P
of an all-reduce's bytes instead of 2 (P - 1) / P. Serving engines have direct all-reduces of their own below a
size (kernels/direct_reduce.py). Over nodes an all-reduce is a flat ring, a double binary tree over the nodes, or
hierarchical: reduce-scatter inside, all-reduce of the pieces between, all-gather inside.
"""

import math

import numpy as np
import numpy.typing as npt

from kernels.direct_reduce import (
    DIRECT_FIT,
    FIRST_DIRECT,
    IDEAL_DIRECT,
    ONE_SHOT,
    SWITCHED,
    direct_host_s,
    direct_parts,
    is_direct,
)
from kernels.jit import njit
from kernels.machine import LINK_BYTE_PER_S, LINK_LATENCY_S, LINK_OUT, LINK_UP, NUM_FIT
from kernels.optable import ALL_REDUCE, ALL_TO_ALL, BOUND_LATENCY, BOUND_LINK, P2P

Floats = npt.NDArray[np.float64]

COLLECTIVE_FIT: tuple[str, ...] = (
    "launch_s",  # start and end of the library's kernel on all devices
    "ll_hop_s",  # one hop inside a node in each protocol, on top of the link's own latency; or posting to one peer
    "ll128_hop_s",
    "simple_hop_s",
    "ll_eff",  # share of the link's bandwidth in each protocol, all channels busy
    "ll128_eff",
    "simple_eff",
    "tuner_ll_byte_per_s",  # the tuner's belief of what LL reaches on this generation; 0: it picks what is fastest
    "num_channel",  # over which a message is spread; 0: evenly at once (ideal)
    "simple_s",  # Simple: handshake of its buffers
    "fill_share",  # Simple: a slice as a share of the bytes a hop passes on, which the next hop waits for ...
    "fill_s",  # ... until slices are as large as they get
    "ll_copy",  # moving a device's own piece, as link bytes: in LL, and in the others
    "copy_ratio",
    "out_eff",  # share of the network's bandwidth between nodes
    "nvls_s",  # in-switch reduction: its launch
    "nvls_eff",  # and its share of the link's bandwidth; 0: the switch does not add
    *DIRECT_FIT,
    "host_s",  # eager dispatch that hides the kernel where no CUDA graph is used
    "host_copy",  # and the copy into a registered buffer, as link bytes a byte
)
(
    LAUNCH_S, LL_HOP_S, LL128_HOP_S, SIMPLE_HOP_S, LL_EFF, LL128_EFF, SIMPLE_EFF, TUNER_LL_BYTE_PER_S, NUM_CHANNEL,
    SIMPLE_S, FILL_SHARE, FILL_S, LL_COPY, COPY_RATIO, OUT_EFF, NVLS_S, NVLS_EFF,
) = range(FIRST_DIRECT)  # fmt: skip
HOST_S, HOST_COPY = range(len(COLLECTIVE_FIT) - 2, len(COLLECTIVE_FIT))

IDEAL_COLLECTIVE: tuple[float, ...] = (
    0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, *IDEAL_DIRECT, 0.0, 0.0,
)  # fmt: skip
assert COLLECTIVE_FIT[FIRST_DIRECT] == DIRECT_FIT[0]
assert len(IDEAL_COLLECTIVE) == len(COLLECTIVE_FIT) <= NUM_FIT

# What NCCL's tuner believes of rings on NVLink (its tuning model, src/graph/tuning.cc of the public source): seconds
# to start and a hop in each protocol, and the share of the ring's rate that LL and LL128 reach. The ring's rate is
# what its topology search settles for: 20 of 25 GB/s a link (A100), 360 of 450 GB/s in all (H100).
TUNER_START_S = (6.6e-6, 14e-6, 8.4e-6)  # LL, LL128, Simple
TUNER_HOP_S = (0.6e-6, 1.9e-6, 3.4e-6)
TUNER_SHARE = (0.5, 0.92, 1.0)
TUNER_RING = 0.8
LL_PART_BYTE = 4096.0  # a step's piece on one channel: 512 threads x 8 B
P2P_PART_BYTE = 65536.0  # least part of a message to a peer that is worth another channel: an eighth of a buffer

LL, LL128, SIMPLE = range(3)
ALGORITHMS: tuple[str, ...] = ("ring", "direct", "nvls", "one_shot", "two_shot", "switched", "hierarchical", "tree")
RING, DIRECT, NVLS = range(3)
HIERARCHICAL, TREE = range(SWITCHED + 1, len(ALGORITHMS))
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
        host_s = fit[HOST_S]
        if kind == ALL_REDUCE:
            host_s = max(host_s, direct_host_s(link_byte, group_size, fit))
        seconds = max(host_s, seconds + fit[HOST_COPY] * link_byte / link[LINK_UP, LINK_BYTE_PER_S])
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
        if kind == ALL_REDUCE and fit[NVLS_EFF] > 0.0 and group_size > 2:
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
def protocol(kind: int, message_byte: float, group_size: int, bandwidth: float, ll_byte_per_s: float) -> int:
    """The protocol that NCCL's tuner picks for a ring inside a node: the least of its own estimates, a start, hops
    and bytes. `ll_byte_per_s`: what it believes of LL on this generation of GPUs.

    >>> [protocol(ALL_REDUCE, 2.0**20, 2, up, ll) for up, ll in ((300e9, 87.7e9), (450e9, 141e9))]  # A100, H100
    [2, 0]
    """
    hop = num_hop(kind, group_size)
    best, best_s = SIMPLE, math.inf
    for i in range(len(TUNER_START_S)):
        byte_per_s = TUNER_RING * bandwidth * TUNER_SHARE[i]
        if i == LL:
            byte_per_s = min(byte_per_s, ll_byte_per_s)
        seconds = TUNER_START_S[i] + hop * TUNER_HOP_S[i] + message_byte * hop / (group_size * byte_per_s)
        if seconds < best_s:
            best, best_s = i, seconds
    return best


@njit
def _crowding(part_byte: float, full_byte: float, num_channel: float) -> float:
    """How many times longer bytes take because parts below `full_byte` stay on one of the channels; 1 or more."""
    return max(1.0, min(num_channel, num_channel * full_byte / part_byte))


@njit
def _inside(kind: int, message_byte: float, group_size: int, link: Floats, fit: Floats, only: int) -> Parts:
    """Inside a node."""
    bandwidth = link[LINK_UP, LINK_BYTE_PER_S]
    latency_s = link[LINK_UP, LINK_LATENCY_S]
    if (
        kind == ALL_REDUCE
        and (only == ANY or ONE_SHOT <= only <= SWITCHED)
        and is_direct(message_byte, group_size, fit)
    ):
        algorithm, fixed_s, direct_byte_s = direct_parts(message_byte, group_size, bandwidth, latency_s, fit)
        return _faster((NO_ALGORITHM, 0.0, 0.0, 0.0), (algorithm, fixed_s, direct_byte_s, 0.0), only)
    to_peer = kind in (P2P, ALL_TO_ALL)
    hop = num_hop(kind, group_size)
    part = message_byte if kind == P2P else message_byte / group_size  # of a step, or to a peer
    moved = ring_byte(kind, message_byte, group_size)
    byte_s = (moved + fit[COPY_RATIO] * message_byte / group_size) / bandwidth
    start_s = fit[LAUNCH_S] + ((group_size - 1.0) * fit[LL_HOP_S] if to_peer else 0.0)  # to peers: posting each
    algorithm = DIRECT if to_peer else RING
    best = (NO_ALGORITHM, 0.0, 0.0, 0.0)
    pick = -1
    if fit[TUNER_LL_BYTE_PER_S] > 0.0 and not to_peer:
        pick = protocol(kind, message_byte, group_size, bandwidth, fit[TUNER_LL_BYTE_PER_S])
    if pick in (-1, LL):
        fixed_s = start_s + hop * (latency_s + (0.0 if to_peer else fit[LL_HOP_S]))
        if to_peer:  # one channel a peer
            ll_byte_s = max(byte_s, part * max(1.0, fit[NUM_CHANNEL]) / (bandwidth * fit[LL_EFF]))
        else:
            ll_byte_s = (moved + fit[LL_COPY] * part) / bandwidth / fit[LL_EFF]
            # below a whole part a channel has fewer threads, which have less to wait for each other
            share = min(1.0, part / LL_PART_BYTE)
            ll_byte_s *= max(1.0, _crowding(part, LL_PART_BYTE, fit[NUM_CHANNEL]) * share)
        best = _faster(best, (algorithm, fixed_s, ll_byte_s, 0.0), only)
    if pick == LL128 or (pick == -1 and not to_peer):
        fixed_s = start_s + hop * (fit[LL128_HOP_S] + latency_s)
        best = _faster(best, (algorithm, fixed_s, byte_s / fit[LL128_EFF], 0.0), only)
    if pick in (-1, SIMPLE):
        fixed_s = start_s + fit[SIMPLE_S] + hop * (fit[SIMPLE_HOP_S] + latency_s)
        simple_byte_s = byte_s / fit[SIMPLE_EFF]
        if to_peer:  # peers divide the channels
            channel = fit[NUM_CHANNEL] / (group_size - 1.0 if kind == ALL_TO_ALL else 1.0)
            simple_byte_s *= _crowding(part, P2P_PART_BYTE, channel)
        simple_byte_s += min(fit[FILL_SHARE] * simple_byte_s, hop * fit[FILL_S])
        best = _faster(best, (algorithm, fixed_s, simple_byte_s, 0.0), only)
    if kind == ALL_REDUCE and fit[NVLS_EFF] > 0.0 and group_size > 2:  # beside the ring, whichever is faster
        switch_s = message_byte * (group_size + 1.0) / group_size / bandwidth
        best = _faster(best, (NVLS, fit[NVLS_S] + 2.0 * latency_s, switch_s / fit[NVLS_EFF], 0.0), only)
    return best


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
