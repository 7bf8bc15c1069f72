"""All-reduces that serving engines have beside the library's, for messages below a size.

One-shot: each device reads all of every peer's message and adds. Two-shot: each adds its share of every peer's
message, then reads the results; for more than two devices from a size on. Switched: the message is copied into
memory that all devices map, the switch adds and multicasts each device's share (one pass out of each device, and
`(P + 1) / P` of the message in; between two devices each reads half and writes half), and the result is copied
out. Sizes at which engines go from one to the next are those of vLLM's tables.
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from kernels.jit import njit

Floats: TypeAlias = npt.NDArray[np.float64]

DIRECT_FIT: tuple[str, ...] = (
    "custom_s",  # one-shot and two-shot: launch and first barrier, more a peer, second barrier of the two-shot
    "custom_peer_s",
    "custom_sync_s",
    "one_shot_eff",  # shares of the link's bandwidth
    "two_shot_eff",
    "custom_copy",  # two-shot: adding up a device's own share, as link bytes a byte
    "custom_max_byte",  # messages below it take them, among four devices at most; 0: never
    "custom_wide_max_byte",  # and among more than four
    "switched_s",  # switched: launch and barriers
    "switched_eff",  # share of the link's bandwidth
    "switched_copy",  # copies in and out, as link bytes a byte
    "switched_max_byte",  # largest message that takes it (half as large among three to five); 0: never
    "switched_host_s",  # eager dispatch of its kernels, where no CUDA graph is used
)
FIRST_DIRECT = 19  # slot of the first in kernels.collective.COLLECTIVE_FIT
(
    CUSTOM_S, CUSTOM_PEER_S, CUSTOM_SYNC_S, ONE_SHOT_EFF, TWO_SHOT_EFF, CUSTOM_COPY, CUSTOM_MAX_BYTE,
    CUSTOM_WIDE_MAX_BYTE, SWITCHED_S, SWITCHED_EFF, SWITCHED_COPY, SWITCHED_MAX_BYTE, SWITCHED_HOST_S,
) = range(FIRST_DIRECT, FIRST_DIRECT + len(DIRECT_FIT))  # fmt: skip
IDEAL_DIRECT: tuple[float, ...] = (0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
assert len(IDEAL_DIRECT) == len(DIRECT_FIT)

ONE_SHOT, TWO_SHOT, SWITCHED = range(3, 6)  # in kernels.collective.ALGORITHMS
FEW = 4  # devices: up to here two-shot starts at TWO_SHOT_BYTE, among more at half of it
TWO_SHOT_BYTE = 524288.0


@njit
def is_direct(message_byte: float, group_size: int, fit: Floats) -> bool:
    """Whether an all-reduce of this message among `group_size` devices of a node is a direct one."""
    return _is_custom(message_byte, group_size, fit) or _is_switched(message_byte, group_size, fit)


@njit
def _is_custom(message_byte: float, group_size: int, fit: Floats) -> bool:
    return message_byte < (fit[CUSTOM_MAX_BYTE] if group_size <= FEW else fit[CUSTOM_WIDE_MAX_BYTE])


@njit
def _is_switched(message_byte: float, group_size: int, fit: Floats) -> bool:
    return message_byte <= fit[SWITCHED_MAX_BYTE] * (0.5 if 2 < group_size < 6 else 1.0)


@njit
def direct_parts(
    message_byte: float, group_size: int, bandwidth: float, latency_s: float, fit: Floats
) -> tuple[int, float, float]:
    """(algorithm, seconds of launch and barriers, seconds of bytes) of a direct all-reduce; `bandwidth` of a
    device's link, a direction.

    >>> fit = np.zeros(40); fit[FIRST_DIRECT : FIRST_DIRECT + len(DIRECT_FIT)] = IDEAL_DIRECT
    >>> fit[CUSTOM_MAX_BYTE] = 1e6
    >>> direct_parts(1e5, 4, 1e6, 0.0, fit)  # all of three peers
    (3, 0.0, 0.3)
    """
    peer = group_size - 1.0
    if not _is_custom(message_byte, group_size, fit):
        moved = message_byte * ((group_size + 1.0) / group_size if group_size > 2 else 1.0) / fit[SWITCHED_EFF]
        moved += message_byte * fit[SWITCHED_COPY]
        return SWITCHED, fit[SWITCHED_S] + 2.0 * latency_s, moved / bandwidth
    start_s = fit[CUSTOM_S] + peer * fit[CUSTOM_PEER_S] + latency_s
    if group_size == 2 or message_byte < (TWO_SHOT_BYTE if group_size <= FEW else 0.5 * TWO_SHOT_BYTE):
        return ONE_SHOT, start_s, peer * message_byte / (bandwidth * fit[ONE_SHOT_EFF])
    moved = (2.0 * peer + fit[CUSTOM_COPY]) / group_size * message_byte
    return TWO_SHOT, start_s + fit[CUSTOM_SYNC_S] + latency_s, moved / (bandwidth * fit[TWO_SHOT_EFF])


@njit
def direct_host_s(message_byte: float, group_size: int, fit: Floats) -> float:
    """Eager dispatch of a direct all-reduce beyond `host_s`: 0 unless it is a switched one."""
    if _is_custom(message_byte, group_size, fit) or not _is_switched(message_byte, group_size, fit):
        return 0.0
    return fit[SWITCHED_HOST_S]
