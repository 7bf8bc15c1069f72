"""A run as a Chrome trace (JSON), which Perfetto and chrome://tracing open.

A replica is a process. Its threads are the pipeline lanes, with a slice a step, and slots, with a slice a request
(queued, prefill and decode inside it); two requests share a slot when one ended before the other came. Counters: KV
blocks in use and kept for the cache, requests running and waiting. Requests that no replica took are a process of
their own.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kernels.errors import InputError
from sim.record.provenance import canonical
from sim.record.records import Run

Event = dict[str, Any]
FIRST_SLOT = 1000  # thread ids below are pipeline lanes
MAX_EVENT = 400_000  # about 60 MB of JSON; Perfetto takes some more
COLOURS = {"prefill": "thread_state_iowait", "decode": "thread_state_running", "mixed": "rail_animation"}


def events(run: Run, *, start_s: float = 0.0, stop_s: float = math.inf, max_event: int = MAX_EVENT) -> list[Event]:
    """Trace events of all that overlaps `start_s` to `stop_s`, in order of time; times in microseconds.

    More than `max_event` are refused, with a window that would fit.
    """
    if not start_s < stop_s:
        raise InputError("an empty window", field="start_s", value=start_s, allowed=f"below {stop_s:g}")
    requests = run.requests
    refused = requests["status"] == "refused"  # a slice of no length; what has not finished lasts to the end
    end_s = requests["finish_s"].fillna(requests["arrival_s"].where(refused, _last(run)))
    requests = requests.assign(end_s=end_s)[(requests["arrival_s"] < stop_s) & (end_s >= start_s)]
    steps = run.steps
    if steps is not None:
        steps = steps[(steps["start_s"] < stop_s) & (steps["end_s"] > start_s)]
    count = 4 * len(requests) + (0 if steps is None else 3 * len(steps))
    span = (min(stop_s, _last(run)) - start_s) * max_event / max(count, 1)
    check_count(count, max_event, f"{span:.3g} s")
    found: list[Event] = []
    for replica in sorted(set(requests["replica"]) | (set() if steps is None else set(steps["replica"]))):
        own = requests[requests["replica"] == replica]
        name = f"replica {replica}" if replica >= 0 else "not served"
        found += name_process(int(replica), name)
        if steps is not None:
            found += step_events(
                int(replica), steps[steps["replica"] == replica], float(run.totals.get("kv_block", math.nan))
            )
        found += request_events(int(replica), own)
    return in_order(found)


def in_order(found: Sequence[Event]) -> list[Event]:
    """Names first, then by time, the longer slice before those inside it and a flow behind its slice."""
    meta = [event for event in found if event["ph"] == "M"]
    timed = [event for event in found if event["ph"] != "M"]
    return meta + sorted(timed, key=lambda event: (event["ts"], event["ph"] in "sf", -event.get("dur", 0.0)))


def check_count(count: int, max_event: int, instead: str) -> None:
    """A viewer opens so many events; `instead` is what would fit."""
    if count > max_event:
        raise InputError("too many trace events", field="events", value=count, allowed=f"{max_event}: try {instead}")


def fitting_stop_s(run: Run, max_event: int = MAX_EVENT) -> float:
    """The latest `stop_s` for which `events` from the beginning fit `max_event`; infinity where all do."""
    steps = run.steps["start_s"].to_numpy() if run.steps is not None else np.empty(0)
    begin = np.concatenate([run.requests["arrival_s"].to_numpy(), steps])
    weight = np.concatenate([np.full(len(run.requests), 4), np.full(len(steps), 3)])
    order = np.argsort(begin, kind="stable")
    over = np.cumsum(weight[order]) > max_event
    return float(begin[order][int(np.argmax(over))]) if over.any() else math.inf


def trace_bytes(found: Sequence[Event], about: Mapping[str, Any]) -> bytes:
    """The trace file: events, a display unit, and the provenance under `otherData`."""
    lines = ",\n".join(json.dumps(event, allow_nan=False, separators=(",", ":")) for event in found)
    other = json.dumps({"ridgeline": canonical(about)}, allow_nan=False)
    return f'{{"displayTimeUnit":"ms","otherData":{other},"traceEvents":[\n{lines}\n]}}\n'.encode()


def _last(run: Run) -> float:
    """The latest time that any record knows."""
    clock = run.requests[["arrival_s", "first_token_s", "last_token_s", "finish_s"]].max().max()
    return float(max(clock, 0.0 if run.steps is None or not len(run.steps) else run.steps["end_s"].max()))


def us(seconds: Any) -> npt.NDArray[np.float64]:
    """Microseconds, to the nanosecond."""
    return np.round(np.asarray(seconds, np.float64) * 1e6, 3)


def name_process(replica: int, name: str) -> list[Event]:
    """A replica's process."""
    pid = process(replica)
    return [
        {"ph": "M", "pid": pid, "name": "process_name", "args": {"name": name}},
        {"ph": "M", "pid": pid, "name": "process_sort_index", "args": {"sort_index": pid}},
    ]


def process(replica: int) -> int:
    """Its number: Perfetto hides process 0, and what no replica took (-1) is the last."""
    return replica + 1 if replica >= 0 else 1_000_000


def name_thread(pid: int, tid: int, name: str) -> list[Event]:
    """A thread of a process."""
    return [
        {"ph": "M", "pid": pid, "tid": tid, "name": "thread_name", "args": {"name": name}},
        {"ph": "M", "pid": pid, "tid": tid, "name": "thread_sort_index", "args": {"sort_index": tid}},
    ]


def step_events(replica: int, steps: pd.DataFrame, num_block: float) -> list[Event]:
    pid = process(replica)
    found: list[Event] = []
    for lane in sorted(set(steps["lane"])):
        found += name_thread(pid, int(lane) + 1, "steps" if steps["lane"].nunique() == 1 else f"steps, lane {lane}")
    start, end = us(steps["start_s"]), us(steps["end_s"])
    columns = ("num_prefill", "num_decode", "prefill_token", "num_waiting", "num_running", "used_block", "cached_block")
    rows = steps[[*columns, "lane"]].astype(int).to_dict("list")
    for i in range(len(steps)):
        row = {name: rows[name][i] for name in rows}
        kind = "decode" if not row["num_prefill"] else "prefill" if not row["num_decode"] else "mixed"
        args = {name: row[name] for name in columns}
        ts, dur = float(start[i]), round(float(end[i] - start[i]), 3)
        found.append({"ph": "X", "pid": pid, "tid": row["lane"] + 1, "name": kind, "cat": "step", "ts": ts, "dur": dur,
                      "cname": COLOURS[kind], "args": args})  # fmt: skip
    kv = {"in use": rows["used_block"], "cached": rows["cached_block"]}
    if math.isfinite(num_block) and num_block > 0:
        kv = {name: [round(100.0 * value / num_block, 3) for value in values] for name, values in kv.items()}
    queue = {"running": rows["num_running"], "waiting": rows["num_waiting"]}
    title = "KV blocks (%)" if math.isfinite(num_block) and num_block > 0 else "KV blocks"
    return found + _counter(pid, title, start, kv) + _counter(pid, "requests", start, queue)


def _counter(pid: int, name: str, ts: npt.NDArray[np.float64], values: Mapping[str, Sequence[float]]) -> list[Event]:
    """A counter's changes; equal neighbours are left out."""
    found: list[Event] = []
    last: dict[str, float] | None = None
    for i in np.argsort(ts, kind="stable"):
        args = {series: column[i] for series, column in values.items()}
        if args != last:
            found.append({"ph": "C", "pid": pid, "name": name, "ts": float(ts[i]), "args": args})
            last = args
    return found


def request_events(replica: int, requests: pd.DataFrame) -> list[Event]:
    """A slice a request on the first free slot, and its phases inside."""
    pid = process(replica)
    found: list[Event] = []
    arrival, end = us(requests["arrival_s"]), us(requests["end_s"])
    slot = slots(arrival, end)
    for index in range(int(slot.max()) + 1 if len(slot) else 0):
        found += name_thread(pid, FIRST_SLOT + index, f"slot {index}")
    marks = [us(requests[name]) for name in ("scheduled_s", "first_token_s", "last_token_s")]
    columns = ("request", "prompt_token", "output_token", "committed_token", "cached_token", "num_preemption")
    rows = requests[list(columns)].astype(int).to_dict("list")
    status, reason = requests["status"].astype(str).tolist(), requests["reason"].astype(str).tolist()
    for i in range(len(requests)):
        base = {"ph": "X", "pid": pid, "tid": FIRST_SLOT + int(slot[i])}
        args = {name: rows[name][i] for name in columns[1:]} | {"status": status[i], "reason": reason[i]}
        title = f"request {rows['request'][i]}"
        found.append({**base, "name": title, "cat": "request", "ts": float(arrival[i]),
                      "dur": round(float(end[i] - arrival[i]), 3), "args": args})  # fmt: skip
        edges = [float(arrival[i]), *(float(mark[i]) for mark in marks)]
        for phase, begin, stop in zip(("queued", "prefill", "decode"), edges, edges[1:], strict=False):
            if not math.isfinite(begin):
                break
            stop = min(stop, float(end[i])) if math.isfinite(stop) else float(end[i])
            if stop > begin:
                dur = round(stop - begin, 3)
                found.append({**base, "name": phase, "cat": "phase", "ts": begin, "dur": dur})
    return found


def slots(start: npt.NDArray[np.float64], end: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The lowest free slot for each interval, such that intervals of a slot do not overlap.

    >>> slots(np.array([0.0, 1.0, 2.0]), np.array([2.0, 5.0, 3.0])).tolist()
    [0, 1, 0]
    """
    import heapq

    slot = np.zeros(len(start), np.int64)
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    for i in np.lexsort((end, start)):
        while busy and busy[0][0] <= start[i]:
            heapq.heappush(free, heapq.heappop(busy)[1])
        slot[i] = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (float(end[i]), int(slot[i])))
    return slot
