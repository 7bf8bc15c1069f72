"""A run on two pools as a Chrome trace (JSON), which Perfetto opens.

An engine is a process: its steps (where they were recorded), counters, and the requests that it had, of a pool that
decodes from when their KV was there. KV that leaves an engine is a slice of it, and another of the engine to which it
goes; a flow joins the two.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sim.record.pool_runs import PoolRuns, pool_runs
from sim.show.trace_events import (
    MAX_EVENT,
    Event,
    check_count,
    in_order,
    name_process,
    name_thread,
    process,
    request_events,
    slots,
    step_events,
    trace_bytes,
    us,
)

if TYPE_CHECKING:
    from sim.cluster.simulate import PooledRun

OUT, IN = 100_000, 200_000  # threads of KV that leaves and that comes
NUM_A_TRANSFER = 4  # two slices, and both ends of the flow
NUM_A_REQUEST, NUM_A_STEP = 8, 3


def pool_trace(done: "PooledRun") -> bytes:
    """The trace file of a run. Raises `InputError` where it would be too long for a viewer."""
    from sim.record.provenance import provenance

    scenario = next(iter(done.own.values()))
    about = provenance(
        {role: vars(one) for role, one in done.own.items()}, seed=scenario.seed, fidelity=scenario.fidelity
    )
    return trace_bytes(pool_events(pool_runs(done.result, done.load)), about)


def pool_events(runs: PoolRuns, max_event: int = MAX_EVENT) -> list[Event]:
    """Events in order of time; times in microseconds."""
    request, transfer = runs.whole.requests, runs.transfer.frame()
    num_step = sum(len(step) for step in runs.step.values())
    num = NUM_A_REQUEST * len(request) + NUM_A_STEP * num_step + NUM_A_TRANSFER * len(transfer)
    check_count(num, max_event, "fewer requests")
    first, last = next(iter(runs.num_engine)), next(reversed(runs.num_engine))
    begin = {last: runs.num_engine[first]} | {first: 0}  # the number of a pool's first engine
    found: list[Event] = []
    for pool, visits in ({last: _decoded(request, transfer)} | {first: _prefilled(request, transfer)}).items():
        steps = runs.step[pool].frame() if pool in runs.step else None
        for k in range(runs.num_engine[pool]):
            number = begin[pool] + k
            found += name_process(number, f"{pool} {k}")
            if steps is not None:
                found += step_events(number, steps[steps["replica"] == k], float(runs.num_block[pool]))
            found += request_events(number, visits[visits["replica"] == k])
    transfer["decode_engine"] += begin[last]
    return in_order(found + _kv(transfer))


def _prefilled(request: pd.DataFrame, transfer: pd.DataFrame) -> pd.DataFrame:
    """Requests as the first pool had them: until their KV was handed over, or their end where none was."""
    handed = pd.Series(transfer["begin_s"].to_numpy(), transfer["request"].to_numpy()).reindex(request.index)
    clock = request[["arrival_s", "first_token_s", "last_token_s", "finish_s"]].max(axis=1)
    return request.assign(end_s=handed.fillna(clock), last_token_s=request["first_token_s"])


def _decoded(request: pd.DataFrame, transfer: pd.DataFrame) -> pd.DataFrame:
    """Requests as the second pool had them: from when their KV was there."""
    there = transfer["end_s"].to_numpy()
    own = request.loc[transfer["request"].to_numpy()]
    end = np.fmax(own[["last_token_s", "finish_s"]].max(axis=1).to_numpy(), there)
    clocks = dict.fromkeys(("arrival_s", "scheduled_s", "first_token_s"), there)
    return own.assign(**clocks, end_s=end, replica=transfer["decode_engine"].to_numpy())


def _kv(transfer: pd.DataFrame) -> list[Event]:
    """KV on its way: a slice where it leaves, one where it comes, and the flow from the one to the other."""
    found: list[Event] = []
    begin, end = us(transfer["begin_s"]), us(transfer["end_s"])
    for thread, column, word, phase in ((OUT, "prefill_engine", "KV out", "s"), (IN, "decode_engine", "KV in", "f")):
        for k in sorted(set(transfer[column])):
            own = np.flatnonzero(transfer[column] == k)
            slot = slots(begin[own], end[own])
            for index in range(int(slot.max()) + 1):
                found += name_thread(process(k), thread + index, f"{word} {index}")
            for i, lane in zip(own.tolist(), slot.tolist(), strict=True):
                number = int(transfer["request"].iloc[i])
                at: dict[str, Any] = {"pid": process(k), "tid": thread + lane, "cat": "transfer", "ts": float(begin[i])}
                found.append(
                    {"ph": "X", "name": f"KV of request {number}", "dur": round(float(end[i] - begin[i]), 3)} | at
                )
                found.append({"ph": phase, "name": "KV", "id": number} | ({"bp": "e"} if phase == "f" else {}) | at)
    return found
