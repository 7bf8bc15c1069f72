"""Closed forms of systolic arrays against arrays stepped cycle by cycle."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.systolic import (
    OUTPUT_STATIONARY,
    WEIGHT_STATIONARY,
    Systolic,
    array_cycle,
    busy_cycle,
    gemv_attention_cycle,
    matmul_cycle,
    softmax_cycle,
    tile_shape,
)


def array(rows: int, cols: int, dataflow: int = WEIGHT_STATIONARY, num_array: int = 1) -> Systolic:
    return Systolic(rows, cols, num_array, dataflow, 1 << 20, 1 << 20, 2, 128, 1e12)


def stepped_weight_stationary(rows: int, cols: int, x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, int]:
    """One array, cycle by cycle: weights of the next block shift in behind the present one; inputs enter skewed from
    the left, partial sums move down. Returns the product and the cycle after its last result."""
    m, k = x.shape
    n = w.shape[1]
    out = np.zeros((m, n))
    blocks = list(itertools.product(range(0, k, rows), range(0, n, cols)))
    starts, loaded = [], 0
    for i, _ in enumerate(blocks):  # a block is loaded in `rows` cycles, as soon as the one before has begun
        begun = starts[-1] if i else 0
        loaded = max(begun, loaded) + rows
        starts.append(max(loaded, begun + m if i else 0))
    end = 0
    for (k0, n0), start in zip(blocks, starts, strict=True):
        weight = np.zeros((rows, cols))
        part = w[k0 : k0 + rows, n0 : n0 + cols]
        weight[: part.shape[0], : part.shape[1]] = part
        value, partial = np.zeros((rows, cols)), np.zeros((rows, cols))
        done, cycle = 0, 0
        while done < m * cols:
            new_value, new_partial = np.zeros((rows, cols)), np.zeros((rows, cols))
            for r in range(rows):
                row = cycle - r  # the input row that enters at array row r
                for c in range(cols):
                    if c > 0:
                        new_value[r, c] = value[r, c - 1]
                    elif 0 <= row < m and k0 + r < k:
                        new_value[r, c] = x[row, k0 + r]
                    above = partial[r - 1, c] if r else 0.0
                    new_partial[r, c] = above + new_value[r, c] * weight[r, c]
            value, partial = new_value, new_partial
            cycle += 1
            for c in range(cols):
                row = cycle - rows - c  # leaves the bottom of column c
                if 0 <= row < m:
                    done += 1
                    if n0 + c < n:
                        out[row, n0 + c] += partial[rows - 1, c]
        end = start + cycle
    return out, end


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 5),
    cols=st.integers(1, 5),
    m=st.integers(1, 9),
    n=st.integers(1, 9),
    k=st.integers(1, 9),
    seed=st.integers(0, 1000),
)
def test_weight_stationary_cycles_equal_the_stepped_array(rows, cols, m, n, k, seed):
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(m, k)), rng.normal(size=(k, n))
    product, cycle = stepped_weight_stationary(rows, cols, x, w)
    assert product == pytest.approx(x @ w)
    # m + rows + cols - 2 steps, the first of which is the cycle after the weights are in
    assert array_cycle(array(rows, cols), m, n, k) == cycle - 1 + 1


def stepped_output_stationary(rows: int, cols: int, m: int, n: int, k: int) -> int:
    """Cycles of one array whose outputs stay: value t reaches cell (r, c) at t + r + c; results shift out row by row
    while the next block fills."""
    blocks = len(list(itertools.product(range(0, m, rows), range(0, n, cols))))
    start, out_free, end = 0, 0, 0
    for _ in range(blocks):
        last = max(t + r + c for t in range(k) for r in range(rows) for c in range(cols)) + 1
        end = max(start + last, out_free) + rows  # shift out
        out_free = end
        start += max(k, rows)
    return end


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 6), cols=st.integers(1, 6), m=st.integers(1, 12), n=st.integers(1, 12), k=st.integers(1, 12))
def test_output_stationary_cycles_equal_the_stepped_array(rows, cols, m, n, k):
    assert array_cycle(array(rows, cols, OUTPUT_STATIONARY), m, n, k) == stepped_output_stationary(rows, cols, m, n, k)


@settings(max_examples=60, deadline=None)
@given(m=st.integers(1, 600), n=st.integers(1, 5000), k=st.integers(1, 5000), rate=st.floats(64, 4096))
def test_matmul_fits_and_stays_above_both_roofs(m, n, k, rate):
    npu = Systolic(128, 128, 8, WEIGHT_STATIONARY, 1 << 20, 1 << 20, 2, 1024, rate)
    tile_m, tile_n, tile_k = tile_shape(npu, m, n, k)
    assert (tile_m * tile_k + tile_k * tile_n) * 2 <= 1 << 19  # operands in half the scratchpad
    assert tile_m * tile_n * 2 <= 1 << 19  # results in half the accumulator
    cycle = matmul_cycle(npu, m, n, k, 0.0)
    assert cycle >= m * n * k / (8 * 128 * 128)  # peak: a multiply-accumulate a cell
    assert cycle >= (m * k + k * n + m * n) * 2 / rate * 0.999  # every value once
    assert matmul_cycle(npu, m, n, k, 10.0) >= cycle


def test_many_arrays_share_the_blocks():
    # 16 blocks of 128x128 on 8 arrays: two rounds of 128 cycles, for loading takes longer than 32 rows
    assert busy_cycle(array(128, 128, num_array=8), 32, 512, 512) == 256


def test_softmax_reduces_twice_and_touches_values_three_times():
    # 256 values on 128 lanes: two pieces; trees of 2 and 1 steps twice, three passes of 2
    assert softmax_cycle(array(8, 8), 1, 256) == 2 * 3 + 3 * 2


@pytest.mark.parametrize(("kv_len", "published"), [(100, 26406), (256, 36006), (600, 64057)])
def test_attention_of_the_published_npu_alone(kv_len, published):
    # cycles of 4 requests of 8 heads of 128 in the published simulator's NPU-only baseline
    assert 4 * 8 * gemv_attention_cycle(array(128, 128, num_array=8)._replace(vector_lane=1024), kv_len, 128) == (
        pytest.approx(published, rel=0.015)
    )
