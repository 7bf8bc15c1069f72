"""Time of a copy between a device and its host: the copy engine, over a way that devices of a box may share."""

import numpy as np
import numpy.typing as npt

from kernels.jit import njit
from kernels.machine import LINK_BYTE_PER_S, LINK_HOST, LINK_LATENCY_S, LINK_NUM_DEVICE

Links = npt.NDArray[np.float64]  # [len(LINKS), len(LINK_FIELDS)]


@njit
def transfer_s(link_byte: float, num_device: float, link: Links) -> float:
    """Seconds of `link_byte` one way while `num_device` devices of the box copy as much: those under one PCIe switch
    share its way up. No byte takes no time.

    >>> link = np.zeros((3, 5)); link[LINK_HOST, :3] = 4.0, 0.5, 2.0
    >>> [float(transfer_s(byte, number, link)) for byte, number in ((8.0, 1.0), (8.0, 8.0), (0.0, 8.0))]
    [2.5, 4.5, 0.0]
    """
    if link_byte <= 0.0:
        return 0.0
    sharing = min(max(num_device, 1.0), max(link[LINK_HOST, LINK_NUM_DEVICE], 1.0))
    return link_byte * sharing / link[LINK_HOST, LINK_BYTE_PER_S] + link[LINK_HOST, LINK_LATENCY_S]
