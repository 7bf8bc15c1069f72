"""Time of a linear recurrence over prompts, in the chunked form that gated delta rules, Mamba-2 and linear attention
share: matrix products inside chunks of `CHUNK` tokens, the state handed from chunk to chunk.

A head of a sequence is one chain: its chunks follow one another, on one core. Chains fill the cores in waves:

    t = launch + (core^p + memory^p)^(1/p),  core = waves x (start + padded tokens x FLOP / (core's peak x efficiency))

So a short batch of long prompts leaves most cores idle, whatever its FLOPs. A step of several prompts is taken as of
prompts of their mean length.
"""

import math

import numpy as np
import numpy.typing as npt

from kernels.gemm import p_norm
from kernels.jit import njit
from kernels.machine import MEM_BYTE_PER_S, NUM_CORE, NUM_FIT
from kernels.optable import BOUND_COMPUTE, BOUND_LATENCY, BOUND_LAUNCH, BOUND_MEMORY

Floats = npt.NDArray[np.float64]

CHUNK = 64  # tokens that the chunked form multiplies at once (FLA, FlashInfer and Mamba-2 kernels)

SCAN_FIT: tuple[str, ...] = (
    "launch_s",  # start and end of the kernels with nothing to do
    "start_s",  # a chain's first loads and last writes
    "compute_eff",  # of a core's share of the peak inside a chain
    "mem_eff",  # share of the datasheet's memory bandwidth
    "p",  # norm that joins cores and memory; 0 stands for the maximum
    "serial",  # 1: a chain of a head is one core's; 0: all cores share all work (speed of light)
)
LAUNCH_S, START_S, COMPUTE_EFF, MEM_EFF, P, SERIAL = range(len(SCAN_FIT))
IDEAL_SCAN: tuple[float, ...] = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0)
assert len(SCAN_FIT) == len(IDEAL_SCAN) <= NUM_FIT


@njit
def scan_s(
    num_token: int, num_seq: int, num_head: int, flop: float, byte: float, peak_flop_per_s: float, rate: Floats,
    fit: Floats,
) -> tuple[float, float, int]:  # fmt: skip
    """Seconds, speed-of-light seconds and bound of a scan of `num_token` tokens of `num_seq` prompts; `flop` and `byte`
    are those of all of them. No token takes no time.

    >>> from kernels.machine import RATES
    >>> rate = np.ones(len(RATES)); rate[NUM_CORE] = 4.0
    >>> scan_s(128, 1, 2, 256.0, 64.0, 4.0, rate, np.array(IDEAL_SCAN))  # 256 FLOP at 4/s, 64 B at 1/s
    (64.0, 64.0, 1)
    >>> chains = np.array((0.0, 0.0, 1.0, 1.0, 0.0, 1.0))  # two chains of 128 FLOP on two of four cores
    >>> scan_s(128, 1, 2, 256.0, 64.0, 4.0, rate, chains)
    (128.0, 64.0, 4)
    """
    if num_token <= 0 or num_seq <= 0:
        return 0.0, 0.0, BOUND_LAUNCH
    flop_s, byte_s = flop / peak_flop_per_s, byte / rate[MEM_BYTE_PER_S]
    ideal_s = max(flop_s, byte_s)
    core_s = flop_s / fit[COMPUTE_EFF]
    bound = BOUND_COMPUTE
    if fit[SERIAL] > 0.0:
        padded = num_seq * math.ceil(num_token / (num_seq * CHUNK)) * CHUNK / num_token
        wave = num_seq * num_head / rate[NUM_CORE]
        whole = max(1.0, math.ceil(wave))
        core_s = whole * (fit[START_S] + padded * core_s / wave)
        bound = BOUND_LATENCY if whole > 1.5 * wave else BOUND_COMPUTE
    mem_s = byte_s / fit[MEM_EFF]
    seconds = fit[LAUNCH_S] + p_norm(core_s, mem_s, fit[P])
    if mem_s > core_s:
        bound = BOUND_MEMORY
    if fit[LAUNCH_S] > 0.5 * seconds:
        bound = BOUND_LAUNCH
    return max(seconds, ideal_s), ideal_s, bound
