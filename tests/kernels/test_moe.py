"""Fused experts: roofline at speed of light, bounds, weights read once an expert, tiles."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.machine import L2_BYTE, MEM_BYTE_PER_S, NUM_CORE, RATES
from kernels.moe import IDEAL_MOE, MOE_FIT, moe_s

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
    grouped = vector(l2_share=0.1)  # one fixed tile: 16 row tiles share a pass
    assert price(260, grouped)[0] / price(256, grouped)[0] == pytest.approx(1 + 1 / 16, rel=0.02)
    kept = vector(l2_share=100.0, tile_m=1.0)  # a cache that holds every matrix
    assert price(260, kept)[0] / price(256, kept)[0] < 1.5


def test_the_heaviest_rank_of_a_power_law_works_longer() -> None:
    assert price(8192, FITTED, ep=8, skew=1.2)[0] > 1.5 * price(8192, FITTED, ep=8)[0]
    assert price(8192, FITTED, skew=1.2)[0] < 1.2 * price(8192, FITTED)[0]  # one rank has all rows either way
