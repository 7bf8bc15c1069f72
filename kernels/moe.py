"""Time of a fused mixture-of-experts layer on one device: two grouped multiplies over the experts that it holds.

Tokens fall on experts evenly or by a power law. The benchmark that the profiles are fitted to draws a load a
expert from a density `x^-skew` between 1 and 0.8 of the tokens, scales the loads to `m * topk` rows, and times
the expert-parallel rank with the most rows; `skew` 0 is balanced. What the time depends on is how many local
experts have any row (their weights are read), how many row tiles they fill, and the rows in all.
"""

import math

import numpy as np
import numpy.typing as npt

from kernels.gemm import p_norm
from kernels.jit import njit
from kernels.machine import MEM_BYTE_PER_S, NUM_CORE, NUM_FIT
from kernels.optable import BOUND_COMPUTE, BOUND_LAUNCH, BOUND_MEMORY

Floats = npt.NDArray[np.float64]

MOE_FIT: tuple[str, ...] = (
    "launch_s",  # gate, sort, two grouped multiplies, activation, sum over top-k
    "compute_eff",
    "mem_eff",
    "p",
    "cta_s",  # prologue and epilogue of a tile
    "tile_m",  # row tile of an expert; 0: no tiles (ideal)
    "row_byte_per_s",  # permute, activation and sum: rows moved outside the multiplies
)
LAUNCH_S, COMPUTE_EFF, MEM_EFF, P, CTA_S, TILE_M, ROW_BYTE_PER_S = range(len(MOE_FIT))

IDEAL_MOE: tuple[float, ...] = (0.0, 1.0, 1.0, 0.0, 0.0, 0.0, math.inf)
assert len(MOE_FIT) <= NUM_FIT


@njit
def moe_s(
    m: int,
    hidden: int,
    inter: int,
    num_expert: int,
    topk: int,
    tp: int,
    ep: int,
    skew: float,
    weight_byte_per_value: float,
    act_byte_per_value: float,
    peak_flop_per_s: float,
    rate: Floats,
    fit: Floats,
) -> tuple[float, float, int]:
    """Seconds, speed-of-light seconds and bound of the experts on one device of `tp * ep`.

    `m` tokens reach all ranks together, before top-k; gated experts hold `3 * hidden * inter` weights.
    """
    row, active = local_load(m, num_expert, topk, ep, skew)
    width = inter / tp
    flop_s = 6.0 * row * hidden * width / peak_flop_per_s
    weight_byte = active * 3.0 * hidden * width * weight_byte_per_value
    byte_s = (weight_byte + 2.0 * m * hidden * act_byte_per_value) / rate[MEM_BYTE_PER_S]
    ideal_s = max(flop_s, byte_s)
    core_s = flop_s / fit[COMPUTE_EFF]
    if fit[TILE_M] > 0.0:
        tile = max(1.0, math.ceil(row / active / fit[TILE_M])) * active
        wave = math.ceil(tile * (2.0 * width + hidden) / 128.0 / rate[NUM_CORE])
        core_s = max(core_s, core_s * tile * fit[TILE_M] / row) + wave * fit[CTA_S]
    mem_s = byte_s / fit[MEM_EFF]
    seconds = fit[LAUNCH_S] + p_norm(core_s, mem_s, fit[P])
    seconds += row * (2.0 * hidden + 3.0 * width) * act_byte_per_value / fit[ROW_BYTE_PER_S]
    bound = BOUND_COMPUTE if core_s >= mem_s else BOUND_MEMORY
    if fit[LAUNCH_S] > 0.5 * seconds:
        bound = BOUND_LAUNCH
    return max(seconds, ideal_s), ideal_s, bound


@njit
def local_load(m: int, num_expert: int, topk: int, ep: int, skew: float) -> tuple[float, float]:
    """Rows on the local experts and how many of them have any, in the mean of the heaviest rank.

    >>> local_load(1024, 8, 2, 1, 0.0), local_load(1, 256, 8, 1, 0.0)
    ((2048.0, 8.0), (8.0, 8.0))
    """
    row = float(m * topk) / ep
    local = num_expert / ep
    return max(row, 1.0), min(local, max(row, 1.0))
