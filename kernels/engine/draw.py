"""Draws that depend on a seed and two counters alone, so that their order in time does not matter."""

from kernels.jit import njit

MASK = (1 << 31) - 1


@njit
def draw(seed: int, first: int, second: int, num: int) -> int:
    """A uniform integer in 0..num-1 from three integers: rounds of xor-shift and multiply on 31 bits.

    >>> draw(0, 1, 0, 4) == draw(0, 1, 0, 4), 0 <= draw(7, 5, 3, 10) < 10
    (True, True)
    """
    x = (seed * 0x9E3779 + 0x3C6EF372) & MASK
    for word in (first, second, num):
        x = (x ^ (word & MASK)) & MASK
        for _ in range(3):
            x = ((x ^ (x >> 16)) * 0x45D9F3B) & MASK
    return (x * num) >> 31
