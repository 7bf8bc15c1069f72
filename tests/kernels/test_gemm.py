"""GEMM: roofline at speed of light, bounds, monotone work, waves, splits, caches, power."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.gemm import GEMM_FIT, IDEAL_GEMM, gemm_batch, gemm_s, p_norm
from kernels.machine import L2_BYTE, MEM_BYTE_PER_S, NUM_CORE, RATES

PEAK = 989.4e12  # H100 SXM dense bf16, datasheet
MEM = 3.352e12
IDEAL = np.array(IDEAL_GEMM)


def vector(**change: float) -> np.ndarray:
    """A plain tiled kernel: nothing but whole waves of tiles at peak, unless told otherwise."""
    base = dict(zip(GEMM_FIT, IDEAL_GEMM, strict=True)) | {"tile_rule": 1.0} | change
    return np.array([base[name] for name in GEMM_FIT])


FITTED = vector(  # about what the H100 profile holds
    launch_s=2.6e-6, compute_eff=1.1, mem_eff=0.87, p=4.0, step_s=8e-10, core_byte_per_s=3.4e11,
    write_byte_per_s=2.9e10, split_s=2.8e-6, tail=1.0, throttle=0.16, l2_share=0.44, l2_byte_per_s=4.7e12,
)  # fmt: skip


def rates(mem: float = MEM) -> np.ndarray:
    rate = np.zeros(len(RATES))
    rate[MEM_BYTE_PER_S], rate[NUM_CORE], rate[L2_BYTE] = mem, 132, 50 * 2**20  # H100 SXM, datasheet
    return rate


def price(m: int, n: int, k: int, fit: np.ndarray, batch: int = 1, mem: float = MEM) -> tuple[float, float, int]:
    weight, act, write = 2.0 * n * k * batch, 2.0 * m * k * batch, 2.0 * m * n * batch
    return gemm_s(m, n, k, batch, weight, act, write, PEAK, rates(mem), fit)


ENDLESS = 1e21  # a memory that never bounds


@pytest.mark.parametrize(("m", "n", "k"), [(1, 4096, 4096), (8192, 8192, 8192), (64, 28672, 4096)])
def test_ideal_is_the_roofline(m: int, n: int, k: int) -> None:
    seconds, ideal_s, _ = price(m, n, k, IDEAL)
    roof = max(2 * m * n * k / PEAK, 2 * (n * k + m * k + m * n) / MEM)
    assert seconds == ideal_s == pytest.approx(roof, rel=1e-14)


def test_decode_by_hand() -> None:
    # one token through 4096 x 4096 in bf16: 33.55 MFLOP on 33.57 MB, one FLOP a byte, so memory bounds it
    seconds, _, bound = price(1, 4096, 4096, IDEAL)
    assert seconds == pytest.approx((2 * 4096 * 4096 + 2 * 2 * 4096) / MEM)
    assert bound == 2  # memory


shape = st.tuples(st.integers(1, 20000), st.integers(1, 70000), st.integers(1, 70000))


@settings(max_examples=300, deadline=None)
@given(shape, st.integers(1, 4))
def test_never_below_speed_of_light(mnk: tuple[int, int, int], batch: int) -> None:
    seconds, ideal_s, _ = price(*mnk, FITTED, batch)
    assert seconds >= ideal_s
    assert price(*mnk, IDEAL, batch)[0] == pytest.approx(ideal_s, rel=1e-14)


@settings(max_examples=300, deadline=None)
@given(shape, st.sampled_from([64, 128, 256]))
def test_more_work_takes_no_less_time(mnk: tuple[int, int, int], more: int) -> None:
    m, n, k = mnk
    # whole waves and no split: a longer loop, a further row and a further column each cost time or nothing
    fit = vector(launch_s=2e-6, p=4.0, step_s=1e-9, write_byte_per_s=3e10, split_s=1.0)
    base = price(m, n, k, fit)[0]
    for bigger in ((m + more, n, k), (m, n + more, k), (m, n, k + more)):
        assert price(*bigger, fit)[0] >= base * (1 - 1e-12)


def test_p_norm_limits() -> None:
    assert p_norm(2.0, 2.0, 1.0) == 4.0  # no overlap: the sum
    assert p_norm(2.0, 2.0, 64.0) == pytest.approx(2.0 * 2 ** (1 / 64))  # near the maximum
    assert p_norm(5.0, 3.0, 0.0) == 5.0  # the maximum
    assert p_norm(5.0, 0.0, 3.0) == 5.0
    assert p_norm(3.0, 4.0, 2.0) == pytest.approx(p_norm(3.0, 4.0, 2.0 + 1e-9))  # fast path and general one
    assert p_norm(3.0, 4.0, 4.0) == pytest.approx(p_norm(3.0, 4.0, 4.0 + 1e-9))


def test_one_row_more_than_a_wave_costs_another_wave() -> None:
    # 128 x 128 tiles (by m): 256 x 8448 is 2 x 66 = 132 tiles, one for each core; row 257 makes 198, two waves
    fit = vector(tile_rule=2.0)
    one, two = (price(m, 8448, 8192, fit, mem=ENDLESS)[0] for m in (256, 257))
    tile_s = 2 * 128 * 128 * 8192 / (PEAK / 132)
    assert one == pytest.approx(tile_s, rel=1e-12)
    assert two == pytest.approx(2 * tile_s, rel=1e-12)
    half = price(257, 8448, 8192, vector(tile_rule=2.0, tail=1.0), mem=ENDLESS)[
        0
    ]  # a tail that overlaps: 198 / 132 waves
    assert half == pytest.approx(1.5 * tile_s, rel=1e-12)


def test_a_split_k_loop_fills_idle_cores() -> None:
    # 64 x 32 with k 16384 is one tile: unsplit one core does it all, split 32 ways 32 cores do
    fit = vector(step_s=1e-9, split_s=1e-6)
    whole = vector(step_s=1e-9, split_s=1.0)  # a reduction that never pays
    unsplit = price(64, 32, 16384, whole, mem=ENDLESS)[0]
    assert unsplit == pytest.approx(16384 * (2 * 64 * 32 * 132 / PEAK + 1e-9), rel=1e-12)
    assert price(64, 32, 16384, fit, mem=ENDLESS)[0] == pytest.approx(unsplit / 32 + 1e-6, rel=1e-12)
    assert price(64, 32, 64, fit)[0] == price(64, 32, 64, whole)[0]  # too short to split


def test_activations_that_fit_the_cache_cost_no_memory_and_weights_always_do() -> None:
    fit = vector(l2_share=1.0, l2_byte_per_s=MEM * 2)
    small_s = price(4096, 64, 2048, fit)[0]  # 16.8 MB in, 0.5 MB out, held; 0.26 MB of weights streamed
    held = 2 * 4096 * 2048 + 2 * 4096 * 64
    assert small_s == pytest.approx(max((held / 2 + 2 * 64 * 2048) / MEM, price(4096, 64, 2048, fit)[1]))
    weights_s = price(1, 16384, 1024, fit)[0]  # 33.5 MB of weights, under 50 MiB, yet streamed
    assert weights_s >= 2 * 16384 * 1024 / MEM
    rotated = price(1, 4096, 512, vector(l2_share=1.0, l2_byte_per_s=MEM * 2, weight_copy=6.0))[0]
    assert rotated < 2 * 4096 * 512 / MEM  # six copies of 4.2 MB fit a benchmark's cache


def test_full_power_slows_by_the_throttle_and_idle_memory_does_not() -> None:
    big, thin = (8192, 8192, 8192), (1, 8192, 8192)
    assert price(*big, vector(throttle=0.2))[0] / price(*big, vector())[0] == pytest.approx(1.2, rel=0.1)
    assert price(*thin, vector(throttle=0.2))[0] / price(*thin, vector())[0] == pytest.approx(1.0, rel=1e-4)


def test_quantising_rows_adds_to_every_row() -> None:
    fit = vector(row_s=5e-9, row_byte_per_s=2e12)
    extra = price(512, 4096, 4096, fit)[0] - price(512, 4096, 4096, vector())[0]
    assert extra == pytest.approx(512 * (5e-9 + 3 * 4096 / 2e12))  # bf16 in, fp8 out: 3 B a value


def test_eager_dispatch_hides_a_short_kernel() -> None:
    assert price(1, 64, 64, vector(host_s=8e-5))[0] == 8e-5
    assert price(8192, 8192, 8192, vector(host_s=8e-5))[0] == price(8192, 8192, 8192, vector())[0]


def test_batch_is_the_scalar_row_by_row() -> None:
    m, n, k = (np.array(x, np.int64) for x in ((1, 300, 4096), (4096, 512, 8192), (4096, 64, 1024)))
    out = np.zeros(3)
    gemm_batch(m, n, k, (2.0, 2.0, 2.0), PEAK, rates(), FITTED, out)
    assert out.tolist() == [price(*row, FITTED)[0] for row in zip(m.tolist(), n.tolist(), k.tolist(), strict=True)]
    assert math.isinf(IDEAL_GEMM[GEMM_FIT.index("core_byte_per_s")])


def test_a_library_that_packs_weights_pays_for_them_beyond_vectors() -> None:
    fit = vector(tile_rule=3.0, core_byte_per_s=1e10)
    n, k = 1024, 512
    flop_s = 2.0 * n * k / PEAK  # a row
    # four rows: 1 MB of weights pass the core at 10 GB/s, then the multiply-adds; memory never bounds here
    assert price(4, n, k, fit, mem=ENDLESS)[0] == pytest.approx(2.0 * n * k / 1e10 + 4 * flop_s)
    assert price(3, n, k, fit, mem=ENDLESS)[0] == pytest.approx(3 * flop_s)
    wide = vector(tile_rule=3.0, core_byte_per_s=1e10, write_byte_per_s=5e9)  # and once more for a second panel of rows
    assert price(33, n, k, wide, mem=ENDLESS)[0] == pytest.approx(2.0 * n * k * 3e-10 + 33 * flop_s)
    assert price(32, n, k, wide, mem=ENDLESS)[0] == price(32, n, k, fit, mem=ENDLESS)[0]


def test_a_library_waits_for_the_head_of_each_column() -> None:
    """Equal bytes, four times the columns: GPT-2's projections. A column of 256 bytes is a quarter of a head."""
    fit, plain = vector(tile_rule=3.0, step_s=1e-8), vector(tile_rule=3.0)

    def head_s(n: int, k: int) -> float:
        return price(1, n, k, fit, mem=ENDLESS)[0] - price(1, n, k, plain, mem=ENDLESS)[0]

    assert head_s(3072, 768) == pytest.approx(3072e-8)
    assert head_s(768, 3072) == pytest.approx(768e-8)
    assert head_s(3072, 128) == pytest.approx(768e-8)
