"""The Chrome trace: strictly valid, slices nested, counters, nothing lost."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.errors import InputError
from sim.show.trace_events import events, fitting_stop_s, slots, trace_bytes
from tests.sim.tiny_run import tiny_run

FIELDS = {
    "M": {"ph", "pid", "name", "args"},
    "X": {"ph", "pid", "tid", "name", "cat", "ts", "dur"},
    "C": {"ph", "pid", "name", "ts", "args"},
}


def check(found: list[dict]) -> None:
    """The Trace Event Format: known phases, required fields, finite times, nested slices, named threads."""
    named: set[tuple[int, int | None]] = set()
    last = -math.inf
    open_slices: dict[tuple[int, int], list[float]] = {}
    for event in found:
        need = FIELDS[event["ph"]]
        assert need <= set(event), event
        assert set(event) <= need | {"tid", "args", "cname"}, event
        assert isinstance(event["pid"], int)
        assert event["pid"] > 0
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "process_sort_index", "thread_name", "thread_sort_index")
            named.add((event["pid"], event.get("tid")))
            continue
        assert isinstance(event["ts"], float)
        assert math.isfinite(event["ts"])
        assert event["ts"] >= last  # in order of time
        last = event["ts"]
        assert (event["pid"], None) in named
        if event["ph"] == "C":
            assert event["args"]
            assert all(isinstance(value, int | float) and math.isfinite(value) for value in event["args"].values())
        else:
            assert (event["pid"], event["tid"]) in named
            assert event["dur"] >= 0
            stack = open_slices.setdefault((event["pid"], event["tid"]), [])
            while stack and stack[-1] <= event["ts"] + 1e-3:
                stack.pop()
            assert not stack or event["ts"] + event["dur"] <= stack[-1] + 1e-3  # inside what is open, to the nanosecond
            stack.append(event["ts"] + event["dur"])


def test_the_trace_is_valid_and_whole() -> None:
    run = tiny_run()
    found = events(run)
    check(found)
    slices = [event for event in found if event["ph"] == "X"]
    assert len([event for event in slices if event["cat"] == "step"]) == 4
    assert {event["name"] for event in slices if event["cat"] == "request"} == {f"request {i}" for i in range(5)}
    names = {event["args"]["name"] for event in found if event["name"] == "process_name"}
    assert names == {"replica 0", "replica 1", "not served"}
    step = next(event for event in slices if event["cat"] == "step")
    assert (step["name"], step["ts"], step["dur"], step["args"]["prefill_token"]) == ("prefill", 1e6, 1e6, 10)
    refused = next(event for event in slices if event["name"] == "request 3")
    assert (refused["ts"], refused["dur"], refused["args"]["reason"]) == (4e6, 0.0, "longer than the context")
    phases = [(event["name"], event["ts"] / 1e6, event["dur"] / 1e6) for event in slices if event["cat"] == "phase"]
    assert ("queued", 3.0, 1.0) in phases  # request 2 waits from 3 s to 4 s
    assert ("prefill", 4.0, 1.0) in phases
    assert ("decode", 5.0, 4.0) in phases
    counters = [event for event in found if event["ph"] == "C" and event["name"] == "KV blocks (%)"]
    assert [event["args"]["in use"] for event in counters if event["pid"] == 1] == [25.0, 50.0]  # 1 of 4, then 2


def test_the_file_is_json_that_carries_its_provenance() -> None:
    run = tiny_run()
    data = trace_bytes(events(run), run.about)
    assert data == trace_bytes(events(tiny_run()), run.about)
    whole = json.loads(data, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert set(whole) == {"displayTimeUnit", "otherData", "traceEvents"}
    assert whole["otherData"]["ridgeline"] == run.about
    check(whole["traceEvents"])


def test_the_longest_window_that_fits() -> None:
    run = tiny_run()
    assert fitting_stop_s(run) == math.inf
    # begins: request 0 and step at 1 s (4 + 3), request 1 and two steps at 2 s (4 + 3 + 3), request 2 at 3 s (4)
    assert fitting_stop_s(run, 17) == 3.0
    check(events(run, stop_s=fitting_stop_s(run, 17), max_event=17))


def test_windows_and_limits() -> None:
    run = tiny_run()
    some = events(run, start_s=4.5, stop_s=5.5)
    check(some)
    assert len([event for event in some if event.get("cat") == "step"]) == 2  # those that run at 4.5 s
    with pytest.raises(InputError, match="too many trace events"):
        events(run, max_event=10)
    with pytest.raises(InputError, match="empty window"):
        events(run, start_s=2.0, stop_s=2.0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10)), min_size=1, max_size=40))
def test_slots_never_overlap_and_are_as_few_as_can_be(rows: list[tuple[int, int]]) -> None:
    start = np.array([row[0] for row in rows], float)
    end = start + np.array([row[1] for row in rows])
    slot = slots(start, end)
    for one in set(slot.tolist()):
        own = sorted(zip(start[slot == one], end[slot == one], strict=True))
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(own))
    # an interval of no length is a point: it shares its slot with what ends there, not with what goes on
    peak = max(int(((start <= t) & (end > t)).sum()) + int(((start == t) & (end == t)).any()) for t in start)
    assert slot.max() + 1 <= peak
