"""Time of writing new keys and values into a paged cache.

Serving engines launch one thread block a token, of one thread a value up to a limit (512), whatever the block has
to move: a token of few heads leaves most of its threads idle while their block holds a slot of the core.

    t = launch + tokens x min(values, limit) / (2048 threads x cores) x block + bytes / bandwidth
"""

import math

import numpy as np
import numpy.typing as npt

from kernels.jit import njit
from kernels.machine import MEM_BYTE_PER_S, NUM_CORE, NUM_FIT
from kernels.optable import BOUND_LATENCY, BOUND_LAUNCH, BOUND_MEMORY

Floats = npt.NDArray[np.float64]

KV_WRITE_FIT: tuple[str, ...] = (
    "launch_s",  # start and end of the kernel with nothing to do
    "cta_s",  # life of a token's thread block
    "max_thread",  # of a block
    "mem_eff",  # share of the datasheet's memory bandwidth
)
LAUNCH_S, CTA_S, MAX_THREAD, MEM_EFF = range(len(KV_WRITE_FIT))
IDEAL_KV_WRITE: tuple[float, ...] = (0.0, 0.0, 1.0, 1.0)
CORE_THREAD = 2048.0  # resident threads of a core (NVIDIA, compute capability 8.0 and 9.0)
assert len(KV_WRITE_FIT) <= NUM_FIT


@njit
def kv_write_s(
    num_token: int, width: int, read_byte: float, write_byte: float, rate: Floats, fit: Floats
) -> tuple[float, float, int]:
    """Seconds, speed-of-light seconds and bound of writing `width` numbers (keys and values) for each of
    `num_token` tokens; no token takes no time.

    >>> from kernels.machine import RATES
    >>> kv_write_s(3, 8, 48.0, 24.0, np.ones(len(RATES)), np.array(IDEAL_KV_WRITE))  # 72 B at 1 B/s
    (72.0, 72.0, 2)
    """
    if num_token <= 0:
        return 0.0, 0.0, BOUND_LAUNCH
    ideal_s = (read_byte + write_byte) / rate[MEM_BYTE_PER_S]
    thread = max(32.0, min(fit[MAX_THREAD], width / 2.0))
    core_s = math.ceil(num_token * thread / (CORE_THREAD * rate[NUM_CORE])) * fit[CTA_S] if fit[CTA_S] > 0.0 else 0.0
    mem_s = ideal_s / fit[MEM_EFF]
    seconds = fit[LAUNCH_S] + core_s + mem_s
    bound = BOUND_LATENCY if core_s > mem_s else BOUND_MEMORY
    if fit[LAUNCH_S] > 0.5 * seconds:
        bound = BOUND_LAUNCH
    return seconds, ideal_s, bound
