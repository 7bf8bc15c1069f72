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
    byte_per_cycle: float  # memory, effective


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


@njit
def vector_cycle(npu: Systolic, num_value: int, op_a_value: float) -> int:
    """Element-wise work: values over all lanes, `op_a_value` cycles each."""
    return int(ceil_div(num_value, npu.vector_lane) * op_a_value + 0.5)


@njit
def softmax_cycle(npu: Systolic, num_row: int, length: int) -> int:
    """Softmax of `num_row` rows of `length`: two tree reductions (maximum and sum) and subtract, exponential and
    scale for each value."""
    pieces = ceil_div(length, npu.vector_lane)
    tree = 0
    left = length
    while left > 1:
        left = ceil_div(left, npu.vector_lane)
        tree += left
    return num_row * (2 * tree + 3 * pieces)
