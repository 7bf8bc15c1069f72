"""What a kernel needs to know of a machine: plain arrays, laid out by the names below.

`hw_models` fills a `Machine` from a catalogue file and a calibration profile. With the `sol` fidelity every
`fit` vector is the ideal one of its kernel file (no launch time, efficiency 1), so that speed of light is the
same code path as everything else.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.formats import NUM_FORMAT
from kernels.jit import njit
from kernels.optable import BOUND_COMPUTE, BOUND_MEMORY, NUM_KIND

Floats = npt.NDArray[np.float64]

RATES: tuple[str, ...] = (
    "mem_byte_per_s",  # device memory, peak of the datasheet
    "vector_flop_per_s",  # outside the tensor pipes (fp32)
    "num_core",  # SMs, CUs, TensorCores, CPU cores
    "clock_hz",  # boost
    "l2_byte",
    "l2_byte_per_s",
    "idle_w",  # a device
    "dynamic_w",  # at full roofline use: board power less idle
    "flop_j",  # explicit energy a FLOP and a byte (PIM and NPU models; 0 where `dynamic_w` carries it)
    "byte_j",
    "pim_byte_per_s",  # units in or under the memory, all of a device; 0 where it has none
    "pim_flop_per_s",
)
(
    MEM_BYTE_PER_S, VECTOR_FLOP_PER_S, NUM_CORE, CLOCK_HZ, L2_BYTE, L2_BYTE_PER_S, IDLE_W, DYNAMIC_W, FLOP_J, BYTE_J,
    PIM_BYTE_PER_S, PIM_FLOP_PER_S,
) = range(len(RATES))  # fmt: skip

LINK_FIELDS: tuple[str, ...] = ("byte_per_s", "latency_s", "num_device")  # byte/s a direction a device
LINK_BYTE_PER_S, LINK_LATENCY_S, LINK_NUM_DEVICE = range(len(LINK_FIELDS))
LINKS: tuple[str, ...] = ("scale_up", "scale_out", "host")  # inside a node, between nodes, to host memory
LINK_UP, LINK_OUT, LINK_HOST = range(len(LINKS))

NUM_FIT = 32  # slots of a fit vector; each kernel file names its own in `<KIND>_FIT`


class Machine(NamedTuple):
    """One device of a system as arrays; passed whole into the kernels."""

    rate: Floats  # [len(RATES)]
    peak_flop_per_s: Floats  # [NUM_FORMAT], dense; 0 where the machine has no such pipe
    fit: Floats  # [NUM_KIND, NUM_FORMAT, NUM_FIT]; attention is indexed by KV format
    link: Floats  # [len(LINKS), len(LINK_FIELDS)]


@njit
def faster_on_pim(found: tuple[float, float, int], flop: float, byte: float, rate: Floats) -> tuple[float, float, int]:
    """The price `found` on the main engine (seconds, speed-of-light seconds, bound), or that of the units in the
    memory where they are faster: dispatch by trying both. Units read where the data lie and launch no kernel.

    >>> rate = np.zeros(len(RATES)); rate[PIM_BYTE_PER_S], rate[PIM_FLOP_PER_S] = 4.0, 8.0
    >>> faster_on_pim((3.0, 2.0, 1), 8.0, 8.0, rate), faster_on_pim((1.0, 1.0, 1), 8.0, 8.0, rate)
    ((2.0, 2.0, 2), (1.0, 1.0, 1))
    """
    if rate[PIM_BYTE_PER_S] <= 0.0:
        return found
    flop_s, byte_s = flop / rate[PIM_FLOP_PER_S], byte / rate[PIM_BYTE_PER_S]
    seconds = max(flop_s, byte_s)
    if seconds >= found[0]:
        return found
    return seconds, seconds, BOUND_COMPUTE if flop_s > byte_s else BOUND_MEMORY


def blank() -> Machine:
    """A machine of zeros, to be filled."""
    return Machine(
        np.zeros(len(RATES)),
        np.zeros(NUM_FORMAT),
        np.zeros((NUM_KIND, NUM_FORMAT, NUM_FIT)),
        np.zeros((len(LINKS), len(LINK_FIELDS))),
    )
