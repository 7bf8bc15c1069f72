"""Attention as a work list: what rows of queries on spans of keys cost in FLOPs, bytes and tiles.

A row of work is `query_len` queries on `kv_len` keys, causal or not (`WORK_DTYPE`). Everything that a kernel
can do is a list of such rows: a chunk of a prompt on its cached prefix is one causal row; a decode batch is a
row of one query a sequence; a shared prefix (RelayAttention, Hydragen, tree search) is a row without causality
holding the queries of all who share it, so that its keys are read once; speculative verification is k + 1
queries on one span; KV parallelism is a shorter span.

The counts here are exact. A tiled kernel reads and multiplies whole blocks of `tile_kv` keys for each tile of
`tile_q` query rows, from the first block that any row of the tile sees to the last, so the blocks of a causal
triangle or of a sliding window are sums of floors, which `floor_sum` finds in logarithmic time.
"""

import numpy as np
import numpy.typing as npt

from kernels.jit import njit

Floats = npt.NDArray[np.float64]
Shape = tuple[float, float, float, float, float, float]

NUM_HEAD, NUM_KV_HEAD, HEAD_DIM, V_HEAD_DIM, WINDOW, KV_VALUE_BYTE = range(6)

LEAST_LATENT = 256.0  # values of the narrowest published latent (512 in DeepSeek's); expanded value heads are 64 to 128

SPAN, CAUSAL, FULL = 0, 1, 2
"""What a row of work sees. SPAN: every query sees all keys, and its partial result is merged with another row's
(a shared prefix). CAUSAL: row r of q sees kv_len - query_len + r + 1 keys. FULL: as SPAN but whole (an
encoder, cross attention, a tree with its mask), with nothing to merge."""


@njit
def attention_shape(
    num_head: float, num_kv_head: float, head_dim: float, v_head_dim: float, window: float, kv_value_byte: float
) -> Shape:
    """What all rows of one operator share, as the six floats that every function here takes.

    `window` counts the keys a query sees, itself included (0: all); `kv_value_byte` is a stored KV value, so
    0.25 for 2 bits.
    """
    return (
        float(num_head), float(num_kv_head), float(head_dim), float(v_head_dim), float(window), float(kv_value_byte),
    )  # fmt: skip


@njit
def is_latent(num_kv_head: float, head_dim: float, v_head_dim: float) -> bool:
    """Whether a shape is latent attention in its absorbed form (MLA).

    One KV head whose values are narrower than its keys and as wide as a latent is a latent cache: the values are the
    first part of the same tensor, read once. One expanded head of latent attention on a device is not.

    >>> is_latent(1, 576, 512), is_latent(1, 192, 128), is_latent(1, 128, 128)
    (True, False, False)
    """
    return num_kv_head == 1.0 and LEAST_LATENT <= v_head_dim < head_dim


@njit
def fit_format(num_kv_head: float, head_dim: float, v_head_dim: float, fmt: int, kv_fmt: int) -> int:
    """The format whose constants price a shape: the cache's, but the activations' for latent attention, whose kernels
    multiply in them whatever the cache is stored in; those of narrow caches were measured on plain heads.

    >>> fit_format(8, 128, 128, 1, 2), fit_format(1, 576, 512, 1, 2)
    (2, 1)
    """
    return fmt if is_latent(num_kv_head, head_dim, v_head_dim) else kv_fmt


@njit
def kv_token_byte(shape: Shape) -> float:
    """Bytes that one key and its value take in the cache of one layer.

    >>> kv_token_byte(attention_shape(32, 8, 128, 128, 0, 2.0)), kv_token_byte(attention_shape(16, 1, 576, 512, 0, 2.0))
    (4096.0, 1152.0)
    >>> kv_token_byte(attention_shape(1, 1, 192, 128, 0, 2.0))
    640.0
    """
    if is_latent(shape[1], shape[2], shape[3]):
        return shape[2] * shape[5]
    return shape[1] * (shape[2] + shape[3]) * shape[5]


@njit
def query_token_byte(shape: Shape) -> float:
    """Bytes of one query row read and its output written (16-bit), over all heads.

    >>> query_token_byte(attention_shape(32, 8, 128, 128, 0, 2.0))
    16384.0
    """
    return shape[0] * (shape[2] + shape[3]) * 2.0


@njit
def pair_flop(shape: Shape) -> float:
    """FLOPs of one query row on one key, over all heads: a multiply-add a value of the key and of the value.

    >>> pair_flop(attention_shape(32, 8, 128, 128, 0, 2.0))
    16384.0
    """
    return 2.0 * shape[0] * (shape[2] + shape[3])


@njit
def keys_seen(query_len: int, kv_len: int, causal: int, window: int) -> int:
    """Distinct keys that a row of work reads: a window lets q causal rows see window + q - 1 keys.

    >>> keys_seen(1, 1000, 1, 128), keys_seen(4, 1000, 1, 128), keys_seen(4, 1000, 0, 128), keys_seen(4, 9, 1, 0)
    (128, 131, 1000, 9)
    """
    if causal == CAUSAL and window > 0:
        return min(kv_len, window + query_len - 1)
    return kv_len


@njit
def longest_span(kv_len: int, window: int) -> int:
    """What a decode batch keeps of its longest context: keys, counted to one past the window, which is how a batch
    says that the window is at work.

    >>> longest_span(1000, 0), longest_span(1000, 128), longest_span(128, 128)
    (1000, 129, 128)
    """
    return min(kv_len, window + 1) if window > 0 else kv_len


@njit
def num_pair(query_len: int, kv_len: int, causal: int, window: int) -> int:
    """Pairs of a query and a key that it sees, exactly.

    >>> num_pair(3, 3, 1, 0), num_pair(3, 5, 1, 0), num_pair(3, 5, 0, 0), num_pair(4, 4, 1, 2)
    (6, 12, 15, 7)
    """
    if causal != CAUSAL:
        return query_len * kv_len
    first = kv_len - query_len + 1  # keys of the first row
    if window <= 0 or kv_len <= window:
        return query_len * first + query_len * (query_len - 1) // 2
    growing = min(max(window - first, 0), query_len)  # rows that see fewer than a window
    return growing * first + growing * (growing - 1) // 2 + (query_len - growing) * window


@njit
def floor_sum(n: int, m: int, a: int, b: int) -> int:
    """Sum of floor((a i + b) / m) for i in 0..n-1, of non-negative a and b, by Euclid's algorithm.

    >>> floor_sum(5, 3, 2, 1), sum((2 * i + 1) // 3 for i in range(5))
    (7, 7)
    """
    total = 0
    while n > 0:
        total += (n * (n - 1) // 2) * (a // m) + n * (b // m)
        a %= m
        b %= m
        last = a * n + b
        if last < m:
            break
        n = last // m
        b = last % m
        m, a = a, m
    return total


@njit
def num_block(query_len: int, kv_len: int, causal: int, window: int, group: int, tile_q: int, tile_kv: int) -> int:
    """Blocks of `tile_kv` keys that the tiles of one KV head (or of one head, `group` 1) go through.

    A tile holds `tile_q` rows, `group` heads of one query beside each other (GQA packing). Tile i ends at row
    r = min((i + 1) tile_q, query_len group) and goes through ceil((kv_len - query_len + r / group) / tile_kv)
    blocks; a window skips the blocks that its first row no longer sees.

    >>> num_block(256, 256, 1, 0, 1, 128, 128), num_block(256, 256, 0, 0, 1, 128, 128)
    (3, 4)
    >>> num_block(64, 256, 1, 0, 4, 128, 128)  # two tiles of 32 queries, both see 2 blocks
    4
    """
    row = query_len * group
    tile = (row + tile_q - 1) // tile_q
    if causal != CAUSAL:
        return tile * ((kv_len + tile_kv - 1) // tile_kv)
    before = (kv_len - query_len) * group
    block = tile_kv * group
    # ceil(x / block) = floor((x + block - 1) / block); the last tile may be short
    stop = floor_sum(tile - 1, block, tile_q, before + tile_q + block - 1) + (before + row + block - 1) // block
    if window <= 0 or kv_len <= window:
        return stop
    # tile i begins at query before/group + i tile_q / group, whose first key is that less (window - 1)
    offset = before - (window - 1) * group
    skipped_tile = 0 if offset >= 0 else min(tile, (-offset + tile_q - 1) // tile_q)
    return stop - floor_sum(tile - skipped_tile, block, tile_q, max(offset + skipped_tile * tile_q, 0))
