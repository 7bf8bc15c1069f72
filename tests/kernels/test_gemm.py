"""GEMM: ideal roofline, bounds, monotone work, wave quantisation."""

import math

import numpy as np
import pytest

from kernels.gemm import GEMM_FIT, IDEAL_GEMM, gemm_s, p_norm
from kernels.machine import MEM_BYTE_PER_S, NUM_CORE, RATES

PEAK = 989e12  # H100 SXM dense bf16, datasheet
FIT = np.array(IDEAL_GEMM)


def rates() -> np.ndarray:
    rate = np.zeros(len(RATES))
    rate[MEM_BYTE_PER_S] = 3.35e12  # H100 SXM, datasheet
    rate[NUM_CORE] = 132
    return rate


def price(m: int, n: int, k: int, fit: np.ndarray = FIT) -> tuple[float, float, int]:
    return gemm_s(m, n, k, 1, 2.0 * n * k, 2.0 * m * k, 2.0 * m * n, PEAK, rates(), fit)


@pytest.mark.parametrize(("m", "n", "k"), [(1, 4096, 4096), (8192, 8192, 8192), (64, 28672, 4096)])
def test_ideal_is_the_roofline(m: int, n: int, k: int) -> None:
    seconds, ideal_s, _ = price(m, n, k)
    roof = max(2 * m * n * k / PEAK, 2 * (n * k + m * k + m * n) / 3.35e12)
    assert seconds == ideal_s == pytest.approx(roof, rel=1e-15)


def test_p_norm_limits() -> None:
    assert p_norm(2.0, 2.0, 1.0) == 4.0
    assert p_norm(2.0, 2.0, 64.0) == pytest.approx(2.0 * 2 ** (1 / 64))
    assert p_norm(5.0, 0.0, 3.0) == 5.0
    assert len(IDEAL_GEMM) == len(GEMM_FIT)
    assert math.isinf(IDEAL_GEMM[GEMM_FIT.index("core_byte_per_s")])
