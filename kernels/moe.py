"""Time of a fused mixture-of-experts layer on one device: two grouped multiplies over the experts that it holds.

Each expert with work reads its weights, however few its rows, and fills whole row tiles; a second row tile of an
expert whose matrices overflow the cache reads them again. The tiles of both multiplies run in waves over the
cores, as in a plain multiply; beside them runs device memory, joined with a p-norm. Sorting, the activation and
the sum over top-k move rows: those of the local experts, and (in kernels that keep a slot for every token and
expert) all rows, local or not.

    t = launch + (core^p + mem^p)^(1/p) + row bytes / row rate + all rows' bytes / all-row rate
"""

import math

import numpy as np
import numpy.typing as npt

from kernels.gemm import p_norm
from kernels.jit import njit
from kernels.machine import L2_BYTE, MEM_BYTE_PER_S, NUM_CORE, NUM_FIT, PIM_EXPERT, dispatch
from kernels.moe_load import local_load
from kernels.optable import BOUND_COMPUTE, BOUND_LAUNCH, BOUND_MEMORY

Floats = npt.NDArray[np.float64]

MOE_FIT: tuple[str, ...] = (
    "launch_s",  # gate, sort, two grouped multiplies, activation, sum over top-k
    "ep_s",  # more of it where experts are spread over devices: finding the local ones
    "compute_eff",  # of the datasheet's dense peak inside the k loop
    "mem_eff",  # of the datasheet's memory bandwidth
    "p",  # norm that joins cores and memory; 0 stands for the maximum
    "cta_s",  # prologue and epilogue of a tile
    "core_byte_per_s",  # operand stream into one core
    "l2_share",  # of the second-level cache that keeps an expert's matrix from one row tile to the next
    "row_byte_per_s",  # rows of the local experts moved outside the multiplies
    "all_byte_per_s",  # all rows moved outside the multiplies
    "tile_m",  # row tile of an expert; 1: by m, as Triton's default configurations; 0: no tiles (ideal)
)
(
    LAUNCH_S, EP_S, COMPUTE_EFF, MEM_EFF, P, CTA_S, CORE_BYTE_PER_S, L2_SHARE, ROW_BYTE_PER_S, ALL_BYTE_PER_S, TILE_M,
) = range(len(MOE_FIT))  # fmt: skip

IDEAL_MOE: tuple[float, ...] = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, math.inf, 0.0, math.inf, math.inf, 0.0)
assert len(MOE_FIT) == len(IDEAL_MOE) <= NUM_FIT

TILE_N = 128.0
LEAST_TILE_M = 64.0  # smaller row tiles keep the tensor pipe no shorter
GROUPED_M = 512  # Triton: from here on, tiles are ordered so that 16 row tiles share a pass over the weights;
GROUP = 16.0  # kernels of one fixed row tile (CUTLASS) do so always


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
    ideal = fit[TILE_M] == 0.0
    tile_m = fit[TILE_M]
    if tile_m <= 1.0:
        tile_m = 16.0 if m <= 32 else (32.0 if m <= 96 else (64.0 if m <= GROUPED_M else 128.0))
    row, active, tile = local_load(m, num_expert, topk, ep, skew, tile_m)
    width = inter / tp
    flop_s = 6.0 * row * hidden * width / peak_flop_per_s
    expert_byte = 3.0 * hidden * width * weight_byte_per_value
    io_byte = 2.0 * min(row, float(m)) * hidden * act_byte_per_value
    ideal_s = max(flop_s, (active * expert_byte + io_byte) / rate[MEM_BYTE_PER_S])
    flop, byte = 6.0 * row * hidden * width, active * expert_byte + io_byte
    if ideal:
        found = (ideal_s, ideal_s, BOUND_COMPUTE if flop_s >= ideal_s else BOUND_MEMORY)
        return dispatch(found, flop, byte, rate, int(rate[PIM_EXPERT]))
    row_m = row / active
    core_s = _grouped_s(tile, tile_m, row_m, 2.0 * width, float(hidden), weight_byte_per_value, act_byte_per_value,
                        peak_flop_per_s, rate, fit) + _grouped_s(
        tile, tile_m, row_m, float(hidden), width, weight_byte_per_value, act_byte_per_value,
        peak_flop_per_s, rate, fit)  # fmt: skip
    again = min(1.0, max(0.0, expert_byte / 1.5 / (fit[L2_SHARE] * rate[L2_BYTE]) - 1.0))
    if m > GROUPED_M or fit[TILE_M] > 1.0:
        again /= GROUP
    mem_byte = expert_byte * (active + (tile - active) * again) + 2.0 * row * hidden * act_byte_per_value
    mem_s = mem_byte / (rate[MEM_BYTE_PER_S] * fit[MEM_EFF])
    launch_s = fit[LAUNCH_S] + (fit[EP_S] if ep > 1 else 0.0)
    seconds = launch_s + p_norm(core_s, mem_s, fit[P])
    seconds += row * 6.0 * width / fit[ROW_BYTE_PER_S]  # 2 B a value: gate and up in, their product out
    seconds += m * topk * (6.0 * width + 4.0 * hidden) / fit[ALL_BYTE_PER_S]  # the same, and rows in and out
    bound = BOUND_COMPUTE if core_s >= mem_s else BOUND_MEMORY
    if launch_s > 0.5 * seconds:
        bound = BOUND_LAUNCH
    return dispatch((max(seconds, ideal_s), ideal_s, bound), flop, byte, rate, int(rate[PIM_EXPERT]))


@njit
def _grouped_s(
    tile: float,
    tile_m: float,
    row_m: float,
    n: float,
    k: float,
    weight_byte: float,
    act_byte: float,
    peak_flop_per_s: float,
    rate: Floats,
    fit: Floats,
) -> float:
    """Seconds of the cores for `tile` row tiles times the columns of one multiply, in whole waves."""
    flop_s = 2.0 * rate[NUM_CORE] / (peak_flop_per_s * fit[COMPUTE_EFF])
    multiply_s = max(tile_m, LEAST_TILE_M) * TILE_N * flop_s
    stream_s = (min(tile_m, row_m) * act_byte + min(n, TILE_N) * weight_byte) / fit[CORE_BYTE_PER_S]
    wave = max(1.0, math.ceil(tile * math.ceil(n / TILE_N - 1e-9) / rate[NUM_CORE]))
    return wave * (fit[CTA_S] + k * max(multiply_s, stream_s))
