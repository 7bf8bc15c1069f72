"""Step time and memory of one plan in closed form: what a search gives a plan, for one plan by its name."""

import functools
from typing import NamedTuple

import numpy as np

from hw_models import catalog
from hw_models.clock import limited_system
from kernels.train_closed import RESULT, plan_step
from kernels.train_plan import MEMORY, Floats, Record, Records, peak_byte
from kernels.train_step import ONLY, STAGE, stage_times
from sim.training.price import Site, byte_piece, piece, plan_record, site
from sim.training.stack import load_stack
from workloads.models.spec import ModelSpec
from workloads.training import TrainPlan, with_heads


class Estimate(NamedTuple):
    """One plan: seconds of a step and their parts, peak bytes of the fullest device and theirs."""

    step_s: float
    peak_byte: float
    fits: bool
    part: Floats  # [RESULT] seconds
    memory: Floats  # [MEMORY] bytes


@functools.lru_cache(maxsize=512)
def known_site(
    system: str, num_device: int, stack: str, attention: str, precision: str = "bf16", power_limit_w: float = 0.0
) -> Site:
    """`sim.training.price.site` by names."""
    machine = catalog.system(system, num_device)
    if power_limit_w:
        machine = limited_system(machine, power_limit_w)
    return site(machine, load_stack(stack), attention, precision)


def estimate(model: ModelSpec, plan: TrainPlan, where: Site) -> Estimate:
    """A plan on a machine under a stack."""
    model = with_heads(model, plan)
    return composed(plan_record(model, plan), piece(model, plan, where), where)


def composed(record: Record, prices: Records, where: Site) -> Estimate:
    """The same from its record and prices."""
    out, memory = np.zeros(len(RESULT)), np.zeros(len(MEMORY))
    step_s = plan_step(record, prices, where.stack, where.machine, np.zeros((4, len(STAGE))), out)
    peak = peak_byte(record, prices, where.stack, memory)
    return Estimate(float(step_s), float(peak), bool(peak <= where.stack["mem_byte"]), out, memory)


def rank_times(model: ModelSpec, plan: TrainPlan, where: Site, place: int = ONLY) -> Floats:
    """`[STAGE]` seconds of one microbatch through one pipeline rank with the mean number of layers; `place` (of
    `kernels.train_step`) says which end of the model it has."""
    row, layers = np.zeros(len(STAGE)), model.num_layer / plan.pp
    stage_times(plan_record(model, plan), piece(model, plan, where), where.stack, where.machine, layers, place, row)
    return row


def rank_memory(model: ModelSpec, plan: TrainPlan, stack: Record, precision: str = "bf16") -> Floats:
    """`[MEMORY]` bytes of the fullest device under the reserve of a stack's record. Prices nothing."""
    memory, model = np.zeros(len(MEMORY)), with_heads(model, plan)
    peak_byte(plan_record(model, plan), byte_piece(model, plan, precision), stack, memory)
    return memory
