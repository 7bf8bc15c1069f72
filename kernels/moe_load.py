"""How tokens fall on experts: rows, experts with work and row tiles of one expert-parallel rank.

`skew` 0 spreads rows evenly. Otherwise loads follow the power law that public benchmarks of expert kernels draw:
a load an expert from the density `x^-skew` on `[1, 0.8 m]` (on `[0.01, 2]` when there are fewer rows than
experts), scaled so that the loads add to `m * topk` rows and rounded; the rank with the most rows is the one that
is timed, for the others wait for it. The expectations are in closed form, with

    F(x) = (x^b - lo^b) / (hi^b - lo^b), b = 1 - skew      share of experts with a load below x
    M(x) = (x^c - lo^c) / (hi^c - lo^c), c = 2 - skew      share of rows on them
"""

import math

import numpy as np
import numpy.typing as npt

from kernels.jit import njit

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@njit
def local_load(
    m: int, num_expert: int, topk: int, ep: int, skew: float, tile_m: float, clumped: bool = False
) -> tuple[float, float, float]:
    """Rows, experts with at least one row, and row tiles of `tile_m`, on the heaviest of `ep` ranks. `clumped`: rows
    that rounding leaves start new experts on that rank, as an older draw of the benchmark had it, not on all.

    >>> local_load(1024, 8, 2, 1, 0.0, 128.0), local_load(1, 256, 8, 1, 0.0, 128.0)
    ((2048.0, 8.0, 16.0), (8.0, 8.0, 8.0))
    """
    local = num_expert / ep
    even = max(float(m) * topk / ep, 1.0)
    if skew <= 0.0:
        active = min(local, even)
        return even, active, active * math.ceil(even / active / tile_m - 1e-9)
    skew = _off_pole(skew)
    b, c = 1.0 - skew, 2.0 - skew
    low, high = _ends(m, num_expert, topk)
    low_b, low_c = low**b, low**c
    span_b, span_c = high**b - low_b, high**c - low_c
    mean = span_c / c / (span_b / b)
    share = heaviest_share(m, num_expert, topk, ep, skew, low, high, mean)
    row = max(even * share, 1.0)
    scale = even * share / local / mean  # rows a unit of x
    edge = min(max(0.5 / scale, low), high)  # loads below half a row round to none; their rows start new experts
    left = (edge**c - low_c) / span_c  # share of rows that rounding leaves
    large = local * (1.0 - (edge**b - low_b) / span_b)
    if clumped and ep > 1:
        more = min(local - large, left * m * topk)
        row = row * (1.0 - left) + more
        active = large + more
    else:
        active = large + row * left
    active = min(local, max(1.0, active), row)
    edge = min(max(tile_m / scale, low), high)  # loads above a tile fill it and half of another one
    large = local * (1.0 - (edge**b - low_b) / span_b)
    tile = max(active - large, 0.0) + row * (1.0 - (edge**c - low_c) / span_c) / tile_m + 0.5 * large
    return row, active, max(tile, active)


@njit
def _off_pole(skew: float) -> float:
    """The exponent, off where one that is built on it would vanish."""
    for pole in (1.0, 2.0, 3.0):
        if abs(skew - pole) < 1e-6:
            return pole + 1e-6
    return skew


@njit
def _ends(m: int, num_expert: int, topk: int) -> tuple[float, float]:
    """Least and largest load of the density, in units of its own."""
    return (1.0, max(0.8 * m, 1.1)) if m * topk > num_expert else (0.01, 2.0)


def expert_loads(m: int, num_expert: int, topk: int, skew: float) -> Floats:
    """Rows of every expert, the fullest first: the density's value in the middle of each of `num_expert` equal parts.

    >>> expert_loads(1024, 4, 2, 0.0).tolist(), round(expert_loads(1024, 4, 2, 1.2).sum())
    ([512.0, 512.0, 512.0, 512.0], 2048)
    """
    if skew <= 0.0:
        return np.full(num_expert, m * topk / num_expert)
    b = 1.0 - _off_pole(skew)
    low, high = _ends(m, num_expert, topk)
    part = (np.arange(num_expert, 0, -1) - 0.5) / num_expert
    x = (low**b + part * (high**b - low**b)) ** (1.0 / b)
    return np.asarray(x / x.sum() * m * topk)


@njit
def awake_experts(m: Ints, num_expert: int, topk: int, ep: int, skew: float) -> Floats:
    """Experts with at least one row on the heaviest of `ep` ranks, for each count of tokens.

    >>> awake_experts(np.array([1, 32, 4096]), 256, 8, 1, 1.01).round().tolist()
    [8.0, 136.0, 248.0]
    """
    found = np.zeros(len(m))
    for i in range(len(m)):
        found[i] = local_load(m[i], num_expert, topk, ep, skew, 1.0)[1] if m[i] > 0 else 0.0
    return found


@njit
def heaviest_share(
    m: int, num_expert: int, topk: int, ep: int, skew: float, low: float, high: float, mean: float
) -> float:
    """Rows of the heaviest rank over the mean of ranks: the larger of two estimates of an expected maximum.

    Many small loads: normal sums, whose expected largest of `ep` lies `1.42 sqrt(ln ep) - 0.6` deviations above
    the mean (a fit to the tabulated values, 0.03 off from 2 to 256). Few: the rank that holds the largest expert,
    which lies at the quantile `1 - 0.56 / num_expert`. A token goes to an expert once, so that no expert has more
    than m rows.
    """
    if ep <= 1:
        return 1.0
    local = num_expert / ep
    b = 1.0 - skew
    low_b = low**b
    span_b = high**b - low_b
    square = (high ** (3.0 - skew) - low ** (3.0 - skew)) / (3.0 - skew) / (span_b / b)
    spread = math.sqrt((square / (mean * mean) - 1.0) / local * (1.0 - 1.0 / ep))
    many = 1.0 + spread * (1.42 * math.sqrt(math.log(float(ep))) - 0.6)
    top = (low_b + (1.0 - 0.56 / num_expert) * span_b) ** (1.0 / b)
    top = top / (mean * (num_expert - 1.0) + top) * num_expert  # in means of all experts
    few = (top + (local - 1.0) * (num_expert - top) / (num_expert - 1.0)) / local
    return min(max(many, few), float(ep), num_expert / float(topk))
