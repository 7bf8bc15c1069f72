"""Time of a matrix multiply as the library that runs it works: tiles, waves, split-K, launch, caches, power.

A library cuts the `m x n` result into tiles, one a thread block (CTA), and runs them in waves over the cores. In
a tile the k loop multiplies at the core's peak rate, streams its operand rows through the core's share of the
cache bandwidth, and pays a latency a k step; the epilogue writes the tile. When tiles are too few to fill the
cores the k loop is split, at the cost of a reduction. The library takes the fastest of its tiles and splits.
Device memory works beside the cores: weights always come from there, activations only where operands and
result together overflow the second-level cache. Both are joined with a p-norm, and a multiply that draws full
power runs at a lower clock:

    t = launch + (core^p + mem^p)^(1/p) + reduction of a split loop;  t *= 1 + throttle * (achieved / peak)^2
"""

import math

import numpy as np
import numpy.typing as npt

from kernels.jit import njit, njit_inline
from kernels.machine import L2_BYTE, MEM_BYTE_PER_S, NUM_CORE, NUM_FIT
from kernels.optable import BOUND_COMPUTE, BOUND_LAUNCH, BOUND_MEMORY

Floats = npt.NDArray[np.float64]

GEMM_FIT: tuple[str, ...] = (
    "launch_s",  # start and end of a kernel inside a CUDA graph
    "compute_eff",  # of the datasheet's dense peak inside the k loop, at boost clock (may exceed 1)
    "mem_eff",  # of the datasheet's memory bandwidth
    "p",  # norm that joins cores and memory; 0 stands for the maximum
    "step_s",  # latency a unit of k in a k loop that is not fed faster; rule 3: at the head of a column's weights
    "core_byte_per_s",  # operand stream into one core
    "write_byte_per_s",  # epilogue: result written by one core; rule 3: weights packed anew beyond a panel of rows
    "split_s",  # reduction of a split k loop
    "tail",  # share of an incomplete wave that overlaps with its neighbours (0: whole waves)
    "throttle",  # slowdown at full power
    "l2_share",  # of the second-level cache that holds operands from one kernel to the next
    "l2_byte_per_s",  # reading what it holds
    "tile_rule",  # 0: no tiles (ideal), 1: fastest of the set, 2: by m, 3: none, weights packed first (a CPU's library)
    "row_s",  # quantising activations before the multiply: a row ...
    "row_byte_per_s",  # ... and its bytes
    "weight_copy",  # benchmark only: copies of the weights that it rotates; 0: weights never stay in cache
    "host_s",  # benchmark only: eager dispatch that hides a shorter kernel; 0: CUDA graph
)
(
    LAUNCH_S, COMPUTE_EFF, MEM_EFF, P, STEP_S, CORE_BYTE_PER_S, WRITE_BYTE_PER_S, SPLIT_S, TAIL, THROTTLE, L2_SHARE,
    L2_BYTE_PER_S, TILE_RULE, ROW_S, ROW_BYTE_PER_S, WEIGHT_COPY, HOST_S,
) = range(len(GEMM_FIT))  # fmt: skip

IDEAL_GEMM: tuple[float, ...] = (
    0.0, 1.0, 1.0, 0.0, 0.0, math.inf, math.inf, 0.0, 0.0, 0.0, 0.0, math.inf, 0.0, 0.0, math.inf, 0.0, 0.0,
)  # fmt: skip
assert len(GEMM_FIT) == len(IDEAL_GEMM) <= NUM_FIT

TILE_M = (64.0, 64.0, 128.0, 128.0)  # tile shapes that cuBLAS and CUTLASS choose from; seven gained 0.1 % error
TILE_N = (32.0, 64.0, 128.0, 256.0)
PER_TILE_M = tuple(1.0 / x for x in TILE_M)  # powers of two: exact
PER_TILE_N = tuple(1.0 / x for x in TILE_N)
MAX_SPLIT = 32.0
MIN_SPLIT_K = 128.0  # k that a part of a split loop keeps
VECTOR_M = 3  # rule 3: up to so many rows the weights are multiplied where they lie, as vectors
PANEL_M = 32  # rule 3: rows of a panel
HEAD_BYTE = 1024.0  # rule 3: of a column's weights, that arrive before they are streamed (seen on a Xeon)
SMALL_M, MIDDLE_M = 64, 128  # rule 2: 64x64 tiles up to the one, 64x128 up to the other, 128x128 beyond


@njit_inline
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
    square = ratio * ratio
    if p == 4.0:
        return high * math.sqrt(math.sqrt(1.0 + square * square))
    if p == 2.0:
        return high * math.sqrt(1.0 + square)
    if p == 1.0:
        return high + low
    return high * (1.0 + ratio**p) ** (1.0 / p)


@njit_inline
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

    Bytes are of all instances: operands read once from device memory, the result written once. The time is
    never below speed of light, except that what a benchmark leaves in cache (`weight_copy`) costs no memory.

    >>> from kernels.machine import RATES
    >>> rate = np.ones(len(RATES)); fit = np.array(IDEAL_GEMM)
    >>> gemm_s(2, 3, 4, 1, 24.0, 16.0, 12.0, 2.0, rate, fit)  # 48 FLOP at 2/s; 52 B at 1/s
    (52.0, 52.0, 2)
    """
    flop_s = 2.0 * m * n * k * batch / peak_flop_per_s
    byte_s = 1.0 / rate[MEM_BYTE_PER_S]
    act = act_byte + write_byte
    ideal_s = max(flop_s, (weight_byte + act) * byte_s)
    held = 0.0
    cache = fit[L2_SHARE] * rate[L2_BYTE]
    if cache > 0.0:
        held = act * min(1.0, max(0.0, 2.0 - (weight_byte + act) / cache))
        if fit[WEIGHT_COPY] > 0.0:
            held += weight_byte * min(1.0, max(0.0, 2.0 - (fit[WEIGHT_COPY] * weight_byte + act) / cache))
    mem_s = (weight_byte + act - held) * byte_s / fit[MEM_EFF] + held / fit[L2_BYTE_PER_S]
    if fit[TILE_RULE] == 0.0:
        core_s, split_s = flop_s / fit[COMPUTE_EFF], math.inf
    elif fit[TILE_RULE] == 3.0:
        pack_s = weight_byte / fit[CORE_BYTE_PER_S] if m > VECTOR_M else 0.0
        pack_s += weight_byte / fit[WRITE_BYTE_PER_S] if m > PANEL_M else 0.0
        head_s = min(float(n * batch), weight_byte / HEAD_BYTE) * fit[STEP_S]
        core_s, split_s = flop_s / fit[COMPUTE_EFF] + pack_s + head_s, math.inf
    else:
        core_s, split_s = tiles_s(m, n, k, batch, weight_byte, write_byte, peak_flop_per_s, rate, fit)
    seconds = p_norm(core_s, mem_s, fit[P])
    if max(split_s, mem_s) + fit[SPLIT_S] < seconds:  # else no split can win
        seconds = min(seconds, p_norm(split_s, mem_s, fit[P]) + fit[SPLIT_S])
    seconds += fit[LAUNCH_S]
    use = flop_s / seconds
    seconds *= 1.0 + fit[THROTTLE] * use * use
    if fit[ROW_S] > 0.0:
        seconds += m * (fit[ROW_S] + k * 3.0 / fit[ROW_BYTE_PER_S])  # 2 B in, 1 B out a value
    bound = BOUND_COMPUTE if core_s >= mem_s else BOUND_MEMORY
    if fit[LAUNCH_S] > 0.5 * seconds or seconds < fit[HOST_S]:
        bound = BOUND_LAUNCH
    floor_s = flop_s if fit[WEIGHT_COPY] > 0.0 else ideal_s
    return max(seconds, fit[HOST_S], floor_s), ideal_s, bound


@njit_inline
def tiles_s(
    m: int,
    n: int,
    k: int,
    batch: int,
    weight_byte: float,
    write_byte: float,
    peak_flop_per_s: float,
    rate: Floats,
    fit: Floats,
) -> tuple[float, float]:
    """Seconds of the cores with the fastest tile, whole k loops and (infinite where none is) split ones."""
    num_core = rate[NUM_CORE]
    per_core = batch / num_core
    flop_s = 2.0 * num_core / (peak_flop_per_s * fit[COMPUTE_EFF])  # a multiply-add of one core
    value_s = weight_byte / (float(n) * k * batch * fit[CORE_BYTE_PER_S])
    write_s = write_byte / (float(m) * n * batch * fit[WRITE_BYTE_PER_S])
    step_s = fit[STEP_S]
    tail = fit[TAIL]
    high, wide, deep = float(m), float(n), float(k)
    most = min(MAX_SPLIT, np.floor(deep * (1.0 / MIN_SPLIT_K)))
    if fit[TILE_RULE] == 2.0:
        tile_m = 64.0 if m <= MIDDLE_M else 128.0
        tile_n = 64.0 if m <= SMALL_M else 128.0
        row_m, row_n = min(tile_m, high), min(tile_n, wide)
        loop_s = deep * (max(tile_m * tile_n * flop_s, (row_m + row_n) * value_s) + step_s)
        wave = np.ceil(high / tile_m) * np.ceil(wide / tile_n) * per_core
        whole = np.ceil(wave)
        return max(1.0, whole + tail * (wave - whole)) * (row_m * row_n * write_s + loop_s), math.inf
    best_s = math.inf
    best_split_s = math.inf
    for tile in range(len(TILE_M)):  # branch-free: compiled to vector code
        tile_m, tile_n = TILE_M[tile], TILE_N[tile]
        row_m, row_n = min(tile_m, high), min(tile_n, wide)
        loop_s = deep * (max(tile_m * tile_n * flop_s, (row_m + row_n) * value_s) + step_s)
        end_s = row_m * row_n * write_s
        wave = np.ceil(high * PER_TILE_M[tile]) * np.ceil(wide * PER_TILE_N[tile]) * per_core
        whole = np.ceil(wave)
        best_s = min(best_s, max(1.0, whole + tail * (wave - whole)) * (end_s + loop_s))
        split = min(np.floor(1.0 / wave), most)
        best_split_s = min(best_split_s, end_s + loop_s / max(split, 1.0) if split > 1.0 else math.inf)
    return best_s, best_split_s


@njit
def gemm_batch(
    m: npt.NDArray[np.int64],
    n: npt.NDArray[np.int64],
    k: npt.NDArray[np.int64],
    value_byte: tuple[float, float, float],
    peak_flop_per_s: float,
    rate: Floats,
    fit: Floats,
    seconds: Floats,
) -> None:
    """`gemm_s` of many shapes; `value_byte` of a weight, an activation and a result."""
    for i in range(len(m)):
        weight_byte = value_byte[0] * n[i] * k[i]
        act_byte = value_byte[1] * m[i] * k[i]
        write_byte = value_byte[2] * m[i] * n[i]
        seconds[i] = gemm_s(m[i], n[i], k[i], 1, weight_byte, act_byte, write_byte, peak_flop_per_s, rate, fit)[0]
