"""The longest sequence that a plan trains in the memory that there is."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from hw_models import catalog
from hw_models.spec import System
from kernels.errors import InputError
from kernels.train_plan import LAST, MEMORY, STACK_DTYPE, peak_byte
from sim.training.price import byte_piece, plan_record
from workloads import models
from workloads.models.spec import ModelSpec
from workloads.training import TrainPlan, check


class Library(NamedTuple):
    """What a training library holds beside what its plan says."""

    logit_byte: float = 0.0  # a logit at the peak; 0: as the plan's loss keeps them
    reserve_byte: float = 0.0  # of a process on the device
    logit_token: int = 0  # head and loss so many tokens at a time; 0: all at once
    prompt: int = 0  # first tokens of each sequence, which have no logits
    token_byte: float = 0.0  # more a token
    pair_byte: float = 0.0  # more a pair of tokens of one sequence: a mask that is written out
    stretch: float = 1.0  # tokens that are trained, a token of the stated length


def plan_byte(model: ModelSpec, plan: TrainPlan, library: Library = Library()) -> float:  # noqa: B008 (immutable)
    """Peak bytes of the fullest device; `plan.seq` is the stated length."""
    plan = replace(plan, seq=round(plan.seq * library.stretch))
    if library.logit_token:
        plan = replace(plan, logit_chunk=max(1, -(-plan.seq // library.logit_token)))
    check(model, plan)
    piece, stack = byte_piece(model, plan), np.zeros(1, STACK_DTYPE)[0]
    stack["reserve_byte"] = library.reserve_byte
    if library.logit_byte:
        piece["kept_byte"][LAST] = plan.seq * plan.micro_batch / plan.cp * model.vocab / plan.tp * library.logit_byte
    piece["kept_byte"][LAST] *= max(0, plan.seq - library.prompt) / plan.seq
    held = (library.token_byte + library.pair_byte * plan.seq) * plan.micro_batch * plan.seq
    return float(peak_byte(plan_record(model, plan), piece, stack, np.zeros(len(MEMORY)))) + held


def max_length(
    model: str | ModelSpec, system: str | System, plan: TrainPlan, library: Library = Library(), *,  # noqa: B008
    unit: int = 100, mem_byte: float = 0.0,
) -> int:  # fmt: skip
    """The largest sequence length, a multiple of `unit`, that fits (`plan.seq` is not looked at); `mem_byte` instead
    of the device's memory where it is given. Memory never falls as sequences grow, so that halving finds it.

    Raises `InputError` where not even `unit` tokens fit.
    """
    spec = models.load(model) if isinstance(model, str) else model
    machine = catalog.system(system, plan.num_device) if isinstance(system, str) else system
    limit = mem_byte or machine.device.mem_byte - machine.device.mem_reserved_byte

    def fits(count: int) -> bool:
        return plan_byte(spec, replace(plan, seq=count * unit), library) <= limit

    if not fits(1):
        raise InputError(f"{unit} tokens do not fit in {limit / 2**30:.1f} GiB", field="unit", value=unit)
    low, high = 1, 2
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low * unit
