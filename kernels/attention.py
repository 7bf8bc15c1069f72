"""Time of an attention kernel: tiles of queries on blocks of keys over the cores, beside device memory.

A thread block (CTA) holds a tile of query rows and goes through blocks of keys; the multiplies run on whole
tiles, padding included, at a share of a core's peak. CTAs are handed to the cores as these fall free, so the
cores' time is the larger of the longest CTA and the balanced sum plus a tail. Decode has few queries, so a span
may be split over CTAs to fill the cores and the parts combined. Memory moves keys, values, queries and outputs
once. The two join with a p-norm:

    t = launch + (t_core^p + t_mem^p)^(1/p) + combine

Decode depends on its batch only through (num_seq, query_len, kv_sum, kv_max); prefill through features that add
over rows (and one that is a maximum), so that a batch is priced without going through its rows again.
"""

import math

import numpy as np
import numpy.typing as npt

from kernels.attention_work import (
    CAUSAL,
    HEAD_DIM,
    NUM_HEAD,
    NUM_KV_HEAD,
    SPAN,
    V_HEAD_DIM,
    WINDOW,
    Shape,
    is_latent,
    keys_seen,
    kv_token_byte,
    longest_span,
    num_block,
    num_pair,
    pair_flop,
    query_token_byte,
)
from kernels.gemm import p_norm
from kernels.jit import njit
from kernels.machine import L2_BYTE, MEM_BYTE_PER_S, NUM_CORE, NUM_FIT, PIM_ATTENTION, dispatch
from kernels.optable import BOUND_COMPUTE, BOUND_LAUNCH, BOUND_MEMORY, WorkTable

Floats = npt.NDArray[np.float64]

ATTENTION_FIT: tuple[str, ...] = (
    "launch_s",  # start and end of the kernel with nothing to do
    "seq_s",  # scheduling, a sequence
    "cta_s",  # prologue and epilogue of a CTA
    "dim_s",  # the same, a value of head_dim (keys and values): a wider tile is fetched and stored
    "row_s",  # gathering and scattering one value of one query row of a CTA
    "compute_eff",  # share of a core's peak in the tile multiplies; infinite: no cores (ideal)
    "soft_flop",  # the softmax of a query-key pair, as tensor FLOPs that could have run
    "wide_power",  # how that share falls as head_dim grows beyond 128: (128 / head_dim)^power
    "tail",  # how much of the longest CTA stands out when there are more CTAs than cores
    "mem_eff",  # share of the datasheet's memory bandwidth
    "p",  # norm that joins cores and memory; 0 stands for the maximum
    "split_s",  # combining, a part of a split span
    "split_max",  # most parts
    "merge_s",  # the kernel that combines parts, or merges a shared span's result: its launch
    "mask_s",  # a CTA whose blocks are cut by a window, for a head_dim of 64
    "mask_power",  # and how that falls as head_dim grows
    "gather_s",  # kernels that bring the heads of a KV group together before and after, where each has one query
    "tile_q",  # structure: query rows of a tile
    "tile_kv_value",  # keys of a block times head_dim (rounded to 16 keys)
    "tile_kv_max",  # keys of a block at most
    "pack",  # 1: the query heads of a KV head share a tile
    "cta_per_core",
    # spans are split where a KV head serves at least this many query heads; 0: never; below 1: always into the most
    # parts, whatever there is to do, where a step of so few sequences is replayed from a CUDA graph (`GRAPH_SEQ`)
    "split_group",
    "warm_share",  # share of L2 that still holds the operands when one launch is repeated; 0 between other operators
    "l2_ratio",  # L2 bandwidth over device memory bandwidth
    "cold_s",  # memory's slow start: the loss once half an L2 or more comes from memory
)
(
    LAUNCH_S, SEQ_S, CTA_S, DIM_S, ROW_S, COMPUTE_EFF, SOFT_FLOP, WIDE_POWER, TAIL, MEM_EFF, P,
    SPLIT_S, SPLIT_MAX, MERGE_S, MASK_S, MASK_POWER, GATHER_S,
    TILE_Q, TILE_KV_VALUE, TILE_KV_MAX, PACK, CTA_PER_CORE, SPLIT_GROUP, WARM_SHARE, L2_RATIO, COLD_S,
) = range(len(ATTENTION_FIT))  # fmt: skip

IDEAL_ATTENTION: tuple[float, ...] = (
    0.0, 0.0, 0.0, 0.0, 0.0, math.inf, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0,
    1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0,
)  # fmt: skip
ATTN_PREFILL_FIT = ATTN_DECODE_FIT = ATTENTION_FIT
IDEAL_ATTN_PREFILL = IDEAL_ATTN_DECODE = IDEAL_ATTENTION
SCORE_BYTE = NUM_FIT - 1
"""Slot of what no fit has: bytes of memory that a query-key pair of a prompt moves a head, 0 where scores stay on the
chip (fused kernels). An unfused kernel writes and reads them for the softmax and again for the second product."""
PADDED = NUM_FIT - 2
"""Slot of what no fit has either: 1 where a batch of decodes is computed at the longest span for every sequence (keys
gathered into one tensor), 0 where each reads its own."""
UNSHARED = NUM_FIT - 3
"""Likewise: 1 where each query head of a decode reads its keys and values itself, 0 where a group's share them."""
assert len(ATTENTION_FIT) <= UNSHARED

FEATURES: tuple[str, ...] = (
    "pair",  # query-key pairs
    "block",  # blocks of keys that the tiles of a KV head go through
    "cta",  # tiles of a KV head
    "row",  # query rows
    "key",  # keys read
    "seq",  # rows of work
    "merge_row",  # query rows whose partial result is merged with another span's
    "longest",  # blocks of the longest tile (a maximum; the others add)
)
NUM_FEATURE = len(FEATURES)
LATENT_TILE = 64  # query rows of a tile of latent attention: its results, 512 wide, fill the registers (FlashMLA)
GRAPH_SEQ = 512  # sequences of the largest step that a serving engine captures in a CUDA graph (vLLM)
PAIR, BLOCK, CTA, ROW, KEY, SEQ, MERGE_ROW, LONGEST = range(NUM_FEATURE)


@njit
def tile_sizes(shape: Shape, fit: Floats) -> tuple[int, int, int]:
    """Query rows of a tile, keys of a block, and query heads packed into a tile."""
    tile_q = int(fit[TILE_Q])
    if is_latent(shape[NUM_KV_HEAD], shape[HEAD_DIM], shape[V_HEAD_DIM]):
        tile_q = min(tile_q, LATENT_TILE)
    tile_kv = 1
    if fit[TILE_KV_VALUE] > 0.0:
        tile_kv = max(16, min(int(fit[TILE_KV_MAX]), int(fit[TILE_KV_VALUE] / shape[HEAD_DIM] / 16.0) * 16))
    group = max(1, int(shape[NUM_HEAD] / shape[NUM_KV_HEAD])) if fit[PACK] > 0.0 else 1
    return tile_q, tile_kv, group


@njit
def prefill_add(acc: Floats, count: int, query_len: int, kv_len: int, causal: int, shape: Shape, fit: Floats) -> None:
    """Adds `count` equal rows of work to the features `acc` (shape `[NUM_FEATURE]`, zeros to begin with)."""
    tile_q, tile_kv, group = tile_sizes(shape, fit)
    window = int(shape[WINDOW])
    acc[PAIR] += count * float(num_pair(query_len, kv_len, causal, window))
    acc[BLOCK] += count * float(num_block(query_len, kv_len, causal, window, group, tile_q, tile_kv))
    acc[CTA] += count * float((query_len * group + tile_q - 1) // tile_q)
    acc[ROW] += float(count * query_len)
    keys = keys_seen(query_len, kv_len, causal, window)
    acc[KEY] += float(count * keys)
    acc[SEQ] += float(count)
    if causal == SPAN:
        acc[MERGE_ROW] += float(count * query_len)
    seen = keys
    if causal == CAUSAL and window > 0:
        seen = min(keys, window + (tile_q + group - 1) // group)
    acc[LONGEST] = max(acc[LONGEST], float((seen + tile_kv - 1) // tile_kv))


@njit
def prefill_s(acc: Floats, shape: Shape, peak_flop_per_s: float, rate: Floats, fit: Floats) -> tuple[float, float, int]:
    """Seconds, speed-of-light seconds and bound of the rows that `acc` holds; nothing takes no time.

    >>> from kernels.attention_work import attention_shape
    >>> from kernels.machine import RATES
    >>> rate, fit, acc = np.ones(len(RATES)), np.array(IDEAL_ATTENTION), np.zeros(NUM_FEATURE)
    >>> shape = attention_shape(1, 1, 2, 2, 0, 2.0)
    >>> prefill_add(acc, 1, 3, 3, 1, shape, fit)
    >>> prefill_s(acc, shape, 1.0, rate, fit)  # 6 pairs x 8 FLOP; 3 keys x 8 B + 3 queries x 8 B
    (48.0, 48.0, 1)
    """
    if acc[ROW] <= 0.0:
        return 0.0, 0.0, BOUND_LAUNCH
    tile_q, tile_kv, group = tile_sizes(shape, fit)
    copies = shape[NUM_KV_HEAD] if fit[PACK] > 0.0 else shape[NUM_HEAD]
    byte = prefill_byte(acc, shape, fit)
    flop_s = acc[PAIR] * pair_flop(shape) / peak_flop_per_s
    block_s = _block_s(tile_q, tile_kv, shape, peak_flop_per_s, rate, fit)
    cta_s = _cta_s(min(float(tile_q), acc[ROW] * group / acc[CTA]), shape, fit)
    full_s = _cta_s(float(tile_q), shape, fit) if acc[CTA] > acc[SEQ] else cta_s  # a row of work of several tiles
    num_blocks = acc[BLOCK] * copies
    cut = group
    if acc[MERGE_ROW] >= acc[ROW]:  # spans alone: FlashAttention 2 cuts one text's keys whatever the heads
        cut = max(group, int(fit[SPLIT_GROUP]))
    core_s, combine_s = _split_s(
        acc[SEQ], acc[CTA] * copies, num_blocks, acc[LONGEST], cta_s, full_s, block_s, cut, rate, fit
    )
    combine_s += acc[SEQ] * fit[SEQ_S]
    if acc[MERGE_ROW] > 0.0:
        combine_s += fit[MERGE_S] + _merge_byte(acc[MERGE_ROW], shape) / (rate[MEM_BYTE_PER_S] * fit[MEM_EFF])
    return _join(core_s, byte, flop_s, combine_s, rate, fit)


@njit
def prefill_byte(acc: Floats, shape: Shape, fit: Floats) -> float:
    """Bytes of memory of the rows that `acc` holds: keys and values, queries and outputs, and scores that spill."""
    byte = acc[KEY] * kv_token_byte(shape) + acc[ROW] * query_token_byte(shape)
    if len(fit) > SCORE_BYTE:
        byte += acc[PAIR] * shape[NUM_HEAD] * fit[SCORE_BYTE]
    return byte


@njit
def decode_s(
    num_seq: int,
    query_len: int,
    kv_sum: int,
    kv_max: int,
    shape: Shape,
    peak_flop_per_s: float,
    rate: Floats,
    fit: Floats,
) -> tuple[float, float, int]:
    """Seconds, speed-of-light seconds and bound of `num_seq` sequences of `query_len` causal queries each; no
    sequence, no time. `kv_sum` counts the keys after the window cut them (`keys_seen`), `kv_max` is the largest
    `longest_span`.

    >>> from kernels.attention_work import attention_shape
    >>> from kernels.machine import RATES
    >>> rate, fit = np.ones(len(RATES)), np.array(IDEAL_ATTENTION)
    >>> decode_s(2, 1, 30, 20, attention_shape(2, 1, 4, 4, 0, 2.0), 1.0, rate, fit)  # 30 x 32 FLOP; 480 + 64 B
    (960.0, 960.0, 1)
    """
    if num_seq <= 0:
        return 0.0, 0.0, BOUND_LAUNCH
    if len(fit) > PADDED and fit[PADDED] > 0.0:
        kv_sum = num_seq * kv_max
    tile_q, tile_kv, group = tile_sizes(shape, fit)
    copies = shape[NUM_KV_HEAD] if fit[PACK] > 0.0 else shape[NUM_HEAD]
    if shape[WINDOW] > 0.0 and fit[SPLIT_GROUP] > 1.0:  # FlashAttention 2 packs and splits no windowed span
        group, copies = 1, shape[NUM_HEAD]
    pair = max(float(query_len) * kv_sum - 0.5 * num_seq * query_len * (query_len - 1.0), float(num_seq))
    reads = 1.0
    if len(fit) > UNSHARED and fit[UNSHARED] > 0.0:
        reads = shape[NUM_HEAD] / shape[NUM_KV_HEAD]
    byte = kv_sum * kv_token_byte(shape) * reads + float(num_seq * query_len) * query_token_byte(shape)
    flop_s = pair * pair_flop(shape) / peak_flop_per_s
    tile = (query_len * group + tile_q - 1) // tile_q
    num_cta = float(num_seq * tile) * copies
    cta_s = _cta_s(min(float(tile_q), float(query_len * group)), shape, fit)
    key = float(kv_sum) / num_seq  # of a sequence, in the mean
    longest = float(math.ceil(kv_max / tile_kv))
    if shape[WINDOW] > 0.0 and kv_max > shape[WINDOW]:  # the window ends inside blocks
        longest = float(math.ceil((shape[WINDOW] + query_len - 1.0) / tile_kv))
        share = min(1.0, key / shape[WINDOW])  # of the sequences, about
        cta_s += share * fit[MASK_S] * (64.0 / shape[HEAD_DIM]) ** fit[MASK_POWER]
    num_blocks = math.ceil(key / tile_kv) * num_cta
    block_s = _block_s(tile_q, tile_kv, shape, peak_flop_per_s, rate, fit)
    core_s, combine_s = _split_s(num_seq, num_cta, num_blocks, longest, cta_s, cta_s, block_s, group, rate, fit)
    combine_s += num_seq * fit[SEQ_S]
    if fit[GATHER_S] > 0.0 and query_len == 1 and group > 1 and shape[NUM_KV_HEAD] > 1.0 and num_seq > 1:
        moved = 2.0 * num_seq * query_len * query_token_byte(shape)  # each read once more and written once more
        combine_s += fit[GATHER_S] + moved / (rate[MEM_BYTE_PER_S] * fit[MEM_EFF])
    found = _join(core_s, byte, flop_s, combine_s, rate, fit)
    return dispatch(found, pair * pair_flop(shape), byte, rate, int(rate[PIM_ATTENTION]))


@njit
def attention_op_s(
    work: WorkTable, decode: bool, shape: Shape, peak_flop_per_s: float, rate: Floats, fit: Floats
) -> tuple[float, float, int]:
    """Seconds, speed-of-light seconds and bound of one operator's rows of work: what `price_table` calls.

    Decode rows that hold one query length, or are padded to the largest one, are priced as one batch, the same way as
    from running sums; anything else goes through the features. `fit` is the vector of the operator's kind.
    """
    if decode and len(work) > 0:
        window = int(shape[WINDOW])
        num_seq = kv_sum = kv_max = 0
        query_len = work[0]["query_len"]
        padded = len(fit) > PADDED and fit[PADDED] > 0.0
        for i in range(len(work)):
            row = work[i]
            if row["causal"] != CAUSAL or (row["query_len"] != query_len and not padded):
                query_len = 0
                break
            query_len = max(query_len, row["query_len"])
            keys = keys_seen(query_len, row["kv_len"], CAUSAL, window)
            num_seq += row["count"]
            kv_sum += row["count"] * keys
            kv_max = max(kv_max, longest_span(row["kv_len"], window))
        if query_len > 0:
            return decode_s(num_seq, query_len, kv_sum, kv_max, shape, peak_flop_per_s, rate, fit)
    acc = np.zeros(NUM_FEATURE)
    for i in range(len(work)):
        row = work[i]
        prefill_add(acc, row["count"], row["query_len"], row["kv_len"], row["causal"], shape, fit)
    return prefill_s(acc, shape, peak_flop_per_s, rate, fit)


@njit
def _cta_s(row: float, shape: Shape, fit: Floats) -> float:
    """Seconds of a CTA beside its blocks: start, a tile fetched and stored, its `row` rows gathered."""
    value = shape[HEAD_DIM] + shape[V_HEAD_DIM]
    return fit[CTA_S] + value * (fit[DIM_S] + row * fit[ROW_S])


@njit
def _split_s(
    num_seq: float,
    num_cta: float,
    num_blocks: float,
    longest: float,
    cta_s: float,
    full_s: float,
    block_s: float,
    group: int,
    rate: Floats,
    fit: Floats,
) -> tuple[float, float]:
    """Seconds of the cores, and to combine, with spans cut into parts that fill the cores; 0 to combine where the
    library does not cut them or where that is no gain.

    FlashAttention 2 takes the parts that fill whole waves, and none once 80 % of the cores have a CTA; later kernels
    give every part as many blocks as a core has to do in all, and a tenth.
    """
    whole_s = _core_s(num_cta, num_blocks, longest, cta_s, full_s, block_s, rate, fit)
    if 0.0 < fit[SPLIT_GROUP] < 1.0 and num_seq <= GRAPH_SEQ:  # parts without a block are CTAs too
        split = fit[SPLIT_MAX]
        parts_s = _core_s(num_cta * split, num_blocks, math.ceil(longest / split), cta_s, full_s, block_s, rate, fit)
        return parts_s, fit[MERGE_S] + fit[SPLIT_S] * split
    if fit[SPLIT_GROUP] <= 0.0 or group < fit[SPLIT_GROUP] or longest <= 1.0:
        return whole_s, 0.0
    slot = rate[NUM_CORE] * fit[CTA_PER_CORE]
    most = min(fit[SPLIT_MAX], longest)
    if fit[SPLIT_GROUP] <= 1.0:
        split = min(most, math.ceil(longest / math.ceil(1.1 * num_blocks / slot)))
    else:
        if num_cta >= 0.8 * slot:
            return whole_s, 0.0
        split = min(most, math.floor(slot / num_cta))  # the most that one wave holds
        while split < most and num_cta * split < 0.85 * slot * math.ceil(num_cta * split / slot):
            split += 1.0  # until the waves are nearly full
    if split <= 1.0:
        return whole_s, 0.0
    parts_s = _core_s(num_cta * split, num_blocks, math.ceil(longest / split), cta_s, full_s, block_s, rate, fit)
    combine_s = fit[MERGE_S] + fit[SPLIT_S] * split
    if parts_s + combine_s >= whole_s:
        return whole_s, 0.0
    return parts_s, combine_s


@njit
def _block_s(tile_q: int, tile_kv: int, shape: Shape, peak_flop_per_s: float, rate: Floats, fit: Floats) -> float:
    """Seconds of one CTA in one block of keys: the padded tile at its share of the core's peak."""
    core_flop_per_s = peak_flop_per_s / (rate[NUM_CORE] * fit[CTA_PER_CORE]) * fit[COMPUTE_EFF]
    core_flop_per_s *= (128.0 / shape[HEAD_DIM]) ** fit[WIDE_POWER]
    flop = 2.0 * (shape[HEAD_DIM] + shape[V_HEAD_DIM]) + fit[SOFT_FLOP]
    return tile_q * tile_kv * flop / core_flop_per_s


@njit
def _core_s(
    num_cta: float,
    num_blocks: float,
    longest: float,
    cta_s: float,
    full_s: float,
    block_s: float,
    rate: Floats,
    fit: Floats,
) -> float:
    """Seconds of the cores: the longest CTA, or the balanced sum and what stands out at the end. A CTA takes `cta_s`
    beside its blocks in the mean, a full one `full_s`."""
    slot = rate[NUM_CORE] * fit[CTA_PER_CORE]
    longest_s = full_s + longest * block_s
    balanced_s = (num_cta * cta_s + num_blocks * block_s) / slot
    if num_cta > slot:
        balanced_s += fit[TAIL] * longest_s * (1.0 - slot / num_cta)
    return max(longest_s, balanced_s)


@njit
def _merge_byte(row: float, shape: Shape) -> float:
    """Bytes of merging two partial results of `row` queries: both read, one written (16-bit), and their
    log-sum-exps (fp32)."""
    return row * shape[NUM_HEAD] * (3.0 * shape[V_HEAD_DIM] * 2.0 + 3.0 * 4.0)


@njit
def _join(
    core_s: float, byte: float, flop_s: float, combine_s: float, rate: Floats, fit: Floats
) -> tuple[float, float, int]:
    """Seconds, speed-of-light seconds and bound from the parts."""
    room = fit[WARM_SHARE] * rate[L2_BYTE]
    hit = max(0.0, min(byte, 3.0 * room - 2.0 * byte))  # a repeat that overflows the cache evicts itself
    miss_s = (byte - hit) / rate[MEM_BYTE_PER_S]
    ideal_s = max(flop_s, miss_s)
    mem_s = (miss_s + hit / (rate[MEM_BYTE_PER_S] * fit[L2_RATIO])) / fit[MEM_EFF]
    core_s = max(core_s, flop_s)
    cold_s = 0.0
    if fit[COLD_S] > 0.0:
        cold_s = fit[COLD_S] * min(1.0, (byte - hit) / (0.5 * rate[L2_BYTE] + 1.0))
    seconds = fit[LAUNCH_S] + p_norm(core_s, mem_s, fit[P]) + combine_s + cold_s
    bound = BOUND_COMPUTE if core_s >= mem_s else BOUND_MEMORY
    if fit[LAUNCH_S] + combine_s > 0.5 * seconds:
        bound = BOUND_LAUNCH
    return seconds, ideal_s, bound
