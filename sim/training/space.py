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

from kernels.errors import InputError
from kernels.train_plan import INTERLEAVED, PLAN_DTYPE, RECOMPUTES, SCHEDULES, ZB_H1, Record, Records
from sim.training.price import rank_layers
from sim.training.stack import TrainStack
from workloads.models.spec import ModelSpec
from workloads.training import DP_TRAFFICS, TrainPlan

LOOPED = ("interleaved-1f1b", "breadth-first")  # schedules that take more than one chunk here
PLAIN_SCHEDULES = ("gpipe", "1f1b")
AXES = (  # fields of a plan that a search chooses besides its layout
    "schedule", "interleave", "micro_batch", "ep", "recompute", "sequence_parallel", "zero", "grad_byte",
    "optimizer_byte", "tp_overlap", "dp_traffic", "keep_gathered", "fused_norm", "act_offload", "weight_offload",
    "optimizer_offload", "whole_hop",
)  # fmt: skip


SHAPE = ("sequence_parallel", "recompute", "fused_norm", "grad_byte")  # what the prices of a layer depend on besides


@dataclass(frozen=True)
class Space:
    """What a search may choose; sizes that do not divide, and choices without effect, are left out."""

    num_device: int
    batch: int
    seq: int = 2048
    max_tp: int = 64
    max_micro_batch: int = 64
    max_chunk: int = 16
    schedules: tuple[str, ...] = SCHEDULES
    recomputes: tuple[str, ...] = RECOMPUTES
    zeros: tuple[int, ...] = (0, 1, 2, 3)
    grad_bytes: tuple[float, ...] = (4.0, 2.0)
    optimizer_bytes: tuple[float, ...] = (12.0, 6.0)
    cps: tuple[int, ...] = (1,)
    tp_overlaps: tuple[float, ...] = ()  # none: the stack's
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
    """(tp, pp, dp, cp) that use every device: tp divides the heads, dp the batch, cp the sequence; stages need not be
    equal."""
    heads = min(block.attention.num_head for block in model.block)
    for cp in (cp for cp in space.cps if space.seq % cp == 0 and space.num_device % cp == 0):
        for tp in (tp for tp in divisors(heads, space.max_tp) if (space.num_device // cp) % tp == 0):
            rest = space.num_device // cp // tp
            for pp in (pp for pp in divisors(rest, model.num_layer) if space.batch % (rest // pp) == 0):
                yield tp, pp, rest // pp, cp


def _chunks(model: ModelSpec, space: Space, pp: int) -> list[tuple[int, int]]:
    """(schedule, chunks a rank) that a pipeline of `pp` ranks can run."""
    chunks: list[tuple[str, int]] = []
    for name in space.schedules:
        if pp == 1 and name not in PLAIN_SCHEDULES:
            continue
        if name in LOOPED:
            chunks += [(name, v) for v in divisors(model.num_layer // pp, space.max_chunk) if v > 1]
        elif name != "zb-v" or 2 * pp <= model.num_layer:
            chunks.append((name, 2 if name == "zb-v" else 1))
    return [(SCHEDULES.index(name), v) for name, v in chunks]


def expert_sizes(model: ModelSpec, tp: int, replicas: int) -> list[int]:
    """Sizes of expert parallelism over `replicas` = dp x cp ranks, or over the tensor-parallel ranks too."""
    experts = max(block.ffn.num_expert for block in model.block)
    if not experts:
        return [1]
    return divisors(int(np.gcd(experts, tp * replicas)), tp * replicas)


def plan_rows(model: ModelSpec, space: Space, layout: tuple[int, int, int, int], stack: TrainStack) -> Records:
    """`[n]` of PLAN_DTYPE: every plan of the space with this layout; `piece` numbers its distinct layer shapes."""
    tp, pp, dp, cp = layout
    micro = divisors(space.batch // dp, space.max_micro_batch)
    choices = itertools.product(_chunks(model, space, pp), micro, expert_sizes(model, tp, dp * cp))
    outer = np.array([(s, v, b, e) for (s, v), b, e in choices], float)
    replicas = dp * cp > 1
    usual = stack.file
    inner: dict[str, Any] = {
        "recompute": [RECOMPUTES.index(kind) for kind in space.recomputes],
        "sequence_parallel": (0, 1) if tp > 1 else (0,),
        "zero": [z for z in space.zeros if z == 0 or replicas],
        "grad_byte": space.grad_bytes,
        "optimizer_byte": space.optimizer_bytes,
        "tp_overlap": (space.tp_overlaps or (usual.tp_overlap,)) if tp > 1 else (0,),
        "dp_scheduled": [DP_TRAFFICS.index(kind) for kind in space.dp_traffics] if replicas else (0,),
        "keep_gathered": (0, 1) if replicas and "scheduled" in space.dp_traffics and max(space.zeros) > 1 else (0,),
        "fused_norm": space.fused_norms or (usual.fused_norm,),
        "act_offload": space.act_offloads,
        "weight_offload": space.weight_offloads,
        "optimizer_offload": space.optimizer_offloads,
        "whole_hop": space.whole_hops if tp > 1 and pp > 1 else (0,),
    }
    if not len(outer) or not all(len(values) for values in inner.values()):
        return np.zeros(0, PLAN_DTYPE)
    grid = np.stack([part.ravel() for part in np.meshgrid(*map(np.array, inner.values()), indexing="ij")], axis=1)
    base = np.zeros(len(grid), PLAN_DTYPE)
    for name, values in zip(inner, grid.T, strict=True):
        base[name] = values
    base["tp"], base["pp"], base["dp"], base["cp"] = layout
    base["weight_byte"] = base["act_byte"] = base["gather_limit"] = 2
    base["logit_chunk"], base["ep_overlap"], base["hold_logits"] = 1, usual.ep_overlap, usual.hold_logits
    base = base[(base["keep_gathered"] == 0) | ((base["zero"] >= 2) & (base["dp_scheduled"] > 0))]
    base = base[(base["whole_hop"] == 0) | (base["sequence_parallel"] == 0)]
    micros = space.batch / dp / outer[:, 2]
    rounds = np.maximum(1, micros // pp)  # what the orders can do: interleaving wants whole rounds
    outer = outer[(micros % rounds == 0) | ~np.isin(outer[:, 0], (INTERLEAVED, ZB_H1))]
    # distinct layer shapes: of the choices inside and outside the grid, each a few
    inside, base_code = np.unique(np.stack([base[name] for name in SHAPE] + [base["zero"] >= 2], 1), axis=0,
                                  return_inverse=True)  # fmt: skip
    _, outer_code = np.unique(outer[:, 2:], axis=0, return_inverse=True)
    grid_rows = np.empty((len(outer), len(base)), PLAN_DTYPE)
    grid_rows[:] = base
    grid_rows["piece"] = outer_code.reshape(-1, 1) * len(inside) + base_code.ravel()
    for name, values in zip(("schedule", "num_chunk", "micro_batch", "ep"), outer.T, strict=True):
        grid_rows[name] = values[:, None]
    rows = grid_rows.ravel()
    rows["num_microbatch"] = space.batch / dp / rows["micro_batch"]
    rows["expert_tp"] = np.where((dp * cp) % rows["ep"] == 0, tp, 1)
    rows["expert_dp"] = np.maximum(1, tp * cp * dp // (rows["ep"] * rows["expert_tp"]))
    rows["hop_byte"] = space.seq * rows["micro_batch"] / cp * model.hidden * rows["act_byte"]
    rows["num_layer"], rows["tied"] = model.num_layer, model.tied
    rows["fullest"], rows["first_layer"], rows["last_layer"] = rank_layers(model.num_layer, pp)
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


def to_plan(row: Record, space: Space, stack: TrainStack) -> TrainPlan:
    """A row of PLAN_DTYPE as a plan."""
    name = SCHEDULES[int(row["schedule"])]
    whole: dict[str, Any] = {key: int(row[key]) for key in ("tp", "pp", "dp", "cp", "ep", "micro_batch", "zero")}
    flags: dict[str, Any] = {
        key: bool(row[key]) for key in ("sequence_parallel", "fused_norm", "keep_gathered", "whole_hop")
    }
    shares: dict[str, Any] = {key: float(row[key]) for key in (
        "weight_byte", "act_byte", "grad_byte", "optimizer_byte", "tp_overlap", "act_offload", "weight_offload",
        "optimizer_offload")}  # fmt: skip
    usual = stack.file
    return TrainPlan(
        **whole, **flags, **shares, batch=space.batch, seq=space.seq, schedule=name,
        interleave=1 if name == "zb-v" else int(row["num_chunk"]), recompute=RECOMPUTES[int(row["recompute"])],
        attention=usual.attention, dp_traffic=DP_TRAFFICS[int(row["dp_scheduled"])], dropout=usual.dropout,
        fused_loss=usual.fused_loss, gather_logits=usual.gather_logits,
        regather=usual.regather, hold_logits=usual.hold_logits,
        dispatch=usual.dispatch, ep_overlap=usual.ep_overlap if row["ep"] > 1 else 0.0,
    )  # fmt: skip
