"""Collectives inside a node: rings in three protocols, messages to peers, the switch that adds.

A ring passes P - 1 pieces for a gather or a reduce-scatter and 2 (P - 1) for an all-reduce; each hop runs in one of
three protocols (LL, LL128, Simple) that trade latency for bandwidth, and the library's tuner picks one by its own
estimates, which are not the times (`protocol`). A message is spread over channels as it grows: a piece below
`LL_PART_BYTE` (`P2P_PART_BYTE` to a peer) stays on one channel and goes at that channel's rate, so that times are flat
until every channel has such a piece. Simple passes a piece on slice by slice: a hop waits for a slice, a share of the
piece until slices reach their largest. A switch that adds (NVLink SHARP) moves (P + 1) / P of an all-reduce's bytes
instead of 2 (P - 1) / P. Serving engines have direct all-reduces of their own below a size (kernels/direct_reduce.py).
"""

import math

from kernels.collective_layout import (
    ANY,
    COPY_RATIO,
    CROWD,
    DIRECT,
    FILL_S,
    FILL_SHARE,
    LAUNCH_S,
    LL,
    LL128,
    LL128_EFF,
    LL128_HOP_S,
    LL_COPY,
    LL_EFF,
    LL_HOP_S,
    NO_ALGORITHM,
    NUM_CHANNEL,
    NVLS,
    NVLS_EFF,
    NVLS_S,
    RING,
    SIMPLE,
    SIMPLE_EFF,
    SIMPLE_HOP_S,
    SIMPLE_S,
    TUNER_LL_BYTE_PER_S,
    Floats,
    Parts,
    faster,
    num_hop,
    peer_hop,
    ring_byte,
    ring_step,
)
from kernels.direct_reduce import ONE_SHOT, SWITCHED, direct_parts, is_direct
from kernels.jit import njit
from kernels.machine import LINK_BYTE_PER_S, LINK_LATENCY_S, LINK_UP
from kernels.optable import ALL_REDUCE, ALL_TO_ALL, P2P

# What NCCL's tuner believes of rings on NVLink (its tuning model, src/graph/tuning.cc of the public source): seconds
# to start and a hop in each protocol, and the share of the ring's rate that LL and LL128 reach. The ring's rate is
# what its topology search settles for: 20 of 25 GB/s a link (A100), 360 of 450 GB/s in all (H100).
TUNER_START_S = (6.6e-6, 14e-6, 8.4e-6)  # LL, LL128, Simple
TUNER_HOP_S = (0.6e-6, 1.9e-6, 3.4e-6)
TUNER_SHARE = (0.5, 0.92, 1.0)
TUNER_RING = 0.8
LL_PART_BYTE = 4096.0  # a step's piece on one channel: 512 threads x 8 B
P2P_PART_BYTE = 65536.0  # least part of a message to a peer that is worth another channel: an eighth of a buffer


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
def inside_parts(kind: int, message_byte: float, group_size: int, link: Floats, fit: Floats, only: int) -> Parts:
    """The fastest algorithm inside a node, or `only` that one; as `kernels.collective.collective_parts`."""
    bandwidth = link[LINK_UP, LINK_BYTE_PER_S]
    if fit[CROWD] > 0.0 and group_size > 2:
        bandwidth *= (2.0 / group_size) ** fit[CROWD]
    latency_s = link[LINK_UP, LINK_LATENCY_S]
    if (
        kind == ALL_REDUCE
        and (only == ANY or ONE_SHOT <= only <= SWITCHED)
        and is_direct(message_byte, group_size, fit)
    ):
        algorithm, fixed_s, direct_byte_s = direct_parts(message_byte, group_size, bandwidth, latency_s, fit)
        return faster((NO_ALGORITHM, 0.0, 0.0, 0.0), (algorithm, fixed_s, direct_byte_s, 0.0), only)
    to_peer = kind in (P2P, ALL_TO_ALL)
    hop = num_hop(kind, group_size) * ring_step(link)
    part = message_byte if kind == P2P else message_byte / group_size  # of a step, or to a peer
    moved = ring_byte(kind, message_byte, group_size)
    byte_s = (moved + fit[COPY_RATIO] * message_byte / group_size) / bandwidth
    if to_peer and kind == ALL_TO_ALL:
        byte_s *= peer_hop(link)
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
        best = faster(best, (algorithm, fixed_s, ll_byte_s, 0.0), only)
    if pick == LL128 or (pick == -1 and not to_peer):
        fixed_s = start_s + hop * (fit[LL128_HOP_S] + latency_s)
        best = faster(best, (algorithm, fixed_s, byte_s / fit[LL128_EFF], 0.0), only)
    if pick in (-1, SIMPLE):
        fixed_s = start_s + fit[SIMPLE_S] + hop * (fit[SIMPLE_HOP_S] + latency_s)
        simple_byte_s = byte_s / fit[SIMPLE_EFF]
        if to_peer:  # peers divide the channels
            channel = fit[NUM_CHANNEL] / (group_size - 1.0 if kind == ALL_TO_ALL else 1.0)
            simple_byte_s *= _crowding(part, P2P_PART_BYTE, channel)
        simple_byte_s += min(fit[FILL_SHARE] * simple_byte_s, hop * fit[FILL_S])
        best = faster(best, (algorithm, fixed_s, simple_byte_s, 0.0), only)
    if kind == ALL_REDUCE and fit[NVLS_EFF] > 0.0 and group_size > 2:  # beside the ring, whichever is faster
        switch_s = message_byte * (group_size + 1.0) / group_size / bandwidth
        best = faster(best, (NVLS, fit[NVLS_S] + 2.0 * latency_s, switch_s / fit[NVLS_EFF], 0.0), only)
    return best
