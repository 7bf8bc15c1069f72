"""What `ridgeline schedule` does, as a function: name or file -> order -> replay -> text, JSON, CSV, picture."""

import json
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

from kernels.errors import InputError
from sim.pipeline.schedule import MAX_MEMORY, MAX_TICK, PerStage, ScheduleResult, integers, run_schedule
from sim.record.export import check_picture, write_json
from sim.record.write import write_files
from sim.show.tables import table
from workloads import files
from workloads.pipeline import Op, Order, compile_order
from workloads.pipeline_csv import csv_text, read_csv
from workloads.schedules import catalogue, load

NAMED = ("name", "stages", "microbatches", "recompute", "overlap_time")
MEMORY_RANGE = [("memory", -MAX_MEMORY, MAX_MEMORY)] * 3


def parse_integers(text: str, field: str, count: int) -> tuple[int, ...]:
    """`5,6,4` as integers, exactly `count` of them."""
    parts = text.split(",")
    if len(parts) != count or not all(re.fullmatch(r"\s*-?[0-9]{1,40}\s*", part) for part in parts):
        raise InputError(f"{count} integers with commas between", field=field, value=text,
                         allowed="integers of 40 digits at most")  # fmt: skip
    return tuple(int(part) for part in parts)


def read_stage_times(path: str) -> tuple[list[int], list[int], list[int]]:
    """Columns forward, input_grad, weight_grad of a CSV file with a row a stage."""
    names = ("forward", "input_grad", "weight_grad")
    frame = files.read_frame(path)
    for name in names:
        if name not in frame.columns:
            raise InputError(f"column {name} is missing", file=path)
        if not pd.api.types.is_integer_dtype(frame[name]):
            raise InputError("times are integers", file=path, field=name, value=frame[name].tolist())
    forward, input_grad, weight_grad = (frame[name].tolist() for name in names)
    return forward, input_grad, weight_grad


def build_order(
    name: str, stages: int | None, microbatches: int | None, offered: dict[str, Any], option: dict[str, Any]
) -> Order:
    """The order of a schedule or of a CSV file. `offered` values go to schedules that take them; `option` ones must be
    taken."""
    if name.endswith(".csv"):
        given = {"stages": stages, "microbatches": microbatches, **option}
        for field, value in given.items():
            if value is not None:
                raise InputError("the order of a CSV file takes no option", field=field, value=value)
        return read_csv(name)
    schedule = load(name)
    for field, value in (("stages", stages), ("microbatches", microbatches)):
        if value is None:
            raise InputError(f"--{field} is missing", field=field, value=None, allowed="an integer >= 1")
    taken = {key: value for key, value in offered.items() if key in schedule.option}
    return schedule.build(int(stages or 0), int(microbatches or 0), **taken, **option)


def simulate_schedule(
    name: str,
    stages: int | None = None,
    microbatches: int | None = None,
    *,
    times: Sequence[PerStage] = (1, 1, 1),
    hop: int = 0,
    memory: Sequence[int] = (1, 0, -1),
    recompute: int = 0,
    overlap_time: int | None = None,
    **option: Any,
) -> tuple[Order, ScheduleResult]:
    """Build and replay. `recompute` > 0 puts an R before every backward.

    >>> simulate_schedule("zb-v", 4, 8, times=(5, 6, 4), hop=1)[1].summary["num_op"]
    192
    """
    for value, (field, low, high) in zip(
        (*times, hop, recompute, *memory),
        [*((name, 0, MAX_TICK) for name in ("times", "times", "times", "hop", "recompute")), *MEMORY_RANGE],
        strict=True,
    ):  # before a schedule that plans with them is built
        integers(value, field, low=low, high=high)
    offered = {"times": times, "hop": hop, "memory": memory}
    order = build_order(name, stages, microbatches, offered, {k: v for k, v in option.items() if v is not None})
    if recompute:
        order = with_recompute(order)
    if overlap_time is not None and not any(op.overlap for ops in order for op in ops):
        raise InputError("has no effect: no operations of this order overlap", field="overlap_time", value=overlap_time)
    forward, input_grad, weight_grad = times
    f, i, w = memory
    result = run_schedule(
        order, (forward, input_grad, weight_grad), hop,
        overlap_time=overlap_time, recompute=recompute, memory=(f, i, w),
    )  # fmt: skip
    return order, result


def with_recompute(order: Order) -> Order:
    """R right before each B or I; overlapped pairs are refused, as one rank cannot do three things at once."""
    ranks: Order = []
    for ops in order:
        out: list[Op] = []
        for op in ops:
            if op.overlap:
                raise InputError("recompute with overlapped forward and backward", field="recompute", value=str(op))
            out += [Op("R", op.stage, op.microbatch), op] if op.kind in "BI" else [op]
        ranks.append(out)
    return ranks


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """`KEY=VALUE` pairs; values are JSON where they can be, else text."""
    options: dict[str, Any] = {}
    for pair in pairs:
        key, equal, value = pair.partition("=")
        if not equal:
            raise InputError("options are KEY=VALUE", field="option", value=pair)
        name = key.replace("-", "_")
        if name in options or name in ("times", "hop", "memory", "num_chunk", "limit", *NAMED):
            raise InputError("has an option of its own, or is given twice", field="option", value=pair)
        try:
            options[name] = json.loads(value)
        except (ValueError, RecursionError):
            options[name] = value
    return options


def execute(
    name: str, stages: int | None, microbatches: int | None, chunks: int | None, times: str | None,
    stage_times: str | None, recompute: int, hop: int, overlap_time: int | None, memory: str, limit: int | None,
    option: Sequence[str], plot: str | None, trace: str | None, json: str | None, csv: str | None,
) -> str:  # fmt: skip
    """Everything that `ridgeline schedule` does; returns what it prints."""
    if name == "list":
        given = {"stages": stages, "microbatches": microbatches, "chunks": chunks, "times": times, "limit": limit,
                 "stage_times": stage_times, "recompute": recompute, "hop": hop, "overlap_time": overlap_time,
                 "option": option, "plot": plot, "trace": trace, "json": json, "csv": csv}  # fmt: skip
        for field, value in given.items():
            if value:
                raise InputError("has no effect on the list", field=field, value=value)
        return "\n".join(f"{entry.name:20} {entry.help}" for entry in catalogue().values())
    if times and stage_times:
        raise InputError("one of --times and --stage-times", field="times", value=times)
    per_stage: Sequence[PerStage] = (
        read_stage_times(stage_times) if stage_times else parse_integers(times or "1,1,1", "times", 3)
    )
    if plot:
        check_picture(plot)
    order, result = simulate_schedule(
        name, stages, microbatches, times=per_stage, hop=hop, memory=parse_integers(memory, "memory", 3),
        recompute=recompute, overlap_time=overlap_time, num_chunk=chunks, limit=limit, **parse_options(option),
    )  # fmt: skip
    if csv:
        write_files({pathlib.Path(csv): csv_text(order).encode()})
    if plot:
        from sim.pipeline.schedule_plot import save_plot

        summary = result.summary
        title = f"{name}: makespan {summary['makespan']}, bubble {summary['bubble_rate_makespan']:.1%}"
        title += f" of makespan, {summary['bubble_rate_span']:.1%} of span, peak memory {summary['peak_memory']}"
        save_plot(result.op, title, plot)
    if trace:
        from sim.pipeline.schedule_trace import write_trace

        write_trace(result.op, compile_order(order), trace)
    if json:
        record = {"schedule": name, "summary": result.summary, "rank": result.rank, "op": result.op}
        write_json(record, json)
    return table(result.rank) + "\n" + "\n".join(_line(k, v) for k, v in result.summary.items())


def _line(name: str, value: float) -> str:
    return f"{name:22} {value:.4f}" if isinstance(value, float) else f"{name:22} {value}"
