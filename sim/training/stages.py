"""How the layers of a model lie on the stages of a pipeline, and what each stage takes.

Layers that do not divide are not rounded up: stages differ by one layer at most, so that the ranks do, and a plan may
say how many each stage has (`layout`, in the order of the model).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kernels.errors import InputError
from kernels.schedule import BACKWARD, FORWARD, INPUT_GRAD, OP_KINDS, RECOMPUTE, WEIGHT_GRAD, Ints
from kernels.train_plan import BODY, FIRST, LAST, LAYER_DTYPE, Floats, Record, Records
from kernels.train_step import (
    FIRST_STAGE,
    FORWARD_S,
    INPUT_GRAD_S,
    LAST_STAGE,
    MIDDLE,
    ONLY,
    RECOMPUTE_S,
    STAGE,
    WEIGHT_GRAD_S,
    stage_times,
)
from sim.training.price import Site
from workloads.models.spec import ModelSpec
from workloads.pipeline import OpArrays
from workloads.requests import MAX_TIME_S
from workloads.training import TrainPlan

PS = 1e12


class Stages(NamedTuple):
    """Every stage of a pipeline: its layers, where it lies, and the mean of its layers' prices."""

    layers: Ints  # [stage]
    where: Ints  # [stage] of FIRST_STAGE, MIDDLE, LAST_STAGE, ONLY
    piece: Records  # [stage, 3]


def spread(num_layer: int, num_stage: int, num_rank: int) -> list[int]:
    """Layers of each stage: as evenly as it goes, with what is left over on the ranks between the ends first.

    >>> spread(6, 4, 4), spread(10, 4, 2), spread(126, 112, 16).count(2)
    ([1, 2, 2, 1], [2, 3, 3, 2], 14)
    """
    base, extra = divmod(num_layer, num_stage)
    middle = sorted(range(num_stage), key=lambda s: (s in (0, num_stage - 1), s // num_rank, s))
    layers = [base] * num_stage
    for stage in middle[:extra]:
        layers[stage] += 1
    return layers


def stages(model: ModelSpec, plan: TrainPlan, blocks: Records, ends: Records, num_stage: int) -> Stages:
    """The stages of a plan. `blocks[block]` are the prices of each distinct layer, `ends[3]` those of the ends."""
    own = model.num_layer - plan.mtp
    layers = list(plan.layout) if len(plan.layout) == num_stage else spread(own, num_stage, plan.pp)
    layers[-1] += plan.mtp
    piece = np.zeros((num_stage, 3), LAYER_DTYPE)
    start = 0
    for stage, count in enumerate(layers):
        held = [model.layer[i] for i in range(start, start + count)]
        piece[stage, BODY] = mean(blocks, held or [model.layer[0]])
        piece[stage, FIRST], piece[stage, LAST] = ends[FIRST], ends[LAST]
        start += count
    where = np.full(num_stage, MIDDLE, np.int64)
    where[0], where[-1] = FIRST_STAGE, LAST_STAGE
    if num_stage == 1:
        where[0] = ONLY
    return Stages(np.array(layers, np.int64), where, piece)


def mean(blocks: Records, held: Sequence[int]) -> Record:
    """The mean of the prices of some layers."""
    share = np.bincount(held, minlength=len(blocks)) / len(held)
    out = np.zeros(1, LAYER_DTYPE)
    for name in LAYER_DTYPE.names or ():
        out[name] = float((blocks[name] * share).sum())
    return out[0]


def stage_seconds(found: Stages, record: Record, where: Site) -> Floats:
    """`[stage, STAGE]`: one microbatch through one stage (one chunk of a rank)."""
    out = np.zeros((len(found.layers), len(STAGE)))
    for stage in range(len(found.layers)):
        stage_times(record, found.piece[stage], where.stack, where.machine, float(found.layers[stage]),
                    int(found.where[stage]), out[stage])  # fmt: skip
    return out


def duration_ps(times: Floats, recomputes: bool) -> Ints:
    """`[kind, stage]` integer picoseconds for the replay. Partial recomputation belongs to the backward that it
    precedes; where everything is recomputed (`recomputes`) it is an operation of its own."""
    table = np.zeros((len(OP_KINDS), len(times)), np.int64)
    if not (times < MAX_TIME_S).all():
        raise InputError("an operation of a stage takes longer than picoseconds hold", field="step_s",
                         value=float(times.max()), allowed=f"below {MAX_TIME_S:g} s")  # fmt: skip
    ps = np.rint(times * PS).astype(np.int64)
    table[FORWARD], table[INPUT_GRAD] = ps[:, FORWARD_S], ps[:, INPUT_GRAD_S]
    table[WEIGHT_GRAD] = ps[:, WEIGHT_GRAD_S]
    if recomputes:
        table[RECOMPUTE] = ps[:, RECOMPUTE_S]
    else:
        table[INPUT_GRAD] += ps[:, RECOMPUTE_S]
    table[BACKWARD] = table[INPUT_GRAD] + table[WEIGHT_GRAD]
    return table


def rank_stages(arrays: OpArrays) -> list[Ints]:
    """Stages that each pipeline rank holds."""
    return [
        np.unique(arrays.stage[arrays.rank_start[rank] : arrays.rank_start[rank + 1]])
        for rank in range(arrays.rank_start.size - 1)
    ]
