"""Streams: bytes over bandwidth, cache, launch."""

import numpy as np
import pytest

from kernels.machine import L2_BYTE, MEM_BYTE_PER_S, RATES, VECTOR_FLOP_PER_S
from kernels.optable import BOUND_COMPUTE, BOUND_LAUNCH, BOUND_MEMORY
from kernels.stream import IDEAL_STREAM, STREAM_FIT, stream_s

RATE = np.zeros(len(RATES))
RATE[MEM_BYTE_PER_S], RATE[VECTOR_FLOP_PER_S], RATE[L2_BYTE] = 2039e9, 19.5e12, 40e6  # A100 80 GB SXM, datasheet


def fit(**values: float) -> np.ndarray:
    vector = np.array(IDEAL_STREAM)
    for name, value in values.items():
        vector[STREAM_FIT.index(name)] = value
    return vector


def test_speed_of_light() -> None:
    token, width = 4096, 8192
    byte = token * width * 2.0
    seconds, ideal_s, bound = stream_s(5.0 * token * width, byte, byte, RATE, fit())
    assert seconds == ideal_s == pytest.approx(2 * byte / 2039e9)  # 1.25 FLOP a byte is far under 9.6
    assert bound == BOUND_MEMORY
    assert stream_s(1e12, 8.0, 8.0, RATE, fit())[::2] == (pytest.approx(1e12 / 19.5e12), BOUND_COMPUTE)


def test_launch_bounds_a_small_operator() -> None:
    seconds, _, bound = stream_s(0.0, 1024.0, 0.0, RATE, fit(launch_s=2e-6))
    assert seconds == pytest.approx(2e-6 + 1024 / 2039e9)
    assert bound == BOUND_LAUNCH


def test_cache_helps_until_it_overflows_and_time_is_monotone() -> None:
    warm = fit(launch_s=2e-6, mem_eff=0.9, warm_l2=0.5, l2_ratio=3.0, ramp_byte=1e6)
    cold = fit(launch_s=2e-6, mem_eff=0.9, ramp_byte=1e6)
    times = [stream_s(0.0, byte, 0.0, RATE, warm)[0] for byte in np.geomspace(1e3, 1e9, 200)]
    assert np.all(np.diff(times) >= 0)
    assert stream_s(0.0, 20e6, 0.0, RATE, warm)[0] < stream_s(0.0, 20e6, 0.0, RATE, cold)[0]
    assert stream_s(0.0, 30e6, 0.0, RATE, warm) == stream_s(0.0, 30e6, 0.0, RATE, cold)  # 1.5 x the room: all gone


def test_nothing_to_do_takes_no_time() -> None:
    assert stream_s(0.0, 0.0, 0.0, RATE, fit(launch_s=2e-6)) == (0.0, 0.0, BOUND_LAUNCH)
