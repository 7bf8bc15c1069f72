"""Two pools and the links between them as a Chrome trace (JSON), which Perfetto and chrome://tracing open.

An engine is a process: on one that prefills a slice a request with queue and prompt inside, on one that decodes a
slice from the arrival of its KV to its last token. The links are a process, with rows for what leaves each engine. An
arrow (a flow) leads from a request's prompt over its transfer to its decode. Requests share a row where one ended
before the other came.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.engine.records import FINISHED
from kernels.errors import InputError
from sim.cluster.world import ClusterResult
from sim.show.trace_events import MAX_EVENT, Event, slots

US_PS = 1e6  # picoseconds of a microsecond, the unit of such traces
LINKS = 1  # process of the links; engines follow, those that prefill first
EACH = 8  # events of a request at most
ROW_OF_LINK = 1000  # threads of the links: so many for each engine


def pool_events(done: ClusterResult, max_event: int = MAX_EVENT) -> list[Event]:
    """Trace events of every request that was served, in order of time; microseconds.

    Raises `InputError` for a run of one pool, and for more than `max_event`.
    """
    if set(done.pool) != {"prefill", "decode"}:
        raise InputError("not pools with links between", field="pools", value=", ".join(done.pool),
                         allowed="prefill, decode")  # fmt: skip
    r = done.request
    rows = np.flatnonzero(r["status"] == FINISHED)
    if EACH * len(rows) > max_event:
        raise InputError("too many trace events", field="requests", value=len(rows),
                         allowed=f"{max_event // EACH}: a shorter load")  # fmt: skip
    time = {name: r[name][rows] / US_PS for name in ("arrival_ps", "start_ps", "first_token_ps", "last_token_ps")}
    moved = r["transfer_ps"][rows] >= 0
    there = np.where(moved, time["first_token_ps"] + np.maximum(r["transfer_ps"][rows], 0) / US_PS, np.nan)
    first, last = r["first_replica"][rows], r["last_replica"][rows]
    num_first = len(done.pool["prefill"].stage_busy_ps)
    found: list[Event] = [_name(LINKS, "links out of the engines that prefill")]
    found += [_name(_prefill(k), f"prefill engine {k}") for k in range(num_first)]
    found += [_name(_decode(k, num_first), f"decode engine {k}") for k in range(len(done.pool["decode"].stage_busy_ps))]
    here = _rows(first, time["arrival_ps"], time["first_token_ps"])
    way = _rows(np.where(moved, first, -1), time["first_token_ps"], there)
    seat = _rows(np.where(moved, last, -1), there, time["last_token_ps"])
    timed: list[Event] = []
    for j, i in enumerate(rows.tolist()):
        pid, name = _prefill(int(first[j])), f"request {i}"
        args = {"prompt_token": int(r["prompt_token"][i]), "output_token": int(r["output_token"][i])}
        arrival, start, token = (float(time[what][j]) for what in ("arrival_ps", "start_ps", "first_token_ps"))
        timed.append(_slice(pid, here[j], name, arrival, token, args))
        timed.append(_slice(pid, here[j], "queued", arrival, start))
        timed.append(_slice(pid, here[j], "prefill", start, token))
        if not moved[j]:
            continue
        link, decode = ROW_OF_LINK * int(first[j]) + way[j], _decode(int(last[j]), num_first)
        timed.append(_slice(LINKS, link, name, token, float(there[j]), {**args, "to": f"decode engine {last[j]}"}))
        timed.append(_slice(decode, seat[j], name, float(there[j]), float(time["last_token_ps"][j]), args))
        for kind, process, thread, when in (
            ("s", pid, here[j], start), ("t", LINKS, link, token), ("f", decode, seat[j], float(there[j])),
        ):  # fmt: skip
            timed.append({"ph": kind, "id": i, "name": "KV", "cat": "hand-over", "pid": process, "tid": thread,
                          "ts": round(when, 3), **({"bp": "e"} if kind == "f" else {})})  # fmt: skip
    return found + sorted(timed, key=lambda event: (event["ts"], -event.get("dur", 0.0)))


def _prefill(k: int) -> int:
    return LINKS + 1 + k


def _decode(k: int, num_first: int) -> int:
    return LINKS + 1 + num_first + k


def _rows(
    engine: npt.NDArray[Any], begin: npt.NDArray[np.float64], end: npt.NDArray[np.float64]
) -> list[int]:  # fmt: skip
    """A row of its engine for each interval, on which no two overlap; 0 for those of no engine (-1)."""
    row = np.zeros(len(engine), np.int64)
    for k in set(engine.tolist()) - {-1}:
        own = np.flatnonzero(engine == k)
        row[own] = slots(begin[own], end[own])
    return [int(one) for one in row]


def _name(pid: int, name: str) -> Event:
    return {"ph": "M", "pid": pid, "name": "process_name", "args": {"name": name}}


def _slice(
    pid: int, tid: int, name: str, begin: float, end: float, args: dict[str, Any] | None = None
) -> Event:  # fmt: skip
    begin = round(begin, 3)
    return {"ph": "X", "pid": pid, "tid": tid, "name": name, "ts": begin, "dur": round(round(end, 3) - begin, 3),
            **({"args": args} if args else {})}  # fmt: skip
