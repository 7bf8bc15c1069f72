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
from kernels.optable import BOUND_PIM_COMPUTE, BOUND_PIM_MEMORY, NUM_KIND

Floats = npt.NDArray[np.float64]

RATES: tuple[str, ...] = (
    "mem_byte_per_s",  # device memory, peak of the datasheet
    "vector_flop_per_s",  # outside the tensor pipes (fp32)
    "num_core",  # SMs, CUs, TensorCores, CPU cores
    "clock_hz",  # boost
    "l2_byte",
    "l2_byte_per_s",
    "idle_w",  # a device that is awake (`kernels.power`)
    "dynamic_w",  # above that, at the cap
    "busy_w",  # above that, while a kernel runs
    "product_w",  # above that, at the peak of a tensor pipe, whatever the format
    "attention_w",  # likewise of attention, whose softmax works beside the products
    "traffic_w",  # at the peak rate of the memory
    "link_w",  # while a collective runs, in place of `busy_w`
    "pim_byte_per_s",  # units in or under the memory, all of a device; 0 where it has none
    "pim_flop_per_s",
    "pim_flop_j",  # joules of a FLOP and a byte on the units; 0 both: they burn `dynamic_w`
    "pim_byte_j",
    "pim_attention",  # where decode attention goes, of `DISPATCHES`
    "pim_expert",  # and experts
    "pim_op_per_byte",  # Op/B below which `op_b` sends an operator to the units
    "beside",  # what runs beside what in a step, of `BESIDES`
    "main_share",  # speed of the main engine while the units work, and of the units while it works
    "pim_share",
    "sub_batch_from",  # decodes from which `sub_batch` splits a step
)
(
    MEM_BYTE_PER_S, VECTOR_FLOP_PER_S, NUM_CORE, CLOCK_HZ, L2_BYTE, L2_BYTE_PER_S, IDLE_W, DYNAMIC_W, BUSY_W,
    PRODUCT_W, ATTENTION_W, TRAFFIC_W, LINK_W,
    PIM_BYTE_PER_S, PIM_FLOP_PER_S, PIM_FLOP_J, PIM_BYTE_J, PIM_ATTENTION, PIM_EXPERT, PIM_OP_PER_BYTE,
    BESIDE, MAIN_SHARE, PIM_SHARE, SUB_BATCH_FROM,
) = range(len(RATES))  # fmt: skip

DISPATCHES: tuple[str, ...] = ("best", "xpu", "pim", "op_b", "co_process")
BEST, XPU, PIM, OP_B, CO_PROCESS = range(len(DISPATCHES))
"""Where an operator of low Op/B runs: where it is faster (both are tried), on the main engine, on the units, by its
Op/B, or (experts) hot ones on the main engine beside cold ones on the units."""

BESIDES: tuple[str, ...] = ("nothing", "attention", "sub_batch")
BESIDE_NOTHING, BESIDE_ATTENTION, BESIDE_SUB_BATCH = range(len(BESIDES))
"""Operators of a step one after another; prompts' attention on the main engine beside decode attention on the units
(`kernels.engine.beside`); or a decode step in two sub-batches, one's attention on the units beside the other's
projections (`kernels.engine.sub_batch`)."""

EXPERT_COLUMNS: tuple[str, ...] = ("seconds", "ideal_s", "bound", "pim_byte", "pim_flop", "byte")
EXPERT_S, EXPERT_IDEAL_S, EXPERT_BOUND, EXPERT_PIM_BYTE, EXPERT_PIM_FLOP, EXPERT_BYTE = range(len(EXPERT_COLUMNS))
"""Of a look-up by tokens: time of a layer's experts, its speed-of-light time, what bounds the engine that reads most,
bytes and FLOPs of the units, and all bytes; of a mean device."""

LINK_FIELDS: tuple[str, ...] = (
    "byte_per_s",  # a direction, a device
    "latency_s",
    "num_device",
    "ring_step",  # scale-up: steps that follow each other, over those of one flat ring (tori have one an axis; else 1)
    "peer_hop",  # scale-up: how many times longer messages to all peers take than with a link to each (tori; else 1)
)
LINK_BYTE_PER_S, LINK_LATENCY_S, LINK_NUM_DEVICE, LINK_RING_STEP, LINK_PEER_HOP = range(len(LINK_FIELDS))
LINKS: tuple[str, ...] = ("scale_up", "scale_out", "host")  # inside a node, between nodes, to host memory
LINK_UP, LINK_OUT, LINK_HOST = range(len(LINKS))

NUM_FIT = 40  # slots of a fit vector; each kernel file names its own in `<KIND>_FIT`


class Machine(NamedTuple):
    """One device of a system as arrays; passed whole into the kernels."""

    rate: Floats  # [len(RATES)]
    peak_flop_per_s: Floats  # [NUM_FORMAT], dense; 0 where the machine has no such pipe
    fit: Floats  # [NUM_KIND, NUM_FORMAT, NUM_FIT]; attention is indexed by KV format
    link: Floats  # [len(LINKS), len(LINK_FIELDS)]
    expert: Floats  # [token + 1, len(EXPERT_COLUMNS)] look-up that prices experts; no row: `kernels.moe` does


@njit
def dispatch(
    found: tuple[float, float, int], flop: float, byte: float, rate: Floats, mode: int
) -> tuple[float, float, int]:
    """The price `found` on the main engine (seconds, speed-of-light seconds, bound), or that of the units in the
    memory where `mode` sends the operator there. Units read where the data lie and launch no kernel.

    Speed-of-light seconds stand for energy: times the main engine's dynamic power they are an operator's joules above
    idle. Those of an operator on the units are such that this holds for the units' own joules.

    >>> rate = np.zeros(len(RATES)); rate[PIM_BYTE_PER_S], rate[PIM_FLOP_PER_S] = 4.0, 8.0
    >>> dispatch((3.0, 2.0, 1), 8.0, 8.0, rate, BEST), dispatch((1.0, 1.0, 1), 8.0, 8.0, rate, BEST)
    ((2.0, 2.0, 7), (1.0, 1.0, 1))
    >>> dispatch((1.0, 1.0, 1), 8.0, 8.0, rate, PIM), dispatch((3.0, 2.0, 1), 8.0, 8.0, rate, XPU)
    ((2.0, 2.0, 7), (3.0, 2.0, 1))
    """
    if rate[PIM_BYTE_PER_S] <= 0.0 or mode == XPU:
        return found
    seconds = max(flop / rate[PIM_FLOP_PER_S], byte / rate[PIM_BYTE_PER_S])
    if mode == OP_B:
        if flop > byte * rate[PIM_OP_PER_BYTE]:
            return found
    elif mode != PIM and seconds >= found[0]:
        return found
    return seconds, pim_ideal_s(flop, byte, rate), pim_bound(flop, byte, rate)


@njit
def pim_ideal_s(flop: float, byte: float, rate: Floats) -> float:
    """Seconds of the main engine's dynamic power that are the units' joules for so many FLOPs and bytes; their own
    time where they state no joules."""
    joule = flop * rate[PIM_FLOP_J] + byte * rate[PIM_BYTE_J]
    if joule <= 0.0 or rate[DYNAMIC_W] <= 0.0:
        return max(flop / rate[PIM_FLOP_PER_S], byte / rate[PIM_BYTE_PER_S])
    return joule / rate[DYNAMIC_W]


@njit
def pim_bound(flop: float, byte: float, rate: Floats) -> int:
    """What bounds an operator on the units."""
    return BOUND_PIM_COMPUTE if flop * rate[PIM_BYTE_PER_S] > byte * rate[PIM_FLOP_PER_S] else BOUND_PIM_MEMORY


def blank() -> Machine:
    """A machine of zeros, to be filled."""
    return Machine(
        np.zeros(len(RATES)),
        np.zeros(NUM_FORMAT),
        np.zeros((NUM_KIND, NUM_FORMAT, NUM_FIT)),
        np.zeros((len(LINKS), len(LINK_FIELDS))),
        np.zeros((0, len(EXPERT_COLUMNS))),
    )
