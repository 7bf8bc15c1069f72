"""Fused experts: roofline at speed of light, bounds, weights read once an expert, tiles."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.machine import L2_BYTE, L2_BYTE_PER_S, MEM_BYTE_PER_S, NUM_CORE, RATES
from kernels.moe import IDEAL_MOE, MOE_FIT, moe_s
from kernels.moe_tile import BY_TOKEN

PEAK, MEM = 989.4e12, 3.352e12  # H100 SXM, datasheet
IDEAL = np.array(IDEAL_MOE)


def vector(**change: float) -> np.ndarray:
    base = dict(zip(MOE_FIT, IDEAL_MOE, strict=True)) | {"tile_m": 64.0, "l2_share": 1.0} | change
    return np.array([base[name] for name in MOE_FIT])


FITTED = vector(launch_s=26e-6, ep_s=1e-5, compute_eff=0.62, mem_eff=0.95, p=3.7, cta_s=1e-6, core_byte_per_s=4e11,
                l2_share=0.4, row_byte_per_s=1e14, all_byte_per_s=2e12, tile_m=1.0)  # fmt: skip


def price(m: int, fit: np.ndarray, *, tp: int = 1, ep: int = 1, skew: float = 0.0) -> tuple[float, float, int]:
    """Mixtral 8x7B's layer in bf16: 8 experts of 4096 x 14336, top 2."""
    rate = np.zeros(len(RATES))
    rate[MEM_BYTE_PER_S], rate[NUM_CORE], rate[L2_BYTE] = MEM, 132, 50 * 2**20
    return moe_s(m, 4096, 14336, 8, 2, tp, ep, skew, 2.0, 2.0, PEAK, rate, fit)


def test_roofline_by_hand() -> None:
    expert = 3 * 4096 * 14336  # gate, up and down
    # one token visits two experts: their weights, its row twice in and twice out is at most one row of each
    assert price(1, IDEAL)[0] == pytest.approx((2 * expert * 2 + 2 * 4096 * 2) / MEM)
    # 8,192 tokens: 16,384 rows through three matrices, two FLOP a multiply-add: compute bounds it
    assert price(8192, IDEAL)[0] == pytest.approx(16384 * 2 * expert / PEAK)
    assert price(8192, IDEAL, tp=4)[0] == pytest.approx(16384 * 2 * expert / 4 / PEAK)
    assert price(8192, IDEAL, ep=4)[0] == pytest.approx(16384 * 2 * expert / 4 / PEAK)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 70000), st.sampled_from([1, 2, 4, 8]), st.sampled_from([0.0, 1.01, 1.2]))
def test_never_below_speed_of_light(m: int, ep: int, skew: float) -> None:
    seconds, ideal_s, _ = price(m, FITTED, ep=ep, skew=skew)
    assert seconds >= ideal_s > 0
    assert price(m, IDEAL, ep=ep, skew=skew)[0] == price(m, IDEAL, ep=ep, skew=skew)[1]


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.integers(1, 448), st.integers(513, 30000)), st.sampled_from([1, 2, 8]))
def test_more_tokens_take_no_less_time(m: int, ep: int) -> None:
    # beyond 512 tokens row tiles share a pass over the weights: fewer bytes, a real step down between the two
    fit = vector(launch_s=2e-5, compute_eff=0.5, mem_eff=0.9, p=2.0, cta_s=1e-6, core_byte_per_s=1e11)
    assert price(m + 64, fit, ep=ep)[0] >= price(m, fit, ep=ep)[0] * (1 - 1e-12)


def test_a_second_row_tile_reads_an_expert_that_overflows_the_cache_again() -> None:
    fit = vector(l2_share=0.1, tile_m=1.0)
    one, two = price(256, fit)[0], price(260, fit)[0]  # 64 rows an expert: one tile of Triton's; 65: two
    assert two / one == pytest.approx(2.0, rel=0.02)
    grouped = vector(l2_share=1.0)  # one fixed tile: 16 row tiles share a pass, where the tiles at work are held
    assert price(260, grouped)[0] / price(256, grouped)[0] == pytest.approx(1 + 1 / 16, rel=0.02)
    kept = vector(l2_share=100.0, tile_m=1.0)  # a cache that holds every matrix
    assert price(260, kept)[0] / price(256, kept)[0] < 1.5


def test_the_heaviest_rank_of_a_power_law_works_longer() -> None:
    assert price(8192, FITTED, ep=8, skew=1.2)[0] > 1.5 * price(8192, FITTED, ep=8)[0]
    assert price(8192, FITTED, skew=1.2)[0] < 1.2 * price(8192, FITTED)[0]  # one rank has all rows either way


def test_a_grid_that_knows_no_counts_starts_tiles_for_experts_without_rows() -> None:
    """One token on a rank of one expert of 256: Triton starts a tile for each of its eight rows, not all local."""
    rate = np.zeros(len(RATES))
    rate[MEM_BYTE_PER_S], rate[NUM_CORE], rate[L2_BYTE] = MEM, 100, 50 * 2**20
    column = (2 * 512 + 2048) / 64  # of both multiplies, 64 wide up to 64 tokens
    free, held = (vector(tile_m=BY_TOKEN, empty_s=s) for s in (0.0, 1e-6))
    for m, grid in ((1, 8.0), (32, 256.0)):
        some = [moe_s(m, 2048, 512, 256, 8, 1, 256, 0.0, 2.0, 2.0, PEAK, rate, fit)[0] for fit in (free, held)]
        assert some[1] <= (grid - 1) * column * 1e-6 / 100 + some[0] * (1 + 1e-12)
        assert some[1] > 0.9 * (grid - 1) * column * 1e-6 / 100


def test_rows_of_weights_off_a_multiple_of_sixteen_stream_slower() -> None:
    rate = np.zeros(len(RATES))
    rate[MEM_BYTE_PER_S], rate[NUM_CORE], rate[L2_BYTE] = MEM, 132, 50 * 2**20
    for rule, slower in ((BY_TOKEN, True), (128.0, False)):  # Triton alone has the rule
        fit = vector(tile_m=rule, core_byte_per_s=1e11, odd_share=0.1)
        odd, even = (moe_s(4096, 2816, w, 128, 8, 1, 1, 0.0, 2.0, 2.0, PEAK, rate, fit)[0] for w in (88, 96))
        assert (odd > 1.5 * even) == slower


def test_repeated_runs_find_few_experts_in_the_cache() -> None:
    fit = vector(warm_share=1.0)
    rate = np.zeros(len(RATES))
    rate[MEM_BYTE_PER_S], rate[NUM_CORE], rate[L2_BYTE], rate[L2_BYTE_PER_S] = 1e12, 132, 96 * 2**20, 4e12
    few, many = (moe_s(1, 2048, 768, n, n, 1, 1, 0.0, 2.0, 2.0, PEAK, rate, fit)[:2] for n in (8, 64))
    assert few[0] == pytest.approx(few[1] / 4, rel=0.01)  # 75 MB at the rate of the cache
    assert many[0] == pytest.approx(many[1], rel=0.01)  # 600 MB at that of the memory


def test_a_plain_expert_is_aligned_as_its_own_width_is() -> None:
    """1856 wide without gates comes as 1237 with: Triton loads its rows by vectors; a rank's eighth, 232 wide, not."""
    rate = np.zeros(len(RATES))
    rate[MEM_BYTE_PER_S], rate[NUM_CORE], rate[L2_BYTE] = MEM, 132, 50 * 2**20
    fit = vector(tile_m=BY_TOKEN, core_byte_per_s=1e11, odd_share=0.1)
    times = {
        (w, tp): moe_s(4096, 2688, w, 128, 6, tp, 1, 0.0, 2.0, 2.0, PEAK, rate, fit)[0]
        for w, tp in ((1237, 1), (1232, 1), (1237, 8), (1280, 8))
    }
    assert times[1237, 1] < 1.05 * times[1232, 1]
    assert times[1237, 8] > 1.5 * times[1280, 8]
