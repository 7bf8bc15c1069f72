"""A machine whose kernels take a multiple of their calibrated times."""

import numpy as np
import numpy.typing as npt

from hw_models.forms import COLLECTIVE_KINDS, EXCHANGE_KINDS, FORMS, STREAM_KINDS
from kernels.attention import UNSHARED
from kernels.formats import FORMAT_CODE
from kernels.machine import Machine
from kernels.optable import KIND_CODE, KINDS

DECODE, PREFILL = "attn_decode", "attn_prefill"
FUSIBLE = (*STREAM_KINDS, "kv_write")
TIME = ("_s",)  # ends of the names of fit slots: seconds, which grow with the factor
SHARE = ("_eff", "_byte_per_s")  # rates and shares of one, which shrink with it


def scale_slots(slots: npt.NDArray[np.float64], names: tuple[str, ...], factor: float) -> None:
    """Scale the time that a fit vector stands for: seconds by `factor`, rates and efficiencies by its inverse.

    >>> slots = np.array([2e-6, 0.8, 4.0])
    >>> scale_slots(slots, ("launch_s", "mem_eff", "p"), 2.0); slots.tolist()
    [4e-06, 0.4, 4.0]
    """
    for index, name in enumerate(names):
        if name.endswith(SHARE):
            slots[index] /= factor
        elif name.endswith(TIME):
            slots[index] *= factor


def slower(
    machine: Machine, factor: float, decode_factor: float = 1.0, unshared: bool = False, fused: tuple[str, ...] = (),
    prefill_factor: float = 1.0,
) -> Machine:  # fmt: skip
    """`machine` with every kernel but the collectives `factor` times as long (below 1: faster), its attention of
    decodes and of prompts `decode_factor` and `prefill_factor` times that; `unshared`: decodes read keys once for each
    query head. Kinds that are `fused` move their bytes within a neighbour's kernel: nothing is launched for them."""
    if factor == decode_factor == prefill_factor == 1.0 and not unshared and not fused:
        return machine
    own = {DECODE: decode_factor, PREFILL: prefill_factor}
    fit = machine.fit.copy()
    for code, kind in enumerate(KINDS):
        if kind in FORMS and kind not in (*COLLECTIVE_KINDS, *EXCHANGE_KINDS):
            times = factor * own.get(kind, 1.0)
            for slots in fit[code]:
                scale_slots(slots, FORMS[kind].names, times)
    for kind in fused:
        fit[KINDS.index(kind), :, FORMS[kind].names.index("launch_s")] = 0.0
    if unshared:
        fit[KINDS.index(DECODE), :, UNSHARED] = 1.0
    return machine._replace(fit=fit)


def with_block_experts(machine: Machine, seconds: float) -> Machine:
    """`machine` with every layer of block-scaled experts so much longer."""
    if seconds == 0.0:
        return machine
    fit = machine.fit.copy()
    fit[KIND_CODE["moe"], FORMAT_CODE["fp8_block"], FORMS["moe"].names.index("launch_s")] += seconds
    return machine._replace(fit=fit)
