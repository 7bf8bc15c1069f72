"""Time of the backward pass of a fused attention kernel: five products a tile over the cores, beside device memory.

A thread block (CTA) holds a block of keys and goes through the tiles of queries that see it. It computes the scores
again, their gradient, and adds to the gradients of queries, keys and values: five products instead of the two of the
forward pass (Dao 2023, "FlashAttention-2", section 2.3.2):

    FLOP a pair and head = 2 (3 head_dim + 2 v_head_dim)

    t = launch + max(t_core, t_mem)
"""

import math

import numpy as np
import numpy.typing as npt

from kernels.attention_work import (
    CAUSAL,
    HEAD_DIM,
    NUM_HEAD,
    V_HEAD_DIM,
    WINDOW,
    Shape,
    kv_token_byte,
    num_block,
    num_pair,
    query_token_byte,
)
from kernels.jit import njit
from kernels.machine import MEM_BYTE_PER_S, NUM_CORE, NUM_FIT
from kernels.optable import BOUND_COMPUTE, BOUND_LAUNCH, BOUND_MEMORY, WorkTable

Floats = npt.NDArray[np.float64]

BACKWARD_FIT: tuple[str, ...] = (
    "launch_s",  # start and end: row sums of the output's gradient before, conversion of the queries' after
    "compute_eff",  # share of a core's peak in the tile products
    "soft_flop",  # softmax and its gradient of a pair, as tensor FLOPs that could have run
    "tile",  # queries of a tile and keys of a block; 1: pairs as they are (ideal)
    "tail",  # how much of the longest CTA stands out when there are more CTAs than cores
    "mem_eff",  # share of the datasheet's memory bandwidth
)
LAUNCH_S, COMPUTE_EFF, SOFT_FLOP, TILE, TAIL, MEM_EFF = range(len(BACKWARD_FIT))
IDEAL_BACKWARD: tuple[float, ...] = (0.0, 1.0, 0.0, 1.0, 0.0, 1.0)
assert len(BACKWARD_FIT) <= NUM_FIT


@njit
def backward_pair_flop(shape: Shape) -> float:
    """FLOPs of the backward pass for one query row on one key, over all heads.

    >>> from kernels.attention_work import attention_shape
    >>> backward_pair_flop(attention_shape(1, 1, 128, 128, 0, 2.0))  # 2.5 times the forward pass
    1280.0
    """
    return 2.0 * shape[NUM_HEAD] * (3.0 * shape[HEAD_DIM] + 2.0 * shape[V_HEAD_DIM])


@njit
def backward_s(
    work: WorkTable, shape: Shape, peak_flop_per_s: float, rate: Floats, fit: Floats
) -> tuple[float, float, int]:
    """Seconds, speed-of-light seconds and bound of the backward pass of the rows of `work`.

    Reads queries, keys, values, outputs and their gradients, writes the gradients of the first three.

    >>> from kernels.attention_work import attention_shape
    >>> from kernels.machine import RATES
    >>> from kernels.optable import empty
    >>> rate, fit = np.ones(len(RATES)), np.zeros(32); fit[: len(IDEAL_BACKWARD)] = IDEAL_BACKWARD
    >>> _, work = empty(0, 1); work["query_len"], work["kv_len"], work["causal"] = 3, 3, 1
    >>> backward_s(work, attention_shape(1, 1, 2, 2, 0, 2.0), 1.0, rate, fit)  # 6 pairs x 20 FLOP
    (120.0, 120.0, 1)
    """
    tile = max(1, int(fit[TILE]))
    window = int(shape[WINDOW])
    pair, block, cta, row, key, longest = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(len(work)):
        one = work[i]
        count, query_len, kv_len, causal = one["count"], one["query_len"], one["kv_len"], one["causal"]
        pair += count * float(num_pair(query_len, kv_len, causal, window))
        block += count * float(num_block(query_len, kv_len, causal, window, 1, tile, tile))
        cta += count * math.ceil(kv_len / tile)
        row += float(count * query_len)
        key += float(count * kv_len)
        seen = query_len if causal != CAUSAL or window <= 0 else min(query_len, window + tile)
        longest = max(longest, math.ceil(seen / tile))
    if row <= 0.0:
        return 0.0, 0.0, BOUND_LAUNCH
    # queries, outputs and both gradients; the fp32 sum of the queries' gradient; keys, values and theirs
    byte = 2.0 * row * query_token_byte(shape) + 2.0 * key * kv_token_byte(shape)
    flop_s = pair * backward_pair_flop(shape) / peak_flop_per_s
    ideal_s = max(flop_s, byte / rate[MEM_BYTE_PER_S])
    core_flop_per_s = peak_flop_per_s / rate[NUM_CORE] * fit[COMPUTE_EFF]
    tile_flop = float(tile * tile) * (backward_pair_flop(shape) / shape[NUM_HEAD] + fit[SOFT_FLOP])
    block_s = tile_flop / core_flop_per_s
    num_cta = cta * shape[NUM_HEAD]
    core_s = block * shape[NUM_HEAD] * block_s / rate[NUM_CORE]
    if fit[TAIL] > 0.0:
        stand_out_s = fit[TAIL] * longest * block_s * max(0.0, 1.0 - rate[NUM_CORE] / max(num_cta, 1.0))
        core_s = max(longest * block_s, core_s + stand_out_s)
    mem_s = (byte + 8.0 * row * shape[NUM_HEAD] * shape[HEAD_DIM]) / (rate[MEM_BYTE_PER_S] * fit[MEM_EFF])
    if tile == 1:  # ideal: nothing is kept in fp32
        mem_s = byte / rate[MEM_BYTE_PER_S]
    seconds = max(fit[LAUNCH_S] + max(core_s, mem_s), ideal_s)
    bound = BOUND_COMPUTE if core_s >= mem_s else BOUND_MEMORY
    if fit[LAUNCH_S] > 0.5 * seconds:
        bound = BOUND_LAUNCH
    return seconds, ideal_s, bound
