"""A pipeline schedule in time: replay of its order, bubbles, memory. One call, three results.

Two bubbles, never mixed: of the **makespan** (from the first operation of all to the last) and of the **span** (the
longest stay of one rank, from its first operation to its last; filling is not counted).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from kernels.errors import InputError
from kernels.schedule import (
    BACKWARD,
    FORWARD,
    INPUT_GRAD,
    OP_KINDS,
    OPTIMIZER,
    RECOMPUTE,
    WEIGHT_GRAD,
    Ints,
    replay,
)
from workloads.pipeline import Op, OpArrays, compile_order

PerStage = int | Sequence[int]


class ScheduleResult(NamedTuple):
    op: pd.DataFrame  # an operation a row: rank, kind, stage, microbatch, start, end, memory after it
    rank: pd.DataFrame  # a rank a row: busy, span, bubble_span, peak_memory
    summary: dict[str, float]

    def __repr__(self) -> str:
        return f"<ScheduleResult: {len(self.op):,} operations on {len(self.rank)} ranks, {self.summary}>"

    def _repr_html_(self) -> str:
        from sim.show.tables import html_pairs

        return html_pairs(f"{len(self.op):,} operations on {len(self.rank)} ranks", self.summary)


MAX_TICK = 2**62  # what a sum of times may reach, half of what an int64 holds
MAX_MEMORY = 10**12  # of one operation: what millions of them add up to is far below 2^62
TIME_NAMES = {FORWARD: "times: forward", INPUT_GRAD: "times: input gradient", WEIGHT_GRAD: "times: weight gradient",
              RECOMPUTE: "recompute", OPTIMIZER: "optimizer"}  # fmt: skip


def integers(value: PerStage, field: str, size: int = 0, low: int = 0, high: int = MAX_TICK) -> Ints:
    """One integer, or `size` of them (any number where 0), each from `low` to `high`."""
    values = np.atleast_1d(np.asarray(value, object))
    whole = all(isinstance(one, int | np.integer) and not isinstance(one, bool) for one in values)
    if not whole or values.size not in (1, size or values.size):
        raise InputError("one integer for all stages, or one a stage", field=field, value=value,
                         allowed=f"1 or {size or 'more'} integers from {low} to {high}")  # fmt: skip
    if not all(low <= one <= high for one in values):
        raise InputError("out of range", field=field, value=value, allowed=f"{low} to {high}")
    return values.astype(np.int64)


def _check_total(num_op: int, **term: tuple[int, int]) -> None:
    """No end of an operation can pass `MAX_TICK`, whatever waits for whom; a term is (largest value, times counted)."""
    most = MAX_TICK // max(num_op, 1)
    if sum(value * count for value, count in term.values()) > most:
        field = max(term, key=lambda name: term[name][0] * term[name][1])
        value, count = term[field]
        raise InputError(f"{num_op} operations of it may pass 2^62", field=field, value=value,
                         allowed=f"0 to {most // count // len(term)}")  # fmt: skip


def duration_table(
    num_stage: int, forward: PerStage, input_grad: PerStage, weight_grad: PerStage,
    recompute: PerStage = 0, optimizer: PerStage = 0,
) -> Ints:  # fmt: skip
    """`[kind, stage]` integer times; a whole backward B is input and weight gradient."""
    table = np.zeros((len(OP_KINDS), num_stage), np.int64)
    rows = {FORWARD: forward, INPUT_GRAD: input_grad, WEIGHT_GRAD: weight_grad, RECOMPUTE: recompute,
            OPTIMIZER: optimizer}  # fmt: skip
    for kind, value in rows.items():
        table[kind] = integers(value, TIME_NAMES[kind], num_stage)
    table[BACKWARD] = table[INPUT_GRAD] + table[WEIGHT_GRAD]
    return table


def memory_table(forward: int, input_grad: int, weight_grad: int) -> Ints:
    """`[kind]` change of a rank's memory by an operation. Default units elsewhere are one activation: +1, 0, -1."""
    for value in (forward, input_grad, weight_grad):
        integers(value, "memory", 1, -MAX_MEMORY, MAX_MEMORY)
    delta = np.zeros(len(OP_KINDS), np.int64)
    delta[FORWARD], delta[INPUT_GRAD], delta[WEIGHT_GRAD] = forward, input_grad, weight_grad
    delta[BACKWARD] = input_grad + weight_grad
    return delta


def end_times(arrays: OpArrays, table: Ints, hop: PerStage = 0, overlap_time: int | None = None) -> Ints:
    """End of every operation. `hop`: time between stages s and s+1 on two ranks (one for all, or one a boundary);
    `overlap_time`: of an overlapped pair, by default the sum of both. Raises `InputError` on deadlock, naming the
    ranks that wait for one another."""
    duration = table[arrays.kind, arrays.stage]
    first = np.flatnonzero(arrays.overlap)
    if overlap_time is not None:
        integers(overlap_time, "overlap_time", 1)
    hops = op_hop(arrays, hop)
    _check_total(duration.size, times=(int(table.max(initial=0)), 2), hop=(int(hops.max(initial=0)), 1),
                 overlap_time=(overlap_time or 0, 1))  # fmt: skip
    if first.size:
        pair = duration[first] + duration[first + 1] if overlap_time is None else np.int64(overlap_time)
        duration[first] = duration[first + 1] = pair
    end = np.empty(duration.size, np.int64)
    if replay(arrays.rank_start, arrays.dep, hops, duration, arrays.overlap, end) < end.size:
        raise InputError(deadlock(arrays, end))
    return end


def op_hop(arrays: OpArrays, hop: PerStage) -> Ints:
    """Time from each operation's input to it: 0 where both are on one rank."""
    boundary = integers(hop, "hop", arrays.num_stage - 1)
    boundary = np.broadcast_to(boundary, max(arrays.num_stage - 1, 1))
    source = np.maximum(arrays.dep, 0)
    crossing = (arrays.dep >= 0) & (arrays.rank[source] != arrays.rank)
    between = np.minimum(np.minimum(arrays.stage, arrays.stage[source]), boundary.size - 1)
    return np.where(crossing, boundary[between], 0)


def deadlock(arrays: OpArrays, end: Ints) -> str:
    """Who waits for whom, from one stuck rank along its waits until a rank comes again."""
    rank = next(r for r in range(arrays.rank_start.size - 1) if _next_op(arrays, end, r) >= 0)
    seen: list[int] = []
    waits = []
    while rank not in seen:
        seen.append(rank)
        op = _next_op(arrays, end, rank)
        if end[arrays.dep[op]] >= 0 or arrays.dep[op] < 0:
            op += 1  # the second of an overlapped pair
        source = int(arrays.dep[op])
        rank = int(arrays.rank[source])
        waits.append(f"rank {seen[-1]} at {arrays.name(op)} waits for {arrays.name(source)} of rank {rank}")
    return "deadlock: " + ", ".join(waits)


def _next_op(arrays: OpArrays, end: Ints, rank: int) -> int:
    left = np.flatnonzero(end[arrays.rank_start[rank] : arrays.rank_start[rank + 1]] < 0)
    return int(arrays.rank_start[rank] + left[0]) if left.size else -1


def memory_curve(arrays: OpArrays, delta: Ints) -> Ints:
    """Memory of its rank after each operation, in order of issue; `delta` is `[kind]`, or `[kind, stage]`."""
    total = np.cumsum(delta[arrays.kind] if delta.ndim == 1 else delta[arrays.kind, arrays.stage])
    first = arrays.rank_start[arrays.rank]
    return total - np.where(first > 0, total[np.maximum(first - 1, 0)], 0)


def run_schedule(
    order: Sequence[Sequence[Op]],
    times: tuple[PerStage, PerStage, PerStage] = (1, 1, 1),
    hop: PerStage = 0,
    *,
    overlap_time: int | None = None,
    recompute: PerStage = 0,
    optimizer: PerStage = 0,
    memory: tuple[int, int, int] = (1, 0, -1),
) -> ScheduleResult:
    """Replay `order` with the times of (forward, input gradient, weight gradient) and these changes of memory.

    >>> from workloads.schedules import load
    >>> run_schedule(load("1f1b").build(4, 8)).summary["makespan"]  # (m + p - 1)(F + B)
    33
    """
    arrays = compile_order(order)
    table = duration_table(arrays.num_stage, *times, recompute, optimizer)
    end = end_times(arrays, table, hop, overlap_time)
    curve = memory_curve(arrays, memory_table(*memory))
    duration = table[arrays.kind, arrays.stage]
    start = end - duration
    first = np.flatnonzero(arrays.overlap)
    if first.size:
        pair = duration[first] + duration[first + 1] if overlap_time is None else overlap_time
        start[first] = start[first + 1] = end[first] - pair
    op = pd.DataFrame(
        {"rank": arrays.rank, "kind": [OP_KINDS[k] for k in arrays.kind], "stage": arrays.stage,
         "microbatch": arrays.microbatch, "start": start, "end": end, "overlap": arrays.overlap, "memory": curve}
    )  # fmt: skip
    rank = rank_table(arrays, start, end, curve)
    return ScheduleResult(op, rank, summarize(rank, end, arrays.num_microbatch))


def rank_table(arrays: OpArrays, start: Ints, end: Ints, curve: Ints) -> pd.DataFrame:
    """A rank a row: busy time, span, bubble inside the span, peak memory."""
    used = np.diff(arrays.rank_start) > 0
    at = arrays.rank_start[:-1][used]
    stop = arrays.rank_start[1:][used] - 1
    second = np.concatenate(([False], arrays.overlap[:-1]))
    busy = np.add.reduceat(np.where(second, 0, end - start), at)
    span = end[stop] - start[at]
    return pd.DataFrame(
        {"rank": np.flatnonzero(used), "busy": busy, "span": span, "bubble_span": span - busy,
         "peak_memory": np.maximum(np.maximum.reduceat(curve, at), 0)}
    )  # fmt: skip


def summarize(rank: pd.DataFrame, end: Ints, num_microbatch: int) -> dict[str, float]:
    """Both bubbles as time (against the busiest rank) and as rate (share of the time), and peak memory."""
    makespan, span, busy = int(end.max()), int(rank["span"].max()), int(rank["busy"].max())
    return {
        "makespan": makespan,
        "max_span": span,
        "busy": busy,
        "bubble_makespan": makespan - busy,
        "bubble_span": span - busy,
        "bubble_rate_makespan": 1 - busy / makespan if makespan else 0.0,
        "bubble_rate_span": 1 - busy / span if span else 0.0,
        "peak_memory": int(rank["peak_memory"].max()),
        "num_op": int(end.size),
        "num_microbatch": num_microbatch,
    }
