"""Cache writes: bytes over bandwidth, and thread blocks that hold the cores."""

import numpy as np
import pytest

from kernels.kv_write import IDEAL_KV_WRITE, KV_WRITE_FIT, kv_write_s
from kernels.machine import MEM_BYTE_PER_S, NUM_CORE, RATES
from kernels.optable import BOUND_LAUNCH, BOUND_MEMORY

RATE = np.zeros(len(RATES))
RATE[MEM_BYTE_PER_S], RATE[NUM_CORE] = 2039e9, 108  # A100 80 GB SXM, datasheet


def fit(**values: float) -> np.ndarray:
    vector = np.array(IDEAL_KV_WRITE)
    for name, value in values.items():
        vector[KV_WRITE_FIT.index(name)] = value
    return vector


def test_speed_of_light() -> None:
    token, width = 8192, 8 * 256  # 8 heads of 128 keys and values
    byte = token * width * 2.0
    seconds, ideal_s, bound = kv_write_s(token, width, byte, byte / 2, RATE, fit())  # narrowed to 8 bits
    assert seconds == ideal_s == pytest.approx(1.5 * byte / 2039e9)
    assert bound == BOUND_MEMORY


def test_narrow_tokens_wait_for_blocks_and_not_for_bytes() -> None:
    # blocks of 512 threads: 4 a core, 432 at once; 8192 tokens are 19 rounds whether 4 or 8 heads are written
    slow = fit(cta_s=3e-6, max_thread=512)
    four, eight = (kv_write_s(8192, 256 * n, 0.0, 1.0, RATE, slow)[0] for n in (4, 8))
    assert four == pytest.approx(eight) == pytest.approx(19 * 3e-6)
    one = kv_write_s(8192, 256, 0.0, 1.0, RATE, slow)[0]  # one head: 128 threads, 16 blocks a core, 5 rounds
    assert one == pytest.approx(5 * 3e-6)


def test_never_faster_than_light_and_monotone() -> None:
    real = fit(launch_s=2e-6, cta_s=3e-6, max_thread=512, mem_eff=0.8)
    times = [kv_write_s(m, 2048, 4096.0 * m, 4096.0 * m, RATE, real) for m in range(1, 5000, 37)]
    assert all(seconds >= ideal_s > 0 for seconds, ideal_s, _ in times)
    assert np.all(np.diff([seconds for seconds, _, _ in times]) >= 0)
    assert times[0][2] != BOUND_MEMORY
    assert kv_write_s(0, 2048, 0.0, 0.0, RATE, real) == (0.0, 0.0, BOUND_LAUNCH)
