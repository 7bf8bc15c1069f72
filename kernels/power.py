"""What an operator draws: joules of a device from its time, its arithmetic and its memory traffic.

A device that has a context is awake and draws `idle_w` whatever it does. While a kernel runs it draws more for being
busy (clocks, instruction issue, registers, the caches), and more again for what it multiplies and for the bytes of
device memory, each in proportion to how much of the peak rate it reaches. Nothing draws more than the cap:

    watts = idle + min(dynamic, busy + product x (multiplies' share of their peak) + traffic x (bytes' share of theirs))

An operator at its own roof does not draw full power because of that; products at two thirds of the tensor peak do,
and hold the board at its cap (`hw_models.clock` says what that takes from the clock). Joules are a sum over operators,
so that what a run draws is what its operators and its idle time do.
"""

from kernels.jit import njit_inline
from kernels.machine import (
    BUSY_W,
    DYNAMIC_W,
    IDLE_W,
    LINK_W,
    MEM_BYTE_PER_S,
    TRAFFIC_W,
    Floats,
)
from kernels.optable import BOUND_PIM_COMPUTE


@njit_inline
def dynamic_j(seconds: float, work_s: float, byte: float, product_w: float, rate: Floats) -> float:
    """Joules above idle of a kernel of `seconds`, whose FLOPs take `work_s` at the peak and draw `product_w` there.

    >>> import numpy as np
    >>> from kernels.machine import RATES
    >>> rate = np.zeros(len(RATES))
    >>> rate[DYNAMIC_W], rate[BUSY_W], rate[TRAFFIC_W], rate[MEM_BYTE_PER_S] = 100.0, 40.0, 20.0, 4.0
    >>> dynamic_j(2.0, 0.5, 4.0, 50.0, rate), dynamic_j(2.0, 2.0, 4.0, 50.0, rate)  # the second at the cap
    (125.0, 200.0)
    """
    drawn = rate[BUSY_W] * seconds + product_w * work_s + rate[TRAFFIC_W] * (byte / rate[MEM_BYTE_PER_S])
    return min(rate[DYNAMIC_W] * seconds, drawn)


@njit_inline
def operator_j(
    seconds: float, ideal_s: float, bound: int, work_s: float, byte: float, product_w: float, rate: Floats
) -> float:
    """Joules of one device in an operator. On units in the memory its joules above idle are theirs, which `ideal_s`
    stands for (`kernels.machine.dispatch`)."""
    above = rate[DYNAMIC_W] * ideal_s
    if bound < BOUND_PIM_COMPUTE:
        above = dynamic_j(seconds, work_s, byte, product_w, rate)
    return rate[IDLE_W] * seconds + above


@njit_inline
def link_j(seconds: float, byte: float, rate: Floats) -> float:
    """Joules of one device in a collective or an exchange that moves `byte` through its memory."""
    drawn = rate[LINK_W] * seconds + rate[TRAFFIC_W] * (byte / rate[MEM_BYTE_PER_S])
    return rate[IDLE_W] * seconds + min(rate[DYNAMIC_W] * seconds, drawn)


@njit_inline
def copy_j(seconds: float, byte: float, rate: Floats) -> float:
    """Joules of one device while its copy engine moves `byte`: no core runs."""
    return rate[IDLE_W] * seconds + min(rate[DYNAMIC_W] * seconds, rate[TRAFFIC_W] * (byte / rate[MEM_BYTE_PER_S]))
