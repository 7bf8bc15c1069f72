"""Two engines on one memory side by side: each runs slower while the other works.

Dual row buffers share activates (tFAW), the command bus and the data bus; bank bundles share nothing. Progress is
linear: while both run, one advances at `share_a` of its own speed and the other at `share_b`.
"""

from kernels.jit import njit


@njit
def pair_cycle(a: float, b: float, share_a: float, share_b: float) -> float:
    """Time until work of `a` and `b` (times alone) is done, both started together; between max(a, b) and a + b
    where the shares add up to 1 or more.

    >>> pair_cycle(10.0, 4.0, 1.0, 1.0), pair_cycle(10.0, 4.0, 0.5, 0.5)
    (10.0, 14.0)
    """
    end_a, end_b = a / share_a, b / share_b
    if end_a <= end_b:
        return end_a + (b - end_a * share_b)
    return end_b + (a - end_b * share_a)
