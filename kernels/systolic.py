"""Matrix products on systolic arrays with double-buffered scratchpads, in cycles of the array clock.

Weight stationary: a `rows x cols` block of weights is loaded, `m` input rows stream through it in
`rows + cols - 2 + m` cycles, and loading the next block hides behind the stream if that is longer than `rows`.
Output stationary: a block of `rows x cols` outputs stays while `k` values stream, and shifts out in `rows` cycles as
the next one fills. Several arrays share the blocks of one product evenly. A tile of the product must fit half of the
scratchpad (the other half fills meanwhile): the largest side is halved until it does.
Recurrences: Kung (1982); SCALE-Sim (ISPASS'20) for both dataflows.
"""

from typing import NamedTuple

from kernels.jit import njit

WEIGHT_STATIONARY, OUTPUT_STATIONARY = 0, 1
DATAFLOWS: tuple[str, ...] = ("weight_stationary", "output_stationary")


class Systolic(NamedTuple):
    """Systolic arrays with their scratchpad and memory."""

    rows: int
    cols: int
    num_array: int
    dataflow: int
    spad_byte: int  # operands; half holds the tile in work
    accum_byte: int  # results
    value_byte: int
    vector_lane: int  # lanes of all vector units
    byte_per_cycle: float  # memory


@njit
def ceil_div(a: int, b: int) -> int:
    """Ceiling of a/b for positive integers."""
    return -(-a // b)


@njit
def busy_cycle(npu: Systolic, m: int, n: int, k: int) -> int:
    """Cycles for which a product holds the arrays, fill and drain hidden by what runs before and after: each
    stationary block streams `m` (or `k`) values, or lasts as long as loading the next block does."""
    if npu.dataflow == WEIGHT_STATIONARY:
        return ceil_div(ceil_div(k, npu.rows) * ceil_div(n, npu.cols), npu.num_array) * max(m, npu.rows)
    return ceil_div(ceil_div(m, npu.rows) * ceil_div(n, npu.cols), npu.num_array) * max(k, npu.rows)


@njit
def array_cycle(npu: Systolic, m: int, n: int, k: int) -> int:
    """Cycles of `m x k` by `k x n` from idle arrays to the last result, operands in the scratchpad.

    >>> one = Systolic(4, 4, 1, 0, 1 << 20, 1 << 20, 2, 4, 1e9)
    >>> array_cycle(one, 3, 4, 4)  # 4 to load the weights, 3 + 4 + 4 - 2 to stream
    13
    """
    stream = m if npu.dataflow == WEIGHT_STATIONARY else k
    before = busy_cycle(npu, m, n, k) - max(stream, npu.rows)  # all blocks but the last
    return npu.rows + before + stream + npu.rows + npu.cols - 2


@njit
def tile_shape(npu: Systolic, m: int, n: int, k: int) -> tuple[int, int, int]:
    """Tile of (m, n, k) that fits: operands in half the scratchpad, results in half the accumulator; the largest
    side is halved (rounding up) until they do, in the order k, n, m where sides are equal."""
    while True:
        operand = (m * k + k * n) * npu.value_byte
        result = m * n * npu.value_byte
        if operand <= npu.spad_byte // 2 and result <= npu.accum_byte // 2:
            return m, n, k
        if operand > npu.spad_byte // 2 and k >= n and k >= m:
            k = ceil_div(k, 2)
        elif n >= m:
            n = ceil_div(n, 2)
        else:
            m = ceil_div(m, 2)
        if m <= 1 and n <= 1 and k <= 1:
            return 1, 1, 1


@njit
def matmul_cycle(npu: Systolic, m: int, n: int, k: int, bubble: float) -> float:
    """Cycles of a product whose operands come from memory tile by tile, double buffered: the first tile's operands
    arrive, then computing a tile and fetching the next overlap, the last tile drains and its results leave.
    `bubble`: cycles that the memory idles between two tiles (its round trip, where requests stop at a tile's end).
    """
    tile_m, tile_n, tile_k = tile_shape(npu, m, n, k)
    num_tile = ceil_div(m, tile_m) * ceil_div(n, tile_n) * ceil_div(k, tile_k)
    fetch = (tile_m * tile_k + tile_k * tile_n) * npu.value_byte / npu.byte_per_cycle + bubble
    store = m * n * npu.value_byte / npu.byte_per_cycle
    slot = float(busy_cycle(npu, tile_m, tile_n, tile_k))
    drain = array_cycle(npu, tile_m, tile_n, tile_k)
    last_store = tile_m * tile_n * npu.value_byte / npu.byte_per_cycle
    return max(fetch + (num_tile - 1) * max(slot, fetch) + drain + last_store, fetch * num_tile + store)


class Measured(NamedTuple):
    """What a cycle-level simulator of an NPU shows beyond the closed forms (a fit; see the device's file)."""

    group: float  # cycles of a group of blocks that share a stationary block
    block: float  # and of each block in it
    wide: float  # share of the memory's bandwidth for matrices with wide rows
    narrow: float  # and with rows of `narrow_byte` or less, which fall on few channels at a time
    narrow_byte: float
    vector: float  # cycles of an element-wise operator, and
    vector_share: float  # the part of its memory time that is not hidden


@njit
def whole_tile(npu: Systolic, m: int, n: int, k: int) -> tuple[int, int, int]:
    """Tile of (m, n, k) whose operands and results, padded to whole blocks, fit half the scratchpad together; the
    largest side is halved, k before n before m where equal (NeuPIMs, published configuration)."""
    while True:
        pad_m, pad_n, pad_k = (
            ceil_div(m, npu.cols) * npu.cols,
            ceil_div(n, npu.cols) * npu.cols,
            ceil_div(k, npu.cols) * npu.cols,
        )
        if (pad_m * pad_k + pad_k * pad_n + pad_m * pad_n) * npu.value_byte <= npu.spad_byte // 2:
            return m, n, k
        if m >= k and m >= n and m > 1:
            m = ceil_div(m, 2)
        elif k >= n and k > 1:
            k = ceil_div(k, 2)
        elif n > 1:
            n = ceil_div(n, 2)
        else:
            return m, n, k


@njit
def measured_matmul_cycle(npu: Systolic, m: int, n: int, k: int, fit: Measured) -> float:
    """Cycles of a product as a cycle-level simulator shows it: activations stationary, weights streaming block by
    block, or the weights' way from memory, whichever is longer."""
    tile_m, tile_n, tile_k = whole_tile(npu, m, n, k)
    groups = (
        ceil_div(m, tile_m) * ceil_div(n, tile_n) * ceil_div(k, tile_k)
        * ceil_div(tile_m, npu.cols) * ceil_div(tile_k, npu.rows)
    )  # fmt: skip
    compute = groups * (fit.group + fit.block * ceil_div(tile_n, npu.cols))
    share = fit.narrow if n * npu.value_byte <= fit.narrow_byte else fit.wide
    byte = (m * k + k * n) * npu.value_byte
    return max(compute, byte / (npu.byte_per_cycle * share))


@njit
def measured_vector_cycle(npu: Systolic, byte: float, fit: Measured) -> float:
    """Cycles of an element-wise operator that moves `byte` in all."""
    return fit.vector + fit.vector_share * byte / npu.byte_per_cycle


@njit
def vector_cycle(npu: Systolic, num_value: int, op_a_value: float) -> int:
    """Element-wise work: values over all lanes, `op_a_value` cycles each."""
    return int(ceil_div(num_value, npu.vector_lane) * op_a_value + 0.5)


@njit
def softmax_lane_cycle(lane: int, length: int) -> int:
    """Softmax of one row on `lane` lanes: two tree reductions (maximum and sum) and subtract, exponential and scale
    for each value."""
    tree, left = 0, length
    while left > 1:
        left = ceil_div(left, lane)
        tree += left
    return 2 * tree + 3 * ceil_div(length, lane)


@njit
def softmax_cycle(npu: Systolic, num_row: int, length: int) -> int:
    """Softmax of `num_row` rows of `length`, a row after the other on all lanes."""
    return num_row * softmax_lane_cycle(npu.vector_lane, length)


@njit
def gemv_attention_cycle(npu: Systolic, kv_len: int, head_dim: int) -> int:
    """Cycles of decode attention of one head of one request on the arrays, block after block: each waits for the one
    before, for a vector alone fills no pipeline (the published NPU-only baseline of NeuPIMs; KV has arrived).

    Keys are one block, streamed by all arrays; the softmax; values in blocks of `rows` tokens, of which one more is
    begun where the length is no multiple.

    >>> one = Systolic(128, 128, 8, 0, 1 << 20, 1 << 20, 2, 1024, 1024.0)
    >>> gemv_attention_cycle(one, 256, 128)  # 294 keys, 12 softmax, 3 x 270 values
    1116
    """
    through = npu.rows + npu.cols - 2  # first input to last result of a block
    hand_over = 8  # from the scratchpad to idle arrays
    keys = hand_over + through + max(kv_len // npu.num_array, 4)
    values = ceil_div(kv_len + npu.rows - 1, npu.rows) * (through + max(head_dim // npu.num_array, 4))
    return keys + softmax_lane_cycle(npu.vector_lane // npu.num_array, kv_len) + values
