"""Time inside the simulator is integer picoseconds, energy integer nanojoules; floats stay at the doors.

A 64-bit count of half picoseconds, by which engines order their events, covers 53 days; one of nanojoules 9.2 GJ (a
megawatt for 2.5 hours).
"""

from kernels.jit import njit_inline

PS_PER_S = 1_000_000_000_000
NJ_PER_J = 1_000_000_000
FOREVER_PS = 4_500_000_000_000_000_000  # 52 days: later than any event
LONGEST_PS = 1 << 53  # 2.5 hours: no operator of a served step takes so long; so many that a thousand add up


@njit_inline
def to_ps(seconds: float) -> int:
    """Seconds to the nearest picosecond (half up).

    >>> to_ps(1.5e-6)
    1500000
    """
    return int(seconds * 1e12 + 0.5)


@njit_inline
def operator_ps(seconds: float) -> int:
    """As `to_ps`, and `LONGEST_PS` for what takes longer: who adds it up tells by that.

    >>> operator_ps(1e-12), operator_ps(1e9) == LONGEST_PS
    (1, True)
    """
    return int(min(seconds * 1e12 + 0.5, float(LONGEST_PS)))


@njit_inline
def to_nj(joules: float) -> int:
    """Joules to the nearest nanojoule.

    >>> to_nj(2e-3)
    2000000
    """
    return int(joules * 1e9 + 0.5)
