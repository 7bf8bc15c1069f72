"""Time inside the simulator is integer picoseconds, energy integer nanojoules; floats stay at the doors.

A 64-bit count of picoseconds covers 106 days; of nanojoules, 9.2 GJ (a megawatt for 2.5 hours).
"""

from kernels.jit import njit_inline

PS_PER_S = 1_000_000_000_000
NJ_PER_J = 1_000_000_000
FOREVER_PS = 9_000_000_000_000_000_000  # later than any event


@njit_inline
def to_ps(seconds: float) -> int:
    """Seconds to the nearest picosecond (half up).

    >>> to_ps(1.5e-6)
    1500000
    """
    return int(seconds * 1e12 + 0.5)


@njit_inline
def to_nj(joules: float) -> int:
    """Joules to the nearest nanojoule.

    >>> to_nj(2e-3)
    2000000
    """
    return int(joules * 1e9 + 0.5)
