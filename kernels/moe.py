"""Time of a fused mixture-of-experts layer on one device: two grouped multiplies over the experts that it holds.

Each expert with work reads its weights, however few its rows, and fills whole row tiles (`kernels.moe_tile`); a second
row tile of an expert whose matrices overflow the cache reads them again. The tiles of a multiply run in waves over the
cores, as in a plain one; beside them runs device memory, joined with a p-norm, one multiply after the other. A kernel
whose grid is made before rows are counted (Triton's) also starts the tiles that find none. Sorting, the activation and
the sum over top-k move rows: those of the local experts, and (in kernels that keep a slot for every token and expert)
all rows, local or not, and those of the tokens.

    t = launch + sum over both multiplies of (core^p + mem^p)^(1/p) + bytes of rows / rates of rows
"""

import math

import numpy as np
import numpy.typing as npt

from kernels.gemm import p_norm
from kernels.jit import njit
from kernels.machine import L2_BYTE, L2_BYTE_PER_S, MEM_BYTE_PER_S, NUM_CORE, NUM_FIT, PIM_EXPERT, dispatch
from kernels.moe_load import local_load
from kernels.moe_tile import grid_tile, moe_tile, sorts
from kernels.optable import BOUND_COMPUTE, BOUND_LAUNCH, BOUND_MEMORY

Floats = npt.NDArray[np.float64]

MOE_FIT: tuple[str, ...] = (
    "launch_s",  # gate, sort, two grouped multiplies, activation, sum over top-k
    "ep_s",  # more of it where rows are sorted by expert, or experts are spread over devices: finding the local ones
    "compute_eff",  # of the datasheet's dense peak inside the k loop
    "mem_eff",  # of the datasheet's memory bandwidth
    "p",  # norm that joins cores and memory; 0 stands for the maximum
    "cta_s",  # prologue and epilogue of a tile
    "core_byte_per_s",  # operand stream into one core
    "l2_share",  # of the second-level cache that keeps an expert's matrix from one row tile to the next
    "row_byte_per_s",  # rows of the local experts moved outside the multiplies
    "all_byte_per_s",  # all rows moved outside the multiplies, one an expert of a token
    "sum_byte_per_s",  # and one a token: read, and summed over its experts
    "tile_m",  # rows of a tile, or a rule of `kernels.moe_tile`; 0: no tiles (ideal)
    "empty_s",  # a tile of the grid that finds no rows and ends
    "odd_share",  # of the operand stream, where rows of weights are not aligned
    "warm_share",  # benchmark only: of the second-level cache that holds experts from one run to the next; 0: none
    "clumped",  # benchmark only: 1 where its draw wakes the last experts all on the timed rank
    "wide_gain",  # of compute_eff, in tiles of more than 128 columns
)
(
    LAUNCH_S, EP_S, COMPUTE_EFF, MEM_EFF, P, CTA_S, CORE_BYTE_PER_S, L2_SHARE, ROW_BYTE_PER_S, ALL_BYTE_PER_S,
    SUM_BYTE_PER_S, TILE_M, EMPTY_S, ODD_SHARE, WARM_SHARE, CLUMPED, WIDE_GAIN,
) = range(len(MOE_FIT))  # fmt: skip

IDEAL_MOE: tuple[float, ...] = (
    0.0, 0.0, 1.0, 1.0, 0.0, 0.0, math.inf, 0.0, math.inf, math.inf, math.inf, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0,
)  # fmt: skip
assert len(MOE_FIT) == len(IDEAL_MOE) <= NUM_FIT

USUAL_COLUMN = 128.0  # of a tile
LEAST_TILE_M = 64.0  # smaller row tiles keep the tensor pipe no shorter
WHOLE_TILE = 16384.0  # values of a result that one core works on at a time: a tile of 128 x 128 fills it,
MOST_BESIDE = 4.0  # smaller ones run side by side
OWN_SUM = 4  # experts a token up to which vLLM sums with a kernel of its own (from two on), else with the framework's
ALIGNED = 16  # values: rows of weights whose length is a multiple are loaded by vectors (Triton's rule)


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

    `m` tokens reach all ranks together, before top-k; an expert is gated: `3 * hidden * inter` weights.
    """
    width = inter / tp
    ideal = fit[TILE_M] == 0.0
    tile = moe_tile(m, max(num_expert // ep, 1), inter // tp, fit[TILE_M], float(m) * topk / num_expert)
    row, active, row_tile = local_load(m, num_expert, topk, ep, skew, tile[0], fit[CLUMPED] > 0.0)
    flop_s = 6.0 * row * hidden * width / peak_flop_per_s
    expert_byte = 3.0 * hidden * width * weight_byte_per_value
    io_byte = 2.0 * min(row, float(m)) * hidden * act_byte_per_value
    ideal_s = max(flop_s, (active * expert_byte + io_byte) / rate[MEM_BYTE_PER_S])
    flop, byte = 6.0 * row * hidden * width, active * expert_byte + io_byte
    if ideal:
        found = (ideal_s, ideal_s, BOUND_COMPUTE if flop_s >= ideal_s else BOUND_MEMORY)
        return dispatch(found, flop, byte, rate, int(rate[PIM_EXPERT]))
    grid = grid_tile(m, num_expert, topk, row_tile, fit[TILE_M], tile[0])
    load = (row_tile, grid, row / active, active)
    held = 0.0
    if fit[WARM_SHARE] > 0.0 and rate[L2_BYTE_PER_S] > 0.0:
        held = min(1.0, max(0.0, 2.0 - active * expert_byte / (fit[WARM_SHARE] * rate[L2_BYTE])))
    stored = (weight_byte_per_value, act_byte_per_value)
    up_s, up_mem_s = _grouped(load, tile, 2.0 * width, float(hidden), stored, peak_flop_per_s, rate, fit)
    down_s, down_mem_s = _grouped(load, tile, float(hidden), width, stored, peak_flop_per_s, rate, fit)
    launch_s = fit[LAUNCH_S] + (fit[EP_S] if ep > 1 or sorts(m, num_expert, topk, fit[TILE_M]) else 0.0)
    if held > 0.0:
        warm = 1.0 - held * (1.0 - rate[MEM_BYTE_PER_S] * fit[MEM_EFF] / rate[L2_BYTE_PER_S])
        up_mem_s, down_mem_s = up_mem_s * warm, down_mem_s * warm
    seconds = launch_s + p_norm(up_s, up_mem_s, fit[P]) + p_norm(down_s, down_mem_s, fit[P])
    seconds += row * 6.0 * width / fit[ROW_BYTE_PER_S]  # 2 B a value: gate and up in, their product out
    seconds += m * topk * (6.0 * width + 4.0 * hidden) / fit[ALL_BYTE_PER_S]  # the same, and rows in and out
    seconds += m * 4.0 * hidden / fit[ALL_BYTE_PER_S if 2 <= topk <= OWN_SUM else SUM_BYTE_PER_S]
    bound = BOUND_COMPUTE if up_s + down_s >= up_mem_s + down_mem_s else BOUND_MEMORY
    if launch_s > 0.5 * seconds:
        bound = BOUND_LAUNCH
    floor_s = flop_s if held > 0.0 else ideal_s  # what a benchmark leaves in cache costs no memory
    return dispatch((max(seconds, floor_s), ideal_s, bound), flop, byte, rate, int(rate[PIM_EXPERT]))


@njit
def _grouped(
    load: tuple[float, float, float, float],
    tile: tuple[float, float, float, float],
    n: float,
    k: float,
    stored: tuple[float, float],
    peak_flop_per_s: float,
    rate: Floats,
    fit: Floats,
) -> tuple[float, float]:
    """Seconds of the cores, in whole waves, and of the memory of one multiply. `load`: row tiles with work, of the
    grid, rows of an expert, experts with work; `tile`: rows, columns, steps of k, row tiles that share a pass over the
    weights; `stored`: bytes of a weight and of an activation."""
    row_tile, grid, row_m, active = load
    tile_m, tile_n, tile_k, group = tile
    flop_s = 2.0 * rate[NUM_CORE] / (peak_flop_per_s * fit[COMPUTE_EFF])
    multiply_s = max(tile_m, LEAST_TILE_M) * tile_n * flop_s / (fit[WIDE_GAIN] if tile_n > USUAL_COLUMN else 1.0)
    byte_per_s = fit[CORE_BYTE_PER_S] * (1.0 if tile_k == 1.0 or _aligned(k) else fit[ODD_SHARE])
    whole = tile_k > 1.0  # Triton: several tiles on a core; else one at a time, and rows that are not there stay unread
    stream_s = ((tile_m if whole else min(tile_m, row_m)) * stored[1] + min(n, tile_n) * stored[0]) / byte_per_s
    column = math.ceil(n / tile_n - 1e-9)
    deep = math.ceil(k / tile_k - 1e-9) * tile_k
    beside = max(1.0, min(MOST_BESIDE, WHOLE_TILE / (tile_m * tile_n))) if whole else 1.0  # tiles of a core at a time
    each = row_tile * column / rate[NUM_CORE]
    wave = max(1.0, math.ceil(each / beside))
    beside = min(beside, max(1.0, each))
    wave_s = beside * (fit[CTA_S] + deep * max(multiply_s, stream_s))
    empty_s = max(0.0, grid - row_tile) * column * fit[EMPTY_S] / rate[NUM_CORE]
    seconds = wave * wave_s + empty_s  # those without rows come last, beside the last wave
    matrix = n * k * stored[0]
    cache = fit[L2_SHARE] * rate[L2_BYTE]
    flight = min(matrix, rate[NUM_CORE] * beside / group * tile_n * k * stored[0])  # of it, what tiles at work read
    again = _missed(matrix, cache) / group + _missed(flight, cache) * (1.0 - 1.0 / group)
    byte = matrix * (active + (row_tile - active) * again) + row_m * active * (k if n > k else n) * stored[1]
    return seconds, byte / (rate[MEM_BYTE_PER_S] * fit[MEM_EFF])


@njit
def _aligned(k: float) -> bool:
    """Whether rows of `k` weights are loaded by vectors. A plain expert of two matrices comes as a gated one of two
    thirds its width, rounded: what counts is its own.

    >>> _aligned(96.0), _aligned(88.0), _aligned(1237.0)  # the last of 1856
    (True, False, True)
    """
    plain = 1.5 * k
    return k % ALIGNED == 0.0 or abs(plain - ALIGNED * round(plain / ALIGNED)) <= 0.75


@njit
def _missed(byte: float, cache: float) -> float:
    """Share of `byte` that a cache has lost when they are read again."""
    return min(1.0, max(0.0, byte / cache - 1.0))
