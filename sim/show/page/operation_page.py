"""The page of an operation: latencies, load, engines that are up over time, what happened to them."""

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from sim.show.page.charts import Axis, Floats, lines, up_to
from sim.show.page.page import items, page, page_bytes, refuse_empty, section, table
from sim.show.page.run_page import NUM_BIN, distribution, held, mean_passed
from sim.show.report import LATENCIES, SHORT, load_words

if TYPE_CHECKING:
    from sim.cluster.simulate_mixed_operation import MixedOperatedRun
    from sim.cluster.simulate_operation import OperatedRun
    from sim.cluster.simulate_pools_operation import OperatedPoolsRun

    Done: TypeAlias = OperatedRun | OperatedPoolsRun | MixedOperatedRun

MAX_EVENT = 2000  # rows of the table
LONG_S = 7200.0  # beyond it hours are drawn
BEGINS, ENDS = ("up",), ("drain", "notice", "fail", "gone")  # of an engine that takes requests
SHARE = 99  # percentile that is drawn over time


class Clock(NamedTuple):
    """Times between which averages are drawn, in seconds; the axis, and its unit."""

    edges: Floats
    axis: Axis
    unit_s: float


def operation_page(done: "Done") -> str:
    """A finished operation as one HTML page. Raises `InputError` where no request was served."""
    requests = done.requests
    if not requests["served"].any():
        refuse_empty()
    edges = np.linspace(0.0, _last_s(requests, done.events), NUM_BIN + 1)
    unit_s, unit = (3600.0, "h") if edges[-1] > LONG_S else (1.0, "s")
    clock = Clock(edges, Axis(f"time ({unit})", float(edges[-1]) / unit_s), unit_s)
    words = [f"{int(requests['served'].sum()):,} of {len(requests):,} requests served, {len(done.events):,} events"]
    if not done.complete:
        words += ["This run was stopped: what is shown had happened until then."]
    events = done.events if len(done.events) <= MAX_EVENT else done.events.iloc[:MAX_EVENT]
    said = f"The first {MAX_EVENT:,} of {len(done.events):,} events." if len(events) < len(done.events) else ""
    parts = [
        items([load_words({"load_state": done.load_state, "queue_drift": done.queue_drift})]),
        section("Latency of requests", *_latencies(requests)),
        section("Over time", *_load(requests, clock), _ttft(requests, clock), _engines(done, clock),
                said=f"Means over {NUM_BIN} equal parts of the time."),
        "<h2>Latencies</h2>", table(_columns(done.summary)),
        "<h2>Figures</h2>", table(_columns(done.figures)),
        section("Events", said=said) if said else "<h2>Events</h2>", table(_columns(events)),
    ]  # fmt: skip
    return page("In operation", parts, words)


def operation_page_bytes(done: "Done") -> bytes:
    """`operation_page` as a file holds it."""
    return page_bytes(operation_page(done))


def _columns(frame: pd.DataFrame) -> dict[str, list[Any]]:
    return {str(name): frame[name].tolist() for name in frame.columns}


def _last_s(requests: pd.DataFrame, events: pd.DataFrame) -> float:
    ended = (requests["arrival_s"] + requests["e2e_s"].fillna(0.0)).max()
    return max(float(ended), float(events["time_s"].max()) if len(events) else 0.0, 1e-9)


def _latencies(requests: pd.DataFrame) -> list[str]:
    """A cumulative distribution of each."""
    charts = []
    for name, column in (("ttft", "ttft_s"), ("tpot", "tpot_s"), ("e2el", "e2e_s")):
        values = np.sort(requests[column].dropna().to_numpy())
        charts += [distribution(LATENCIES[name], SHORT[name], values)] if len(values) else []
    return charts


def _load(requests: pd.DataFrame, clock: Clock) -> list[str]:
    """Arrivals a second, and requests that wait for their first token or decode."""
    edges, time = clock.edges, clock.axis
    came = np.histogram(requests["arrival_s"], edges)[0] / np.diff(edges)
    arrival, served = requests["arrival_s"].to_numpy(), requests[requests["served"]]
    first = (served["arrival_s"] + served["ttft_s"]).to_numpy()
    end = (served["arrival_s"] + served["e2e_s"]).to_numpy()
    there = arrival[requests["served"].to_numpy()]
    waiting = np.maximum(mean_passed(there, edges) - mean_passed(first, edges), 0.0)
    decoding = np.maximum(mean_passed(first, edges) - mean_passed(end, edges), 0.0)
    at = edges / clock.unit_s
    return [
        lines("Arrivals", time, up_to("requests/s", came), {"": held(at, came)}, step=True),
        lines("Requests in the system", time, up_to("requests", waiting, decoding),
              {"decode": held(at, decoding), "no token yet": held(at, waiting)}, step=True),
    ]  # fmt: skip


def _ttft(requests: pd.DataFrame, clock: Clock) -> str:
    """Of the requests that came in each part of the time: the median TTFT and a high percentile."""
    served = requests[requests["served"]]
    part = np.clip(np.searchsorted(clock.edges, served["arrival_s"], side="right") - 1, 0, NUM_BIN - 1)
    grouped = served["ttft_s"].groupby(part)
    found = {}
    for name, share in (("P50", 0.5), (f"P{SHARE}", SHARE / 100)):
        values = grouped.quantile(share)
        found[name] = clock.edges[values.index.to_numpy()] / clock.unit_s, values.to_numpy()
    return lines(
        "TTFT of those that came", clock.axis, up_to("TTFT (s)", *(y for _, y in found.values())), found, step=True
    )


def _engines(done: "Done", clock: Clock) -> str:
    """Engines that take requests, by pool."""
    last_s = float(clock.edges[-1])
    series = {name: num_up(events, paid_s, last_s) for name, (events, paid_s) in done.engines.items()}
    drawn = {name: (at / clock.unit_s, num) for name, (at, num) in series.items()}
    high = up_to("engines", *(num for _, num in series.values()))
    return lines("Engines that take requests", clock.axis, high, drawn, step=True)


def num_up(events: pd.DataFrame, paid_s: Floats, last_s: float) -> tuple[Floats, Floats]:
    """When the number of engines that take requests changed, and to what; from time 0 to `last_s`."""
    from sim.cluster.simulate_operation import up_at_first

    rows = list(zip(events["time_s"].tolist(), events["engine"].tolist(), events["what"].tolist(), strict=True))
    up = up_at_first(rows, paid_s)
    times, nums = [0.0], [float(len(up))]
    for time_s, engine, what in rows:
        if what in (*BEGINS, *ENDS):
            up = up | {engine} if what in BEGINS else up - {engine}
            times.append(time_s)
            nums.append(float(len(up)))
    return np.array([*times, last_s]), np.array([*nums, nums[-1]])
