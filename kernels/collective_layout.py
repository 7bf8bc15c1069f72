"""What collectives are made of: the slots of a fit vector, algorithms by number, bytes and hops of a ring."""

import numpy as np
import numpy.typing as npt

from kernels.direct_reduce import DIRECT_FIT, FIRST_DIRECT, IDEAL_DIRECT, SWITCHED
from kernels.jit import njit
from kernels.machine import LINK_PEER_HOP, LINK_RING_STEP, LINK_UP, NUM_FIT
from kernels.optable import ALL_REDUCE, ALL_TO_ALL, P2P, REDUCE_SCATTER

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
    "net_hop",  # a hop between nodes in its library's own reckoning (kernels.collective_between); 0: the link's alone
    "nvls_s",  # in-switch reduction: its launch
    "nvls_eff",  # and its share of the link's bandwidth; 0: the switch does not add
    "crowd",  # power with which a device's rate falls with the devices over two, where all go through the host; else 0
    *DIRECT_FIT,
    "host_s",  # eager dispatch that hides the kernel where no CUDA graph is used
    "host_copy",  # and the copy into a registered buffer, as link bytes a byte
)
(
    LAUNCH_S, LL_HOP_S, LL128_HOP_S, SIMPLE_HOP_S, LL_EFF, LL128_EFF, SIMPLE_EFF, TUNER_LL_BYTE_PER_S, NUM_CHANNEL,
    SIMPLE_S, FILL_SHARE, FILL_S, LL_COPY, COPY_RATIO, OUT_EFF, NET_HOP, NVLS_S, NVLS_EFF,
    CROWD,
) = range(FIRST_DIRECT)  # fmt: skip
HOST_S, HOST_COPY = range(len(COLLECTIVE_FIT) - 2, len(COLLECTIVE_FIT))

IDEAL_COLLECTIVE: tuple[float, ...] = (
    0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, *IDEAL_DIRECT,
    0.0, 0.0,
)  # fmt: skip
assert COLLECTIVE_FIT[FIRST_DIRECT] == DIRECT_FIT[0]
assert len(IDEAL_COLLECTIVE) == len(COLLECTIVE_FIT) <= NUM_FIT

LL, LL128, SIMPLE = range(3)
ALGORITHMS: tuple[str, ...] = (
    "ring", "direct", "nvls", "one_shot", "two_shot", "switched", "hierarchical", "tree", "nvls_tree",
)  # fmt: skip
RING, DIRECT, NVLS = range(3)
HIERARCHICAL, TREE, NVLS_TREE = range(SWITCHED + 1, len(ALGORITHMS))
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
def memory_byte(kind: int, message_byte: float, group_size: int) -> float:
    """Bytes that a collective moves through a device's own memory: of what it sends and receives a gather and an
    all-to-all read the own piece and write the peer's, a reduce-scatter reads both and writes the sum, an all-reduce
    is one after the other; a sender reads.

    >>> from kernels.optable import ALL_GATHER
    >>> memory_byte(REDUCE_SCATTER, 8.0, 4), memory_byte(ALL_GATHER, 8.0, 4), memory_byte(ALL_REDUCE, 8.0, 4)
    (18.0, 12.0, 30.0)
    """
    share = 2.5 if kind == ALL_REDUCE else 3.0 if kind == REDUCE_SCATTER else 1.0 if kind == P2P else 2.0
    return share * ring_byte(kind, message_byte, group_size)


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
def flat_ring(
    kind: int, message_byte: float, group_size: int, group_node: int, up_hop_s: float, out_hop_s: float, up_rate: float,
    out_rate: float,
) -> tuple[float, float, float]:  # fmt: skip
    """(seconds of hops, of bytes inside nodes, of bytes between nodes at the same time) of a ring through all devices:
    every hop is counted, `group_node - 1` of a gather's between nodes. Rates are a device's inside its node and those
    of all ports that the group's devices of one node share.

    >>> flat_ring(ALL_REDUCE, 8.0, 4, 2, 1.0, 10.0, 2.0, 1.0)  # four hops inside and two out; 12 B
    (24.0, 6.0, 12.0)
    """
    moved = ring_byte(kind, message_byte, group_size)
    out_hop = num_hop(kind, group_node)
    hops_s = (num_hop(kind, group_size) - out_hop) * up_hop_s + out_hop * out_hop_s
    inside_s = moved / up_rate if group_size > group_node else 0.0
    return hops_s, inside_s, moved / out_rate if group_node > 1 else 0.0


@njit
def peer_hop(link: Floats) -> float:
    """How many times longer messages to all peers of a node take than with a link to each; 1 where rows do not say."""
    return max(1.0, link[LINK_UP, LINK_PEER_HOP]) if link.shape[1] > LINK_PEER_HOP else 1.0


@njit
def ring_step(link: Floats) -> float:
    """Steps inside a node that follow each other, over those of one flat ring; 1 where rows do not say."""
    return link[LINK_UP, LINK_RING_STEP] if link.shape[1] > LINK_RING_STEP else 1.0


@njit
def total_s(parts: Parts) -> float:
    """Seconds of the parts together."""
    algorithm, fixed_s, inside_s, between_s = parts
    return fixed_s + (inside_s + between_s if algorithm == HIERARCHICAL else max(inside_s, between_s))


@njit
def faster(best: Parts, other: Parts, only: int) -> Parts:
    """The faster of two; `other` counts where `only` allows it."""
    if only not in (ANY, other[0]) or (best[0] != NO_ALGORITHM and total_s(best) <= total_s(other)):
        return best
    return other
