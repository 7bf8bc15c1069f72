"""Tokens to the devices of their experts (dispatch) and the results back (combine): one kernel family.

A row of tokens goes once to every device that holds one of the token's experts; between nodes once to every node, where
a device passes it on (DeepEP's high-throughput kernels), or once for every expert (its low-latency ones). Copies follow
from an even draw of `topk` of `num_expert` experts, of at most `node_limit` nodes where routing is limited so.

    seconds = start + log2(nodes) x node_s + peers x peer_s + experts x expert_s
              + ((cores)^r + (links inside)^r + (ports)^r)^(1/r)

the bytes through the cores that the kernel is given, through a device's links and through its share of the ports; the
power r rounds where two of them meet: 1 is one after the other, and no r is below the largest of the three.
"""

import math

from kernels.collective_layout import Floats
from kernels.jit import njit
from kernels.machine import LINK_BYTE_PER_S, LINK_LATENCY_S, LINK_OUT, LINK_UP, NUM_FIT
from kernels.optable import BOUND_LATENCY, BOUND_LINK

ONE_KERNEL: tuple[str, ...] = (
    "start_s",  # launch, and the barrier at its end
    "node_s",  # more for each doubling of nodes
    "peer_s",  # more a peer: its flags
    "expert_s",  # more an expert of all: its count
    "row_s",  # a copy of a row on one core, whatever its width
    "core_byte_per_s",  # a core's copying, once a device reached; 0: no limit
    "token_byte_per_s",  # a core's reading or writing of the token's own row, once; 0: no limit
    "over_node_share",  # of cores that copy, where those between nodes have others to pass rows on
    "up_eff",  # share of a device's links
    "out_eff",  # share of its ports
    "num_core",  # that the kernel takes where a row does not say; 0: one an expert, as many as the device has
    "a_row_an_expert",  # 1: a copy for every expert, not for every device
    "rounding",  # power of the mean of cores, links and ports; 1: their sum
)
(
    START_S, NODE_S, PEER_S, EXPERT_S, ROW_S, CORE_BYTE_PER_S, TOKEN_BYTE_PER_S, OVER_NODE_SHARE, UP_EFF,
    EXCHANGE_OUT_EFF, EXCHANGE_CORE, A_ROW_AN_EXPERT, ROUNDING,
) = range(len(ONE_KERNEL))  # fmt: skip
EXCHANGE_FIT: tuple[str, ...] = (
    *ONE_KERNEL,
    *(f"ll_{name}" for name in ONE_KERNEL),  # the low-latency kernel ...
    "ll_max_token",  # ... which engines take for so many tokens of a device at most; 0: never
)
LOW_LATENCY = len(ONE_KERNEL)  # slot of its first constant
LL_MAX_TOKEN = len(EXCHANGE_FIT) - 1
_IDEAL_KERNEL = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 4.0)
IDEAL_EXCHANGE: tuple[float, ...] = (*_IDEAL_KERNEL, *_IDEAL_KERNEL, 0.0)
assert len(IDEAL_EXCHANGE) == len(EXCHANGE_FIT) <= NUM_FIT

EXCHANGE_SHAPE: tuple[str, ...] = (
    "num_token", "row_byte", "topk", "num_expert", "group_size", "group_node", "node_limit", "num_core",
)  # fmt: skip
"""What is exchanged: tokens of a device and bytes of a row; the router; devices and nodes of the group; nodes that a
token goes to at most (0: all); cores given to the kernel (0: its own number)."""
NUM_TOKEN, ROW_BYTE, TOPK, NUM_EXPERT, GROUP_SIZE, GROUP_NODE, NODE_LIMIT, NUM_CORE = range(len(EXCHANGE_SHAPE))


@njit
def distinct(num_expert: float, topk: float, num_part: float) -> float:
    """Parts that a token's experts lie on, expected, where `topk` different ones of `num_expert` are drawn evenly and
    the experts are spread evenly over `num_part` parts.

    >>> distinct(8.0, 1.0, 4.0), round(distinct(256.0, 8.0, 8.0), 2), distinct(8.0, 8.0, 4.0)
    (1.0, 5.29, 4.0)
    """
    if num_part <= 1.0:
        return 1.0
    own = num_expert / num_part
    missed = 1.0
    for drawn in range(int(topk)):
        missed *= max(0.0, (num_expert - own - drawn) / (num_expert - drawn))
    return num_part * (1.0 - missed)


@njit
def copies(shape: Floats) -> tuple[float, float]:
    """Devices and nodes that a token's experts lie on, expected, its own included.

    >>> import numpy as np
    >>> devices, nodes = copies(np.array([1.0, 1.0, 8.0, 256.0, 32.0, 4.0, 0.0, 0.0]))
    >>> round(devices, 2), round(nodes, 2)
    (7.27, 3.61)
    >>> round(copies(np.array([1.0, 1.0, 8.0, 256.0, 32.0, 4.0, 2.0, 0.0]))[1], 2)  # of two nodes at most
    1.99
    """
    group, node = shape[GROUP_SIZE], max(shape[GROUP_NODE], 1.0)
    reached = min(node, shape[NODE_LIMIT]) if shape[NODE_LIMIT] > 0.0 else node
    part = reached / node  # of nodes, and of experts, that the router draws from
    expert = shape[NUM_EXPERT] * part
    topk = min(shape[TOPK], expert)
    return distinct(expert, topk, group * part), distinct(expert, topk, reached)


@njit
def exchange_s(shape: Floats, core: float, link: Floats, fit: Floats) -> tuple[float, float, int]:
    """Seconds, speed-of-light seconds and bound of a dispatch or a combine; `shape` as in `EXCHANGE_SHAPE`, `core`
    cores of the device, `link` as `Machine.link`.

    >>> import numpy as np
    >>> shape = np.array([10.0, 1.0, 2.0, 2.0, 2.0, 1.0, 0.0, 0.0])  # both experts, one of them on the other device
    >>> exchange_s(shape, 1.0, np.array([[2.0, 0.0, 2.0], [1.0, 0.0, 2.0]]), np.array(IDEAL_EXCHANGE))
    (5.0, 5.0, 3)
    """
    group, node = shape[GROUP_SIZE], max(shape[GROUP_NODE], 1.0)
    if group <= 1.0 or shape[NUM_TOKEN] <= 0.0 or shape[ROW_BYTE] <= 0.0:
        return 0.0, 0.0, BOUND_LATENCY
    device, reached = copies(shape)
    token, byte = shape[NUM_TOKEN], shape[NUM_TOKEN] * shape[ROW_BYTE]
    up_rate, out_rate = link[LINK_UP, LINK_BYTE_PER_S], link[LINK_OUT, LINK_BYTE_PER_S]
    neighbour = max(group / node - 1.0, 0.0) / max(group / node, 1.0)  # other devices of a node, as a share of its own
    away = (node - 1.0) / node  # other nodes, as a share of all
    ideal_s = byte * device / node * neighbour / up_rate if neighbour > 0.0 else 0.0
    if node > 1.0:
        ideal_s = max(ideal_s, byte * reached * away / out_rate)
    own = fit[LOW_LATENCY:LL_MAX_TOKEN] if token <= fit[LL_MAX_TOKEN] else fit[:LOW_LATENCY]
    if own[A_ROW_AN_EXPERT] > 0.0:
        made, inside, crossing = shape[TOPK], shape[TOPK] / node * neighbour, shape[TOPK] * away
    else:  # what came from another node is passed on, but by the device that needs it itself
        made, inside, crossing = device, device * neighbour, reached * away
    up_s = byte * inside / (up_rate * own[UP_EFF]) if inside > 0.0 else 0.0
    out_s = byte * crossing / (out_rate * own[EXCHANGE_OUT_EFF]) if node > 1.0 else 0.0
    given = shape[NUM_CORE] if shape[NUM_CORE] > 0.0 else own[EXCHANGE_CORE]
    if given <= 0.0:
        given = min(shape[NUM_EXPERT], core)
    core_s = token * made * own[ROW_S]
    if own[CORE_BYTE_PER_S] > 0.0:
        core_s += byte * made / own[CORE_BYTE_PER_S]
    if own[TOKEN_BYTE_PER_S] > 0.0:
        core_s += byte / own[TOKEN_BYTE_PER_S]
    core_s /= given * (own[OVER_NODE_SHARE] if node > 1.0 else 1.0)
    top, power = max(core_s, up_s, out_s), own[ROUNDING]
    moving_s = 0.0
    if top > 0.0:
        moving_s = top * ((core_s / top) ** power + (up_s / top) ** power + (out_s / top) ** power) ** (1.0 / power)
    latency_s = link[LINK_OUT if node > 1.0 else LINK_UP, LINK_LATENCY_S]
    fixed_s = own[START_S] + latency_s + (group - 1.0) * own[PEER_S] + math.log2(node) * own[NODE_S]
    fixed_s += shape[NUM_EXPERT] * own[EXPERT_S]
    seconds = max(fixed_s + moving_s, ideal_s)
    return seconds, ideal_s, BOUND_LINK if 2.0 * ideal_s >= seconds else BOUND_LATENCY
