"""Search over plans: every plan of a space in closed form, memory first; the best ones replayed exactly."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hw_models import catalog
from hw_models.spec import System
from kernels import training as t
from kernels.errors import InputError
from kernels.training import Floats
from kernels.training_step import score_plans
from sim.training.stack import Stack, default_stack, hardware_vector, load
from sim.training.step import train
from workloads import models
from workloads.models.spec import ModelSpec
from workloads.training import TrainPlan, model_vector

LOOPED = ("interleaved-1f1b", "breadth-first")  # schedules that take more than one chunk here


@dataclass(frozen=True)
class Space:
    """What a search may choose; sizes that do not divide are left out."""

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


def _divisors(value: int, most: int) -> list[int]:
    return [n for n in range(1, min(value, most) + 1) if value % n == 0]


def layouts(model: ModelSpec, space: Space) -> Iterator[tuple[int, int, int, int]]:
    """(tp, pp, dp, cp) that use every device: tp divides the heads, pp the layers, dp the batch, cp the sequence."""
    heads = min(block.attention.num_head for block in model.block)
    for cp in (cp for cp in space.cps if space.seq % cp == 0 and space.num_device % cp == 0):
        for tp in (tp for tp in _divisors(heads, space.max_tp) if (space.num_device // cp) % tp == 0):
            for pp in _divisors(model.num_layer, space.num_device // cp // tp):
                dp, rest = divmod(space.num_device // cp // tp, pp)
                if rest == 0 and space.batch % dp == 0:
                    yield tp, pp, dp, cp


def plan_rows(model: ModelSpec, space: Space, layout: tuple[int, int, int, int], stack: Stack) -> Floats:
    """`[n, PLAN]`: every plan of the space with this layout."""
    tp, pp, dp, cp = layout
    chunks: list[tuple[str, int]] = []
    for name in space.schedules:
        if pp == 1 and name not in ("gpipe", "1f1b"):
            continue
        if name in LOOPED:
            chunks += [(name, v) for v in _divisors(model.num_layer // pp, space.max_chunk) if v > 1]
        elif name != "zb-v" or (model.num_layer // pp) % 2 == 0:
            chunks.append((name, 2 if name == "zb-v" else 1))
    experts = max(block.ffn.num_expert for block in model.block)
    eps = _divisors(int(np.gcd(experts, dp * cp)), dp * cp) if experts else [1]
    micro = _divisors(space.batch // dp, space.max_micro_batch)
    flags = (0, 1) if tp > 1 else (0,)
    zeros = [z for z in space.zeros if z == 0 or dp * cp > 1]
    grid = list(
        itertools.product(
            [(t.SCHEDULES.index(name), v) for name, v in chunks], micro,
            [t.RECOMPUTES.index(r) for r in space.recomputes], flags, zeros, space.grad_bytes,
            space.optimizer_bytes, eps,
        )
    )  # fmt: skip
    rows = np.zeros((len(grid), len(t.PLAN)))
    if not grid:
        return rows
    columns = np.array([(s, v, b, r, f, z, g, o, e) for (s, v), b, r, f, z, g, o, e in grid], float).T
    order = (t.SCHEDULE, t.NUM_CHUNK, t.MICRO_BATCH, t.RECOMPUTE_KIND, t.SEQUENCE_PARALLEL, t.ZERO, t.GRAD_BYTE,
             t.OPTIMIZER_BYTE, t.EP)  # fmt: skip
    for field, values in zip(order, columns, strict=True):
        rows[:, field] = values
    rows[:, t.TP], rows[:, t.PP], rows[:, t.DP], rows[:, t.CP] = tp, pp, dp, cp
    rows[:, t.NUM_MICROBATCH] = space.batch / dp / rows[:, t.MICRO_BATCH]
    rows[:, t.WEIGHT_BYTE] = rows[:, t.ACT_BYTE] = 2
    rows[:, t.BACKWARD_CHUNK] = rows[:, t.LOGIT_CHUNK] = 1
    rows[:, t.GATHER_LIMIT] = 2
    rows[:, t.ATTENTION], rows[:, t.FUSED_NORM] = t.ATTENTIONS.index(stack.attention), stack.fused_norm
    micros = rows[:, t.NUM_MICROBATCH]
    rounds = np.maximum(1, micros // pp)  # what the orders can do: interleaving wants whole rounds
    legal = (micros % rounds == 0) | ~np.isin(rows[:, t.SCHEDULE], (t.INTERLEAVED, t.ZB_H1))
    return np.ascontiguousarray(rows[legal])


def exhaustive(
    model: str | ModelSpec, system: str | System, space: Space, *, stack: str | Stack | None = None, top: int = 10,
    number_format: str = "bf16",
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, int]]:  # fmt: skip
    """(the `top` fastest plans that fit, the Pareto front of step time and memory, counts of plans tried and fitting).

    Raises `InputError` where nothing fits.
    """
    spec = models.load(model) if isinstance(model, str) else model
    machine = catalog.system(system, space.num_device) if isinstance(system, str) else system
    constants = stack if isinstance(stack, Stack) else load(stack or default_stack(machine.device.name))
    hw, vector = hardware_vector(machine, number_format), model_vector(spec, space.seq, constants.dropout)
    kept: list[Floats] = []  # [row, seconds, bytes] of the fastest and of the front of each layout
    count = {"plan": 0, "fit": 0}
    for layout in layouts(spec, space):
        rows = plan_rows(spec, space, layout, constants)
        seconds, peak = np.empty(len(rows)), np.empty(len(rows))
        count["fit"] += score_plans(vector, rows, hw, constants.fit, seconds, peak)
        count["plan"] += len(rows)
        best = np.argsort(seconds, kind="stable")[:top]
        chosen = np.union1d(best[np.isfinite(seconds[best])], pareto(seconds, peak))
        kept.append(np.column_stack([rows[chosen], seconds[chosen], peak[chosen]]))
    found = np.concatenate(kept) if kept else np.zeros((0, len(t.PLAN) + 2))
    if not len(found):
        raise InputError(f"none of {count['plan']} plans fits in {hw[t.MEM_BYTE] / 2**30:.1f} GiB",
                         field="num_device", value=space.num_device)  # fmt: skip
    seconds, peak = found[:, -2], found[:, -1]
    fastest = np.argsort(seconds, kind="stable")[:top]
    front = pareto(seconds, peak)
    return frame(found[fastest], spec, space, hw), frame(found[front], spec, space, hw), count


def pareto(seconds: Floats, peak: Floats) -> Any:
    """Indices of what nothing beats in both, by rising time; infinite times never.

    >>> pareto(np.array([1.0, 2.0, 3.0]), np.array([5.0, 6.0, 4.0])).tolist()
    [0, 2]
    """
    order = np.lexsort((peak, seconds))
    order = order[np.isfinite(seconds[order])]
    least = np.minimum.accumulate(peak[order])
    better = np.ones(len(order), bool)
    better[1:] = peak[order][1:] < least[:-1]
    return order[better]


def to_plan(row: Floats, space: Space) -> TrainPlan:
    """A row of `[PLAN]` as a plan."""
    name = t.SCHEDULES[int(row[t.SCHEDULE])]
    return TrainPlan(
        int(row[t.TP]), int(row[t.PP]), int(row[t.DP]), int(row[t.CP]), int(row[t.EP]), int(row[t.MICRO_BATCH]),
        space.batch, space.seq, name, 1 if name == "zb-v" else int(row[t.NUM_CHUNK]),
        bool(row[t.SEQUENCE_PARALLEL]), t.RECOMPUTES[int(row[t.RECOMPUTE_KIND])], int(row[t.ZERO]),
        t.ATTENTIONS[int(row[t.ATTENTION])], bool(row[t.FUSED_NORM]), row[t.WEIGHT_BYTE], row[t.ACT_BYTE],
        row[t.GRAD_BYTE], row[t.OPTIMIZER_BYTE],
    )  # fmt: skip


def frame(found: Floats, model: ModelSpec, space: Space, hw: Floats) -> pd.DataFrame:
    """Plans as rows with readable columns, step time, MFU and peak memory."""
    from workloads.training import model_flop

    records = []
    for row in found:
        plan = to_plan(row, space)
        records.append({
            "tp": plan.tp, "pp": plan.pp, "dp": plan.dp, "cp": plan.cp, "ep": plan.ep, "schedule": plan.schedule,
            "interleave": plan.interleave, "micro_batch": plan.micro_batch, "recompute": plan.recompute,
            "sequence_parallel": plan.sequence_parallel, "zero": plan.zero, "grad_byte": plan.grad_byte,
            "optimizer_byte": plan.optimizer_byte, "step_s": row[-2], "peak_byte": row[-1],
            "mfu": model_flop(model, plan) / (row[-2] * space.num_device * hw[t.FLOP_PER_S]),
        })  # fmt: skip
    return pd.DataFrame(records)


def replay_best(
    best: pd.DataFrame, model: str | ModelSpec, system: str | System, space: Space, stack: Stack, number_format: str
) -> pd.DataFrame:
    """Exact step time and memory of each row of `best` beside the closed form; what fits first, then by exact time."""
    records = []
    for record in best.to_dict("records"):
        keys = ("tp", "pp", "dp", "cp", "ep", "schedule", "interleave", "micro_batch", "recompute", "sequence_parallel",
                "zero", "grad_byte", "optimizer_byte")  # fmt: skip
        plan = TrainPlan(**{str(key): record[key] for key in keys}, batch=space.batch, seq=space.seq,
                         attention=stack.attention, fused_norm=stack.fused_norm, dropout=stack.dropout)  # fmt: skip
        summary = train(model, system, plan, stack=stack, number_format=number_format).summary
        records.append(record | {"replayed_s": summary["step_s"], "replayed_peak_byte": summary["mem_total_byte"],
                                 "bubble_rate": summary["bubble_rate"], "fits": summary["fits"]})  # fmt: skip
    return pd.DataFrame(records).sort_values(["fits", "replayed_s"], ascending=[False, True], ignore_index=True)


def batch_tradeoff(
    model: str | ModelSpec, system: str, spaces: Sequence[Space], *, critical_batch: float, min_step: float,
    stack: str | None = None, number_format: str = "bf16",
) -> pd.DataFrame:  # fmt: skip
    """The best plan of each space judged by time and cost to a target loss, not by throughput.

    Steps to the target at batch B are `min_step (1 + critical_batch / B)` (McCandlish et al. 2018): below the critical
    batch size a larger batch saves steps, above it only tokens are spent.
    """
    records = []
    for space in spaces:
        best, _, _ = exhaustive(model, system, space, stack=stack, top=1, number_format=number_format)
        step_s = float(best["step_s"].iloc[0])
        num_step = min_step * (1 + critical_batch / space.batch)
        machine = catalog.system(system, space.num_device)
        hours = num_step * step_s / 3600
        records.append({
            "num_device": space.num_device, "batch": space.batch, **best.iloc[0].to_dict(), "num_step": num_step,
            "target_h": hours, "target_usd": hours * machine.price_usd_per_h(space.num_device),
            "token": num_step * space.batch * space.seq,
        })  # fmt: skip
    out = pd.DataFrame(records)
    out["pareto"] = np.isin(np.arange(len(out)), pareto(out["target_h"].to_numpy(), out["target_usd"].to_numpy()))
    return out
