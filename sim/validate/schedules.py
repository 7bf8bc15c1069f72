"""`ridgeline validate schedules DIR`: published orders replayed, generators against their published orders."""

import argparse
import dataclasses
import pathlib
from collections import Counter, defaultdict
from typing import Any

import numpy as np

from kernels.errors import InputError
from sim.pipeline.schedule import run_schedule
from sim.validate._rows import error_row, finish
from workloads.pipeline import Order, serial
from workloads.published_orders import Published, Timing, read_published
from workloads.schedules import load

HELP = "published pipeline orders: end times, peaks and generators, exactly"

OWN = {
    "GPipe": "gpipe", "1F1B": "1f1b", "Interleaved1F1B": "interleaved-1f1b", "interleaved-1F1B": "interleaved-1f1b",
    "LoopedBFS": "breadth-first", "InterleavedZeroBubble": "zb-h1", "ZBVZeroBubble": "zb-v", "DualPipeV": "dualpipe-v",
    "DualPipe": "dualpipe", "BitPipe (direct concatenation)": "bitpipe",
}  # fmt: skip
AUTOMATIC = {"V-Half": "v-half", "V-Min": "v-min"}  # by the generator's name, or by what only it publishes
_AUTOMATIC_BY_FIELD = {"upstream_longest_stage_time": "zb-v-greedy", "max_bubble": "zb-v-greedy",
                       "ilp_objective": "zb-auto", "best_time_max_stage_span": "zb-auto"}  # fmt: skip
# what a publisher recorded -> how the same thing is read off a replay
_SUMMARY = {"makespan": "makespan", "max_device_span": "max_span", "best_time_max_stage_span": "max_span",
            "upstream_max_time": "makespan", "ilp_objective": "max_span", "max_bubble": "bubble_span"}  # fmt: skip
_RANK = {"device_span": "span", "device_busy": "busy"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="folder of JSON files with vectors (or one such file)")
    parser.add_argument("--json", metavar="FILE", help="write the rows")


def run(arguments: argparse.Namespace) -> int:
    rows, reasons = validate_schedules(arguments.folder)
    return finish(rows, arguments.json, reasons, "not replayed")


def validate_schedules(folder: str | pathlib.Path) -> tuple[list[dict[str, Any]], Counter[str]]:
    """A row a generator, and one over all: `n` comparisons (a replay with given times, or the peaks of an order),
    `exact` of them equal in every number; `order_n` orders that we generate too, `order_exact` of them equal; for
    automatic schedulers `plan_n` plans at the same memory and `plan_worse` of ours longer than the published one.
    Errors are of the makespan (of the span, where that is what was published). Beside them, why vectors were not
    replayed; a file or vector that cannot be read is one of these, unless it is all there is."""
    path = pathlib.Path(folder)
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise InputError("no JSON file in this folder", file=path)
    groups: dict[tuple[str, str], list[Published]] = defaultdict(list)
    reasons: Counter[str] = Counter()
    odd: Counter[str] = Counter()  # vectors of a file that cannot be read
    first: InputError | None = None
    for file in files:
        amiss: list[InputError] = []
        try:
            vectors = read_published(file, amiss)
        except InputError as error:
            vectors, amiss = [], [error]
        first = first or next(iter(amiss), None)
        reasons.update(str(error) for error in amiss)
        odd[file.stem] += len(amiss)
        for vector in vectors:
            groups[file.stem, vector.generator].append(vector)
    if not groups and first is not None:
        raise first
    rows = []
    total = Found()
    for (stem, generator), vectors in groups.items():
        found = Found()
        for vector in vectors:
            case = len(vector.timings) + (vector.peak is not None)
            try:
                one = _compare(generator, vector)
            except InputError as error:
                reasons[str(error)] += case
                one = Found(count=Counter(case=case))
            found = found.plus(one)
        rows.append(_row(generator, stem, found))
        total = total.plus(found)
    total.count["case"] += sum(odd.values())
    return [*rows, _row("all", "all", total)], reasons


@dataclasses.dataclass
class Found:
    """What comparing vectors gave: makespans of ours and published ones, and counts."""

    simulated: list[float] = dataclasses.field(default_factory=list)
    published: list[float] = dataclasses.field(default_factory=list)
    count: Counter[str] = dataclasses.field(default_factory=Counter)

    def plus(self, other: "Found") -> "Found":
        """Of the vectors of both."""
        count = Counter(self.count)
        count.update(other.count)
        return Found(self.simulated + other.simulated, self.published + other.published, count)


def _row(generator: str, stem: str, found: Found) -> dict[str, Any]:
    count = found.count
    fmt = "all" if stem == "all" else "-"
    row = error_row("schedule", generator, stem, found.simulated, found.published, count["case"], number_format=fmt)
    names = ("exact", "order_n", "order_exact", "plan_n", "plan_worse", "plan_better")
    covered = count["n"] / count["case"] if count["case"] else 0.0
    return row | {"n": count["n"], "coverage": covered} | {name: count[name] for name in names}


def _compare(generator: str, published_vector: Published) -> Found:
    found = Found()
    count = found.count
    vector = with_own_order(published_vector)
    if not vector.order:  # neither published nor generated here: cases that are not covered
        count["case"] += len(vector.timings) + (vector.peak is not None)
        return found
    for timing in vector.timings:
        checks = replay_checks(vector, timing)
        count["case"] += 1
        if checks:
            ours, theirs = checks[0]
            found.simulated.append(float(np.max(ours)))  # of a list, as ends of stages, the last
            found.published.append(float(np.max(theirs)))
            count["n"] += 1
            count["exact"] += all(a == b for a, b in checks)
    if vector.peak is not None:
        peaks = run_schedule(vector.order, memory=vector.memory).rank["peak_memory"].tolist()
        count["case"] += 1
        count["n"] += 1
        count["exact"] += peaks == vector.peak
    if generator in OWN and published_vector.order:
        count["order_n"] += 1
        count["order_exact"] += _bare(own_order(vector)) == _bare(vector.order)
    planner = planner_of(vector)
    if planner and len(vector.timings) == 1 and _plans(planner, vector.timings[0]):
        span, other = automatic_span(planner, vector)
        count["plan_n"] += 1
        count["plan_worse"] += span > other
        count["plan_better"] += span < other
    return found


def planner_of(vector: Published) -> str | None:
    """Our scheduler that plans under a memory limit as this vector's generator did, whatever its file is called."""
    found = (name for field, name in _AUTOMATIC_BY_FIELD.items() if field in vector.raw)
    return AUTOMATIC.get(vector.generator) or next(found, None)


def own_order(vector: Published) -> Order:
    """The order that our generator of this name makes."""
    schedule = load(OWN[vector.generator])
    option = {"num_chunk": vector.num_chunk} if "num_chunk" in schedule.option else {}
    return schedule.build(vector.num_rank, vector.num_microbatch, **option)


def with_own_order(vector: Published) -> Published:
    """The vector; with our order where it came without one, or without the pairs that its times are of."""
    if vector.generator not in OWN:
        return vector
    if not vector.order:
        return vector._replace(order=own_order(vector))
    if all(timing.serial for timing in vector.timings) or any(op.overlap for ops in vector.order for op in ops):
        return vector
    order = own_order(vector)
    return vector._replace(order=order) if _bare(order) == _bare(vector.order) else vector


def _bare(order: Order) -> list[list[tuple[str, int, int]]]:
    return [[(op.kind, op.stage, op.microbatch) for op in ops] for ops in order]


def replay_checks(vector: Published, timing: Timing) -> list[tuple[Any, Any]]:
    """(ours, published) of everything that the publisher recorded for this run."""
    order = serial(vector.order) if timing.serial else vector.order
    replayed = run_schedule(order, timing.times, timing.hop, overlap_time=timing.overlap_time)
    checks: list[tuple[Any, Any]] = []
    for sources in (timing.result, vector.raw):
        for theirs, ours in _SUMMARY.items():
            if sources.get(theirs) is not None and (sources is timing.result or len(vector.timings) == 1):
                checks.append((replayed.summary[ours], sources[theirs]))
    for theirs, ours in _RANK.items():
        if timing.result.get(theirs) is not None:
            checks.append((replayed.rank[ours].tolist(), timing.result[theirs]))
    if timing.result.get("stage_end_times") is not None:
        ends = replayed.op.groupby("rank")["end"].max().tolist()
        checks.append((ends, timing.result["stage_end_times"]))
    for _, theirs in checks:
        if np.asarray(theirs).dtype.kind not in "if":
            raise InputError("not a number, nor a list of them", field="replayer", value=theirs)
    return checks


def _plans(planner: str, timing: Timing) -> bool:
    """Whether a planner takes these times: V shapes take one time for all stages."""
    return planner.startswith("zb-auto") or all(isinstance(time, int) for time in (*timing.times, timing.hop))


def automatic_span(name: str, vector: Published) -> tuple[float, float]:
    """Longest span of our plan (infinite where we have none) and of the published one, same times and memory."""
    (timing,) = vector.timings
    p, m = vector.num_rank, vector.num_microbatch
    published = run_schedule(vector.order, timing.times, timing.hop, memory=vector.memory) if vector.order else None
    limit = vector.limit if vector.limit is not None else m * vector.memory[0]
    schedule = load(name)
    if name not in ("zb-auto", "zb-exact") and published is not None:
        limit = int(published.summary["peak_memory"])
    option = {"memory": vector.memory} if "memory" in schedule.option else {}
    spans = (timing.result.get(key) for key in ("best_time_max_stage_span", "ilp_objective"))
    recorded = [float(span) for span in spans if span is not None]
    replayed = [float(published.summary["max_span"])] if published is not None else []
    theirs = min(recorded or replayed)
    try:
        order = schedule.build(p, m, times=timing.times, hop=timing.hop, limit=limit, **option)
    except InputError:  # we have no plan in this memory, they have
        return float("inf"), theirs
    ours = run_schedule(order, timing.times, timing.hop, memory=vector.memory)
    if ours.summary["peak_memory"] > limit:
        raise InputError("the plan exceeds its memory", field="limit", value=limit)
    return float(ours.summary["max_span"]), theirs
