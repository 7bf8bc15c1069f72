"""The page of a run: latencies, load over time, where time and joules went, the roofline, requests on a timeline."""

from typing import TYPE_CHECKING, Any

import numpy as np

from sim.record.columns import Columns
from sim.record.metrics import METRICS, token_rate
from sim.record.records import Run
from sim.show.page.charts import MAX_POINT, Axis, Floats, bars, lines, spans, up_to
from sim.show.page.page import items, page, page_bytes, refuse_empty, section, table
from sim.show.report import LATENCIES, PART_WORDS, SHORT, bound_words, short

if TYPE_CHECKING:
    from sim.run.simulate import Simulation

NUM_BIN = 120  # of time
MAX_REPLICA, MAX_OPERATOR, MAX_REQUEST = 7, 12, 200  # drawn
DRAWN = {"ttft": "ttft_s", "tpot": "tpot_s", "e2el": "e2e_s"}
SPANS = ("queued", "prefill", "decode")


def run_page(done: "Simulation") -> str:
    """A finished simulation as one HTML page; steps are drawn where they were recorded (`record_steps=True`).

    Raises `InputError` where no request was served.
    """
    if not done.served:
        refuse_empty()
    from sim.show.page.roofline_page import roofline_charts

    return records_page(done.setup.title, done.run, done.metrics, roofline_charts(done))


def run_page_bytes(done: "Simulation") -> bytes:
    """`run_page` as a file holds it."""
    return page_bytes(run_page(done))


def records_page(title: str, run: Run, metrics: dict[str, Any], roofline: str = "") -> str:
    """The page of records and metrics; `roofline` is a section of it."""
    about = run.about
    said = [short(run, metrics), ", ".join(f"{key} {about[key]}" for key in ("calibration", "config_hash", "seed")
                                          if key in about)]  # fmt: skip
    if about.get("complete") is False:
        said += ["This run was stopped: what is shown had happened until then."]
    numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
    parts = [
        items([*bound_words(run, metrics), *(f"Note: {note}." for note in about.get("note", ()))]),
        section("Latency of requests", *latency_charts(run.request)),
        section("Load over time", *load_charts(run), said=f"Means over {NUM_BIN} equal parts of the time."),
        section("Replicas over time", *replica_charts(run), said=_replicas_said(run)),
        section("Where time and joules went", *operator_charts(run, metrics)),
        roofline,
        section("Requests on a timeline", timeline(run.request)),
        "<h2>Metrics</h2>",
        table(
            {"metric": list(numbers), "value": list(numbers.values()), "meaning": [METRICS.get(n, "") for n in numbers]}
        ),
    ]
    if run.operator is not None:
        parts += ["<h2>Operators</h2>", table(columns_of(run.operator))]
    config = about.get("config", {})
    parts += ["<h2>Scenario</h2>", table({"field": list(config), "value": [str(v) for v in config.values()]})]
    return page(title, parts, said)


def columns_of(found: Columns) -> dict[str, list[Any]]:
    """Columns as a table wants them."""
    return {n: found[n].tolist() if found[n].dtype.kind in "if" else found.words(n) for n in found.names}


def latency_charts(request: Columns) -> list[str]:
    """A cumulative distribution of each latency of those that finished."""
    done = request.rows(request.equal("status", "finished"))
    charts = []
    for name, column in DRAWN.items():
        values = np.sort(done[column][~np.isnan(done[column])])
        if not len(values):
            continue
        charts.append(distribution(LATENCIES[name], SHORT[name], values))
    return charts


def distribution(title: str, short_name: str, values: Floats) -> str:
    """Sorted latencies in seconds as a cumulative distribution."""
    at = np.unique(np.linspace(0, len(values) - 1, MAX_POINT).astype(np.int64))
    p50, p99 = (float(v) * 1e3 for v in np.percentile(values, (50, 99)))
    return lines(
        title, up_to(f"{short_name} (ms)", values * 1e3), Axis("requests at or below (%)", 100.0),
        {"": (np.r_[values[0], values[at]] * 1e3, np.r_[0.0, (at + 1) / len(values) * 100])}, step=True,
        said=f"P50 {p50:.4g} ms, P99 {p99:.4g} ms, {len(values):,} requests",
    )  # fmt: skip


def edges_of(request: Columns) -> Floats:
    """Times between which averages are drawn: from zero to the last that happened."""
    last = max(float(np.nanmax(request[n], initial=0.0)) for n in ("arrival_s", "finish_s", "last_token_s"))
    return np.linspace(0.0, last if last > 0 else 1.0, NUM_BIN + 1)


def load_charts(run: Run) -> list[str]:
    """Output tokens a second, and requests that run and wait."""
    edges, request = edges_of(run.request), run.request
    some = request.rows(~np.isnan(request["first_token_s"]))
    rate = token_rate(some, edges) / (edges[1] - edges[0])
    kept = request.rows(~request.equal("status", "refused"))

    arrived, begun, ended = (mean_passed(kept[n], edges) for n in ("arrival_s", "scheduled_s", "finish_s"))
    running, waiting = np.maximum(begun - ended, 0.0), np.maximum(arrived - begun, 0.0)
    time = Axis("time (s)", float(edges[-1]))
    return [
        lines("Throughput", time, up_to("output tokens/s", rate), {"": held(edges, rate)}, step=True),
        lines("Requests in the system", time, up_to("requests", running, waiting),
              {"running": held(edges, running), "waiting": held(edges, waiting)}, step=True),
    ]  # fmt: skip


def mean_in_steps(step: Columns, value: Floats, edges: Floats) -> Floats:
    """A step's value, averaged over each bin: it holds from the step's start until the next one's, or until no step
    runs, where it is zero. `step` is in order of `start_s`; of 1.0 it is the share of time in steps, lanes once."""
    start = step["start_s"]
    end = np.minimum(np.maximum.accumulate(step["end_s"]), np.r_[start[1:], np.inf])
    clock = np.stack([start, end], axis=1).ravel()
    grown = np.cumsum(value * (end - start))
    total = np.stack([np.r_[0.0, grown[:-1]], grown], axis=1).ravel()
    return np.diff(np.interp(edges, clock, total)) / np.diff(edges)


def mean_passed(clock_s: Floats, edges: Floats) -> Floats:
    """How many of `clock_s` have passed, averaged over each bin; NaN never does."""
    clock = np.sort(clock_s[~np.isnan(clock_s)])
    num = np.searchsorted(clock, edges, side="right")
    area = num * edges - np.r_[0.0, np.cumsum(clock)][num]
    return np.diff(area) / np.diff(edges)


def replica_charts(run: Run) -> list[str]:
    """How busy the first replicas are, and the KV blocks that their sequences hold."""
    if run.step is None or not len(run.step):
        return []
    return step_charts(run.step, float(edges_of(run.request)[-1]), float(run.totals["kv_block"]), "replica")


def step_charts(step: Columns, last_s: float, num_block: float, noun: str) -> list[str]:
    """Steps of engines (each is called `noun` and has `num_block` blocks) from zero to `last_s` or their end."""
    edges = np.linspace(0.0, max(last_s, float(step["end_s"].max(initial=0.0))), NUM_BIN + 1)
    busy: dict[str, tuple[Floats, Floats]] = {}
    used: dict[str, tuple[Floats, Floats]] = {}
    for replica in sorted(set(step["replica"].tolist()))[:MAX_REPLICA]:
        own = step.rows(step["replica"] == replica)
        own = own.rows(np.argsort(own["start_s"], kind="stable"))
        share = mean_in_steps(own, np.ones(len(own)), edges) * 100
        blocks = mean_in_steps(own, own["used_block"] / num_block, edges) * 100
        busy[f"{noun} {replica}"], used[f"{noun} {replica}"] = held(edges, share), held(edges, blocks)
    time = Axis("time (s)", float(edges[-1]))
    return [
        lines("Utilisation", time, Axis("time in steps (%)", 105.0), busy, step=True),
        lines("KV memory", time, up_to("KV blocks held (%)", *(y for _, y in used.values())), used, step=True,
              said=f"of {num_block:,.0f} blocks each"),
    ]  # fmt: skip


def held(edges: Floats, mean: Floats) -> tuple[Floats, Floats]:
    """Means of bins as a step line."""
    return edges, np.r_[mean, mean[-1]]


def _replicas(run: Run) -> list[int]:
    return [] if run.step is None else sorted(set(run.step["replica"].tolist()))


def _replicas_said(run: Run) -> str:
    if run.step is None:
        return "Steps were not recorded (record_steps=True)."
    num = len(_replicas(run))
    return f"The first {MAX_REPLICA} of {num:,} replicas are drawn." if num > MAX_REPLICA else ""


def operator_charts(run: Run, metrics: dict[str, Any]) -> list[str]:
    """Device time and joules by operator and bound, and the joules of each part of the machine."""
    found = run.operator
    charts = []
    if found is not None and len(found):
        for name, title, unit in (("time_s", "Device time", "s"), ("energy_j", "Energy of operators", "J")):
            charts.append(bars(f"{title} by operator and bound", unit, _by_operator(found, name),
                               said=f"{float(found[name].sum()):.6g} {unit} in all"))  # fmt: skip
    parts = {word: float(metrics.get(f"energy_{part}_j") or 0.0) for part, word in PART_WORDS.items()}
    rows = {word: {"": value} for word, value in parts.items() if value > 0}
    if rows:
        charts.append(bars("Energy by part of the machine", "J", rows, said=f"{metrics['energy_j']:.6g} J in all"))
    return charts


def _by_operator(found: Columns, name: str) -> dict[str, dict[str, float]]:
    """The operators with the most of it, the largest first, by bound; the others together."""
    total: dict[str, dict[str, float]] = {}
    for operator, bound, value in zip(found.words("operator"), found.words("bound"), found[name].tolist(), strict=True):
        own = total.setdefault(operator, {})
        own[bound] = own.get(bound, 0.0) + value
    order = sorted(total, key=lambda word: (-sum(total[word].values()), word))
    shown = {word: total[word] for word in order[:MAX_OPERATOR]}
    rest: dict[str, float] = {}
    for word in order[MAX_OPERATOR:]:
        for bound, value in total[word].items():
            rest[bound] = rest.get(bound, 0.0) + value
    return shown | ({f"{len(order) - MAX_OPERATOR} others": rest} if rest else {})


def timeline(request: Columns) -> str:
    """Requests from their arrival to their last token, the first `MAX_REQUEST` that got one."""
    some = request.rows(~np.isnan(request["last_token_s"]))
    clocks = [some[n][:MAX_REQUEST] for n in ("arrival_s", "scheduled_s", "first_token_s", "last_token_s")]
    rows = [
        (f"request {number}", times)
        for number, *times in zip(some["request"].tolist(), *(clock.tolist() for clock in clocks), strict=False)
    ]
    said = f"the first {len(rows):,} of the {len(some):,} requests that got a token" if len(rows) < len(some) else ""
    return spans("Requests, in order of arrival", "s", rows, SPANS, said=said)
