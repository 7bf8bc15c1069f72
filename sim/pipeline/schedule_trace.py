"""A replayed schedule as a Chrome trace (JSON), which Perfetto and chrome://tracing open.

A rank is a process, its stages are threads; slices are operations, arrows are activations and gradients that go from
one rank to another.
"""

import json
import pathlib
from typing import Any

import pandas as pd

from workloads.pipeline import OpArrays

NAMES = {
    "F": "forward",
    "B": "backward",
    "I": "input gradient",
    "W": "weight gradient",
    "R": "recompute",
    "O": "optimizer",
}


def trace_events(op: pd.DataFrame, arrays: OpArrays, us_per_tick: float = 1.0) -> list[dict[str, Any]]:
    """Events of `ScheduleResult.op` (or `TrainResult.op`), times scaled to microseconds.

    >>> from workloads.pipeline import compile_order, parse_ops
    >>> from sim.pipeline.schedule import run_schedule
    >>> order = [parse_ops("F0.0"), parse_ops("F1.0")]
    >>> [event["ph"] for event in trace_events(run_schedule(order).op, compile_order(order))]
    ['M', 'M', 'X', 'X', 's', 'f']
    """
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "process_name", "pid": int(rank), "args": {"name": f"rank {rank}"}}
        for rank in sorted(set(op["rank"]))
    ]
    rows = op.to_dict("records")
    events += [
        {
            "ph": "X", "name": f"{row['kind']}{row['stage']}.{row['microbatch']}", "cat": NAMES[row["kind"]],
            "pid": int(row["rank"]), "tid": int(row["stage"]), "ts": row["start"] * us_per_tick,
            "dur": (row["end"] - row["start"]) * us_per_tick,
            "args": {"microbatch": int(row["microbatch"]), "memory": int(row["memory"])},
        }
        for row in rows
    ]  # fmt: skip
    for number, source in enumerate(arrays.dep.tolist()):
        if source < 0 or arrays.rank[source] == arrays.rank[number]:
            continue
        for phase, row in (("s", rows[source]), ("f", rows[number])):
            at = row["end"] if phase == "s" else row["start"]
            events.append({
                "ph": phase, "name": "hop", "cat": "hop", "id": number, "pid": int(row["rank"]),
                "tid": int(row["stage"]), "ts": at * us_per_tick, **({"bp": "e"} if phase == "f" else {}),
            })  # fmt: skip
    return events


def write_trace(op: pd.DataFrame, arrays: OpArrays, path: str | pathlib.Path, us_per_tick: float = 1.0) -> None:
    """Write the trace."""
    record = {"traceEvents": trace_events(op, arrays, us_per_tick), "displayTimeUnit": "ns"}
    pathlib.Path(path).write_text(json.dumps(record) + "\n")
