"""The longest sequence that a plan trains in the memory that there is."""

from dataclasses import replace

import numpy as np

from hw_models import catalog
from hw_models.spec import System
from kernels import training as t
from kernels.errors import InputError
from kernels.training import Floats
from sim.training.fitted.stack import Stack, default_stack, hardware_vector, load
from workloads import models
from workloads.models.spec import ModelSpec
from workloads.training import TrainPlan, check, model_vector, plan_vector


def plan_byte(
    model: ModelSpec, plan: TrainPlan, fit: Floats, logit_token: int = 0, prompt: int = 0, token_byte: float = 0.0,
) -> float:  # fmt: skip
    """Peak bytes of the fullest device; with `logit_token` head and loss are done so many tokens at a time; the first
    `prompt` tokens of each sequence have no logits, and `token_byte` more are held a token."""
    if prompt:
        fit = fit.copy()
        fit[t.LOGIT_BYTE] *= max(0, plan.seq - prompt) / plan.seq
    if logit_token:
        plan = replace(plan, logit_chunk=max(1, -(-plan.seq // logit_token)))
    check(model, plan)
    vector, laid = model_vector(model, plan.seq, plan.dropout), plan_vector(plan)
    held = token_byte * plan.micro_batch * plan.seq
    return float(t.peak_byte(vector, laid, fit, np.zeros(len(t.MEMORY)))) + held


def max_length(
    model: str | ModelSpec, system: str | System, plan: TrainPlan, *, stack: str | Stack | None = None,
    logit_token: int = 0, prompt: int = 0, token_byte: float = 0.0, unit: int = 100, mem_byte: float = 0.0,
) -> int:  # fmt: skip
    """The largest sequence length, a multiple of `unit`, that fits (`plan.seq` is not looked at); `mem_byte` instead
    of the device's memory where it is given. Memory never falls as sequences grow, so that halving finds it.

    Raises `InputError` where not even `unit` tokens fit.
    """
    spec = models.load(model) if isinstance(model, str) else model
    machine = catalog.system(system, plan.num_device) if isinstance(system, str) else system
    constants = stack if isinstance(stack, Stack) else load(stack or default_stack(machine.device.name))
    limit = mem_byte or float(hardware_vector(machine)[t.MEM_BYTE])

    def fits(count: int) -> bool:
        return plan_byte(spec, replace(plan, seq=count * unit), constants.fit, logit_token, prompt, token_byte) <= limit

    if not fits(1):
        raise InputError(f"{unit} tokens do not fit in {limit / 2**30:.1f} GiB", field="unit", value=unit)
    low, high = 1, 2
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low * unit
