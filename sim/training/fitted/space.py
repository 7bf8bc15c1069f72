"""What a search over training plans may choose: axes, the plans that they make with one layout, and back.

Two spaces have names. `schedules`: every schedule that has a closed form, every ZeRO stage, widths of gradients and
states. `execution`: the choices that Calculon enumerates (Isaev et al. 2023, "Calculon: a methodology and tool for
high-level co-design of systems and large language models", table 1): interleaving, recomputation, sequence parallelism,
split or whole transfers between stages, sharded optimizer, overlap of tensor- and of data-parallel traffic, fused
vector operators, and offloading of weights, activations and optimizer states to host memory.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from kernels import training as t
from kernels.errors import InputError
from kernels.training import Floats
from sim.training.fitted.stack import Stack
from workloads.models.spec import ModelSpec
from workloads.training import DP_TRAFFICS, TrainPlan

LOOPED = ("interleaved-1f1b", "breadth-first")  # schedules that take more than one chunk here
PLAIN_SCHEDULES = ("gpipe", "1f1b")
AXES = (  # fields of a plan that a search chooses besides its layout
    "schedule", "interleave", "micro_batch", "ep", "recompute", "sequence_parallel", "zero", "grad_byte",
    "optimizer_byte", "tp_overlap", "dp_traffic", "keep_gathered", "fused_norm", "act_offload", "weight_offload",
    "optimizer_offload", "whole_hop",
)  # fmt: skip


@dataclass(frozen=True)
class Space:
    """What a search may choose; sizes that do not divide, and choices without effect, are left out."""

    num_device: int
    batch: int
    seq: int = 2048
    max_tp: int = 64
    max_micro_batch: int = 64
    max_chunk: int = 16
    schedules: tuple[str, ...] = t.SCHEDULES
    recomputes: tuple[str, ...] = t.RECOMPUTES
    zeros: tuple[int, ...] = (0, 1, 2, 3)
    grad_bytes: tuple[float, ...] = (4.0, 2.0)
    optimizer_bytes: tuple[float, ...] = (12.0, 6.0)
    cps: tuple[int, ...] = (1,)
    tp_overlaps: tuple[float, ...] = (0.0,)
    dp_traffics: tuple[str, ...] = ("fitted",)
    fused_norms: tuple[bool, ...] = ()  # none: the stack's
    act_offloads: tuple[float, ...] = (0.0,)
    weight_offloads: tuple[float, ...] = (0.0,)
    optimizer_offloads: tuple[float, ...] = (0.0,)
    whole_hops: tuple[bool, ...] = (False,)


SPACES: dict[str, dict[str, Any]] = {
    "schedules": {},
    "execution": {
        "schedules": ("1f1b", "interleaved-1f1b"), "zeros": (0, 1), "optimizer_bytes": (12.0,), "max_chunk": 96,
        "grad_bytes": (4.0, 2.0), "tp_overlaps": (0.0, 0.5, 1.0), "dp_traffics": DP_TRAFFICS,
        "fused_norms": (False, True), "act_offloads": (0.0, 1.0), "weight_offloads": (0.0, 1.0),
        "optimizer_offloads": (0.0, 1.0), "whole_hops": (False, True),
    },
}  # fmt: skip


def named_space(name: str, num_device: int, batch: int, **change: Any) -> Space:
    """A space by name, with other limits.

    >>> named_space("execution", 8, 8).zeros
    (0, 1)
    """
    if name not in SPACES:
        raise InputError("no such space", field="space", value=name, allowed=SPACES)
    return Space(num_device, batch, **SPACES[name] | change)


def divisors(value: int, most: int) -> list[int]:
    """Divisors of `value` up to `most`."""
    return [n for n in range(1, min(value, most) + 1) if value % n == 0]


def layouts(model: ModelSpec, space: Space) -> Iterator[tuple[int, int, int, int]]:
    """(tp, pp, dp, cp) that use every device: tp divides the heads, pp the layers, dp the batch, cp the sequence."""
    heads = min(block.attention.num_head for block in model.block)
    for cp in (cp for cp in space.cps if space.seq % cp == 0 and space.num_device % cp == 0):
        for tp in (tp for tp in divisors(heads, space.max_tp) if (space.num_device // cp) % tp == 0):
            for pp in divisors(model.num_layer, space.num_device // cp // tp):
                dp, rest = divmod(space.num_device // cp // tp, pp)
                if rest == 0 and space.batch % dp == 0:
                    yield tp, pp, dp, cp


def _chunks(model: ModelSpec, space: Space, pp: int) -> list[tuple[int, int]]:
    """(schedule, chunks a rank) that a pipeline of `pp` ranks can run."""
    chunks: list[tuple[str, int]] = []
    for name in space.schedules:
        if pp == 1 and name not in PLAIN_SCHEDULES:
            continue
        if name in LOOPED:
            chunks += [(name, v) for v in divisors(model.num_layer // pp, space.max_chunk) if v > 1]
        elif name != "zb-v" or (model.num_layer // pp) % 2 == 0:
            chunks.append((name, 2 if name == "zb-v" else 1))
    return [(t.SCHEDULES.index(name), v) for name, v in chunks]


def plan_rows(model: ModelSpec, space: Space, layout: tuple[int, int, int, int], stack: Stack) -> Floats:
    """`[n, PLAN]`: every plan of the space with this layout."""
    tp, pp, dp, cp = layout
    experts = max(block.ffn.num_expert for block in model.block)
    eps = divisors(int(np.gcd(experts, dp * cp)), dp * cp) if experts else [1]
    micro = divisors(space.batch // dp, space.max_micro_batch)
    outer = np.array([(s, v, b, e) for (s, v), b, e in itertools.product(_chunks(model, space, pp), micro, eps)], float)
    replicas = dp * cp > 1
    inner = {
        t.RECOMPUTE_KIND: [t.RECOMPUTES.index(kind) for kind in space.recomputes],
        t.SEQUENCE_PARALLEL: (0, 1) if tp > 1 else (0,),
        t.ZERO: [z for z in space.zeros if z == 0 or replicas],
        t.GRAD_BYTE: space.grad_bytes,
        t.OPTIMIZER_BYTE: space.optimizer_bytes,
        t.TP_OVERLAP: space.tp_overlaps if tp > 1 else (0,),
        t.DP_SCHEDULED: [DP_TRAFFICS.index(kind) for kind in space.dp_traffics] if replicas else (0,),
        t.KEEP_GATHERED: (0, 1) if replicas and "scheduled" in space.dp_traffics and max(space.zeros) > 1 else (0,),
        t.FUSED_NORM: space.fused_norms or (stack.fused_norm,),
        t.ACT_OFFLOAD: space.act_offloads,
        t.WEIGHT_OFFLOAD: space.weight_offloads,
        t.OPTIMIZER_OFFLOAD: space.optimizer_offloads,
        t.WHOLE_HOP: space.whole_hops if tp > 1 and pp > 1 else (0,),
    }
    if not len(outer) or not all(len(values) for values in inner.values()):
        return np.zeros((0, len(t.PLAN)))
    grid = np.stack([part.ravel() for part in np.meshgrid(*map(np.array, inner.values()), indexing="ij")], axis=1)
    base = np.zeros((len(grid), len(t.PLAN)))
    base[:, list(inner)] = grid
    base[:, [t.TP, t.PP, t.DP, t.CP]] = layout[0], layout[1], layout[2], layout[3]
    base[:, [t.WEIGHT_BYTE, t.ACT_BYTE, t.BACKWARD_CHUNK, t.LOGIT_CHUNK, t.GATHER_LIMIT]] = 2, 2, 1, 1, 2
    base[:, t.ATTENTION] = t.ATTENTIONS.index(stack.attention)
    base = base[(base[:, t.KEEP_GATHERED] == 0) | ((base[:, t.ZERO] >= 2) & (base[:, t.DP_SCHEDULED] > 0))]
    base = base[(base[:, t.WHOLE_HOP] == 0) | (base[:, t.SEQUENCE_PARALLEL] == 0)]
    micros = space.batch / dp / outer[:, 2]
    rounds = np.maximum(1, micros // pp)  # what the orders can do: interleaving wants whole rounds
    outer = outer[(micros % rounds == 0) | ~np.isin(outer[:, 0], (t.INTERLEAVED, t.ZB_H1))]
    rows = np.tile(base, (len(outer), 1))
    columns = [t.SCHEDULE, t.NUM_CHUNK, t.MICRO_BATCH, t.EP]
    rows[:, columns] = np.repeat(outer, len(base), axis=0)
    rows[:, t.NUM_MICROBATCH] = space.batch / dp / rows[:, t.MICRO_BATCH]
    return rows


def axes_table(model: ModelSpec, space: Space) -> pd.DataFrame:
    """Every axis of a space with its values."""
    found = list(layouts(model, space))
    some = ", ".join(map(str, found[:4]))
    rows: list[tuple[str, str]] = [("layout (tp, pp, dp, cp)", f"{len(found)}: {some} ...")]
    rows.append(("micro batch", f"divisors of batch / dp up to {space.max_micro_batch}"))
    rows.append(("interleave", f"divisors of layers / pp up to {space.max_chunk}"))
    for field in fields(Space):
        if isinstance(field.default, tuple):
            values = getattr(space, field.name)
            rows.append((field.name, ", ".join(map(str, values)) or "the stack's"))
    return pd.DataFrame(rows, columns=["axis", "values"])


def to_plan(row: Floats, space: Space, stack: Stack | None = None) -> TrainPlan:
    """A row of `[PLAN]` as a plan."""
    name = t.SCHEDULES[int(row[t.SCHEDULE])]
    return TrainPlan(
        tp=int(row[t.TP]), pp=int(row[t.PP]), dp=int(row[t.DP]), cp=int(row[t.CP]), ep=int(row[t.EP]),
        micro_batch=int(row[t.MICRO_BATCH]), batch=space.batch, seq=space.seq, schedule=name,
        interleave=1 if name == "zb-v" else int(row[t.NUM_CHUNK]),
        sequence_parallel=bool(row[t.SEQUENCE_PARALLEL]), recompute=t.RECOMPUTES[int(row[t.RECOMPUTE_KIND])],
        zero=int(row[t.ZERO]), attention=t.ATTENTIONS[int(row[t.ATTENTION])], fused_norm=bool(row[t.FUSED_NORM]),
        weight_byte=row[t.WEIGHT_BYTE], act_byte=row[t.ACT_BYTE], grad_byte=row[t.GRAD_BYTE],
        optimizer_byte=row[t.OPTIMIZER_BYTE], tp_overlap=row[t.TP_OVERLAP],
        dp_traffic=DP_TRAFFICS[int(row[t.DP_SCHEDULED])], keep_gathered=bool(row[t.KEEP_GATHERED]),
        act_offload=row[t.ACT_OFFLOAD], weight_offload=row[t.WEIGHT_OFFLOAD],
        optimizer_offload=row[t.OPTIMIZER_OFFLOAD], whole_hop=bool(row[t.WHOLE_HOP]),
        dropout=stack.dropout if stack is not None else False,
    )  # fmt: skip
