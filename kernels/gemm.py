"""Time of a matrix multiply as the library that runs it works: tiles, waves, split-K, launch, memory.

A library cuts the `m x n` result into tiles, one a thread block (CTA), and runs them in waves over the cores.
Within a tile the k loop multiplies at the core's peak and streams its operand rows at the core's share of the
cache bandwidth. Too few tiles leave cores idle, so the k loop is split and partial sums are combined. A
library that searches (cuBLAS) takes the fastest of its tiles; one that dispatches on m takes the tile of its
table. Beside the cores runs device memory, joined with a p-norm:

    t = launch + (t_core^p + t_mem^p)^(1/p) + combine
"""

import math

import numpy as np
import numpy.typing as npt

from kernels.jit import njit
from kernels.machine import MEM_BYTE_PER_S, NUM_CORE, NUM_FIT
from kernels.optable import BOUND_COMPUTE, BOUND_LAUNCH, BOUND_MEMORY

Floats = npt.NDArray[np.float64]

GEMM_FIT: tuple[str, ...] = (
    "launch_s",  # start and end of a kernel inside a CUDA graph
    "compute_eff",  # of the datasheet's dense peak, inside the k loop
    "mem_eff",  # of the datasheet's memory bandwidth
    "p",  # norm that joins cores and memory; 0 stands for the maximum
    "cta_s",  # prologue and epilogue of a tile
    "core_byte_per_s",  # operand stream into one core
    "split_s",  # a split k loop: partial sums and the second pass
    "tile_rule",  # 0: no tiles (ideal), 1: fastest of the set, 2: by m
    "row_s",  # quantising activations before the multiply: a row
    "row_byte_per_s",  # and its bytes
    "host_s",  # eager dispatch that hides the kernel where no CUDA graph is used
)
(
    LAUNCH_S, COMPUTE_EFF, MEM_EFF, P, CTA_S, CORE_BYTE_PER_S, SPLIT_S, TILE_RULE,
    ROW_S, ROW_BYTE_PER_S, HOST_S,
) = range(len(GEMM_FIT))  # fmt: skip

IDEAL_GEMM: tuple[float, ...] = (0.0, 1.0, 1.0, 0.0, 0.0, math.inf, 0.0, 0.0, 0.0, math.inf, 0.0)

TILE_M = (64, 64, 128, 128, 256, 128)
TILE_N = (64, 128, 64, 128, 128, 256)
assert len(GEMM_FIT) <= NUM_FIT


@njit
def p_norm(a: float, b: float, p: float) -> float:
    """`(a^p + b^p)^(1/p)` of two non-negative times; `p` = 0 stands for the maximum.

    >>> p_norm(3.0, 4.0, 2.0), p_norm(3.0, 4.0, 1.0), p_norm(3.0, 4.0, 0.0)
    (5.0, 7.0, 4.0)
    """
    high = max(a, b)
    low = min(a, b)
    if p == 0.0 or low <= 0.0:
        return high
    ratio = low / high
    if p == 1.0:
        return high + low
    if p == 2.0:
        return high * math.sqrt(1.0 + ratio * ratio)
    return high * (1.0 + ratio**p) ** (1.0 / p)


@njit
def gemm_s(
    m: int,
    n: int,
    k: int,
    batch: int,
    weight_byte: float,
    act_byte: float,
    write_byte: float,
    peak_flop_per_s: float,
    rate: Floats,
    fit: Floats,
) -> tuple[float, float, int]:
    """Seconds, speed-of-light seconds and bound of `batch` products of `m x k` by `k x n`.

    Bytes are of all instances: operands read once from device memory, the result written once.

    >>> from kernels.machine import RATES
    >>> rate = np.ones(len(RATES)); fit = np.array(IDEAL_GEMM)
    >>> gemm_s(2, 3, 4, 1, 24.0, 16.0, 12.0, 2.0, rate, fit)  # 48 FLOP at 2/s; 52 B at 1/s
    (52.0, 52.0, 2)
    """
    flop = 2.0 * m * n * k * batch
    flop_s = flop / peak_flop_per_s
    byte_s = (weight_byte + act_byte + write_byte) / rate[MEM_BYTE_PER_S]
    ideal_s = max(flop_s, byte_s)
    mem_s = byte_s / fit[MEM_EFF]
    core_s = flop_s / fit[COMPUTE_EFF]
    if fit[TILE_RULE] > 0.0:
        value_byte = (weight_byte + act_byte) / ((float(m) + n) * k * batch)
        core_s = tiles_s(m, n, k, batch, value_byte, peak_flop_per_s, rate[NUM_CORE], fit)
    seconds = fit[LAUNCH_S] + p_norm(core_s, mem_s, fit[P])
    if fit[ROW_S] > 0.0:
        seconds += m * (fit[ROW_S] + k * 3.0 / fit[ROW_BYTE_PER_S])
    seconds = max(seconds, fit[HOST_S], ideal_s)
    bound = BOUND_COMPUTE if core_s >= mem_s else BOUND_MEMORY
    if fit[LAUNCH_S] > 0.5 * seconds or seconds == fit[HOST_S]:
        bound = BOUND_LAUNCH
    return seconds, ideal_s, bound


@njit
def tiles_s(
    m: int, n: int, k: int, batch: int, value_byte: float, peak_flop_per_s: float, num_core: float, fit: Floats
) -> float:
    """Seconds of the cores: the fastest tile shape and k split, quantised to whole waves."""
    flop_s = 2.0 * num_core / (peak_flop_per_s * fit[COMPUTE_EFF])  # a multiply-add of one core
    byte_s = value_byte / fit[CORE_BYTE_PER_S]
    best_s = math.inf
    for tile in range(len(TILE_M)):
        tile_m, tile_n = TILE_M[tile], TILE_N[tile]
        num_cta = ((m + tile_m - 1) // tile_m) * ((n + tile_n - 1) // tile_n) * batch
        step_s = max(tile_m * tile_n * flop_s, (min(tile_m, m) + min(tile_n, n)) * byte_s)
        split = 1
        while split <= 16:
            wave = math.ceil(num_cta * split / num_core)
            seconds = wave * (fit[CTA_S] + step_s * k / split)
            if split > 1:
                seconds += fit[SPLIT_S]
            best_s = min(best_s, seconds)
            if num_cta * split >= num_core or k < 256 * split:
                break
            split *= 2
    return best_s
