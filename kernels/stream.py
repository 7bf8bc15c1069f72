"""Time of an operator that reads, computes a little and writes: norms, rotary, activations, residual adds,
embedding, sampling, KV writes, conversions, copies.

    t = launch + (t_vector^p + t_mem^p)^(1/p)

Bytes move at a share of the device memory's bandwidth, or faster where the operator's data still lies in the L2
cache from the operator before. `ramp_byte` is the latency of one trip to memory as bytes (bandwidth times
latency, Little's law): a small operator cannot keep enough loads in flight.
"""

import numpy as np
import numpy.typing as npt

from kernels.gemm import p_norm
from kernels.jit import njit_inline
from kernels.machine import L2_BYTE, MEM_BYTE_PER_S, NUM_FIT, VECTOR_FLOP_PER_S
from kernels.optable import BOUND_COMPUTE, BOUND_LAUNCH, BOUND_MEMORY

Floats = npt.NDArray[np.float64]

STREAM_FIT: tuple[str, ...] = (
    "launch_s",  # start and end of the kernel with nothing to do
    "mem_eff",  # share of the datasheet's memory bandwidth
    "vector_eff",  # share of the vector units' peak
    "p",  # norm that joins vector units and memory; 0 stands for the maximum
    "ramp_byte",  # bytes that could have moved while the first ones came
    "warm_l2",  # share of L2 in which the operator before left this one's data; 0: everything from memory
    "l2_ratio",  # L2 bandwidth over device memory bandwidth
)
LAUNCH_S, MEM_EFF, VECTOR_EFF, P, RAMP_BYTE, WARM_L2, L2_RATIO = range(len(STREAM_FIT))

IDEAL_STREAM: tuple[float, ...] = (0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0)
assert len(STREAM_FIT) <= NUM_FIT


@njit_inline
def stream_s(flop: float, read_byte: float, write_byte: float, rate: Floats, fit: Floats) -> tuple[float, float, int]:
    """Seconds, speed-of-light seconds and bound of one operator; nothing to do takes no time.

    >>> from kernels.machine import RATES
    >>> stream_s(5.0, 16.0, 8.0, np.ones(len(RATES)), np.array(IDEAL_STREAM))  # 24 B at 1 B/s
    (24.0, 24.0, 2)
    """
    byte = read_byte + write_byte
    if byte <= 0.0 and flop <= 0.0:
        return 0.0, 0.0, BOUND_LAUNCH
    bandwidth = rate[MEM_BYTE_PER_S]
    room = fit[WARM_L2] * rate[L2_BYTE]
    hit = max(0.0, min(byte, 3.0 * room - 2.0 * byte))
    miss_s = (byte - hit) / bandwidth
    flop_s = flop / rate[VECTOR_FLOP_PER_S]
    ideal_s = max(flop_s, miss_s)
    mem_s = (miss_s + hit / (bandwidth * fit[L2_RATIO])) / fit[MEM_EFF]
    vector_s = flop_s / fit[VECTOR_EFF]
    start_s = fit[LAUNCH_S] + min(byte, fit[RAMP_BYTE]) / bandwidth
    seconds = start_s + p_norm(vector_s, mem_s, fit[P])
    bound = BOUND_COMPUTE if vector_s > mem_s else BOUND_MEMORY
    if start_s > 0.5 * seconds:
        bound = BOUND_LAUNCH
    return seconds, ideal_s, bound
