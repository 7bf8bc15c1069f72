"""Time of a collective: the algorithms that a library has, and the fastest of them as its tuner picks.

**The one door.** Serving, training, fabric and studies all ask

    collective_s(kind, message_byte, group_size, group_node, link, fit) -> (seconds, speed-of-light seconds, bound)

`kind`: ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER, ALL_TO_ALL or P2P of `kernels.optable`. `message_byte`: the input of an
all-reduce, reduce-scatter or all-to-all, the output of an all-gather, the bytes sent point to point; all a device.
`group_size` devices lie evenly on `group_node` nodes (`kernels.rank_layout` counts those of any parallel group, and
says which hop of a pipeline leaves its node: P2P is a group of 2 on 1 or 2 nodes). `link` is `Machine.link`, `fit` is
`Machine.fit[kind, format]`, `IDEAL_COLLECTIVE` at the speed of light. Jitted, O(1); over nodes monotone in bytes and in
nodes (inside one, engines and tuners change algorithms by tables of sizes, which need not be).

Every algorithm is (launch) + (hops x latency of a hop) + (bytes through a device's link / bandwidth):
`kernels.collective_inside` and `kernels.collective_between` have them, `kernels.collective_layout` the constants.
"""

from kernels.collective_between import between_parts
from kernels.collective_inside import inside_parts, protocol
from kernels.collective_layout import (
    ALGORITHMS,
    ANY,
    COLLECTIVE_FIT,
    DIRECT,
    HIERARCHICAL,
    HOST_COPY,
    HOST_S,
    IDEAL_COLLECTIVE,
    LL,
    LL128,
    NO_ALGORITHM,
    NVLS,
    NVLS_EFF,
    NVLS_TREE,
    RING,
    SIMPLE,
    TREE,
    Floats,
    Parts,
    num_hop,
    peer_hop,
    ring_byte,
    total_s,
)
from kernels.direct_reduce import direct_host_s
from kernels.jit import njit
from kernels.machine import LINK_BYTE_PER_S, LINK_OUT, LINK_UP
from kernels.optable import ALL_REDUCE, ALL_TO_ALL, BOUND_LATENCY, BOUND_LINK, P2P

__all__ = [
    "ALGORITHMS", "ANY", "COLLECTIVE_FIT", "DIRECT", "HIERARCHICAL", "HOST_S", "IDEAL_COLLECTIVE", "LL", "LL128",
    "NO_ALGORITHM", "NVLS", "NVLS_TREE", "RING", "SIMPLE", "TREE", "collective_parts", "collective_s",
    "num_hop", "protocol", "ring_byte",
]  # fmt: skip


@njit
def collective_s(
    kind: int, link_byte: float, group_size: int, group_node: int, link: Floats, fit: Floats
) -> tuple[float, float, int]:
    """Seconds, speed-of-light seconds and bound of a collective of `group_size` devices spread evenly over
    `group_node` nodes; one device or no byte takes no time. `link` is `Machine.link`.

    >>> import numpy as np
    >>> link = np.array([[2.0, 0.0, 8.0], [1.0, 0.0, 64.0], [1.0, 0.0, 1.0]]); fit = np.array(IDEAL_COLLECTIVE)
    >>> collective_s(ALL_REDUCE, 8.0, 4, 1, link, fit)  # 2 x 3/4 x 8 B at 2 B/s
    (6.0, 6.0, 3)
    >>> collective_s(ALL_REDUCE, 8.0, 4, 2, link, fit)  # a ring; 8 B have to cross 2 x 1 B/s
    (6.0, 4.0, 3)
    """
    if group_size <= 1 or link_byte <= 0.0:
        return 0.0, 0.0, BOUND_LATENCY
    ideal_s = _ideal_s(kind, link_byte, group_size, group_node, link, fit)
    seconds = total_s(collective_parts(kind, link_byte, group_size, group_node, link, fit, ANY))
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
        return between_parts(kind, link_byte, group_size, group_node, link, fit, only)
    return inside_parts(kind, link_byte, group_size, link, fit, only)


@njit
def _ideal_s(kind: int, message_byte: float, group_size: int, group_node: int, link: Floats, fit: Floats) -> float:
    """Seconds at the speed of the links, no latency: what a device must move inside its node or a node must move
    between nodes, whichever takes longer, whatever the algorithm."""
    up, out = link[LINK_UP, LINK_BYTE_PER_S], link[LINK_OUT, LINK_BYTE_PER_S]
    per_node = group_size if group_node <= 1 else max(1, group_size // group_node)
    if group_node > 1 and kind == P2P:
        return message_byte / out
    if group_node > 1 and kind == ALL_TO_ALL:
        away, home = message_byte * (group_size - per_node), message_byte * (per_node - 1.0)
        return max(away / out, home / up * peer_hop(link) if home > 0.0 else 0.0) / group_size
    inside_s = ring_byte(kind, message_byte, per_node) / up if per_node > 1 else 0.0
    if kind == ALL_TO_ALL:
        inside_s *= peer_hop(link)
    if kind == ALL_REDUCE and fit[NVLS_EFF] > 0.0 and per_node > 2:
        inside_s = min(inside_s, message_byte * (per_node + 1.0) / per_node / up)
    if group_node <= 1:
        return inside_s
    return max(inside_s, ring_byte(kind, message_byte, group_node) / (out * per_node))
