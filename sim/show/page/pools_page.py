"""The page of a run on two pools: latencies, load, each pool's engines over time, transfers, requests on a timeline."""

from typing import TYPE_CHECKING

import numpy as np

from sim.record.columns import Columns
from sim.record.pool_runs import PoolRuns, pool_runs
from sim.show.page.charts import Axis, lines, spans, up_to
from sim.show.page.page import items, page, page_bytes, refuse_empty, section, table
from sim.show.page.run_page import (
    MAX_REPLICA,
    MAX_REQUEST,
    distribution,
    edges_of,
    held,
    latency_charts,
    load_charts,
    mean_passed,
    step_charts,
    timeline,
)
from sim.show.report import load_words

if TYPE_CHECKING:
    import pandas as pd

    from sim.cluster.simulate import PooledRun

SPANS = ("queued", "prefill", "KV on its way", "decode")


def pools_page(done: "PooledRun") -> str:
    """A finished run on two pools as one HTML page; engines are drawn over time where steps were recorded.

    Raises `InputError` where no request was served.
    """
    if not done.requests["served"].any():
        refuse_empty()
    runs = pool_runs(done.result, done.load)
    words = [] if done.encoded is None else [
        f"{done.encoded.num_batch:,} requests with images, encoded in a pool of their own: queued includes it"
    ]  # fmt: skip
    words += [f"{int(done.requests['served'].sum()):,} of {len(done.requests):,} requests served; "
             f"{done.result.moved_byte / 1e9:,.4g} GB of KV handed over"]  # fmt: skip
    if not done.result.complete:
        words += ["This run was stopped: what is shown had happened until then."]
    parts = [
        items([load_words({"load_state": done.load_state, "queue_drift": done.queue_drift})]),
        section("Latency of requests", *latency_charts(runs.whole.request), _transfer_time(runs.transfer)),
        section("Load over time", *load_charts(runs.whole), _on_their_way(runs) if len(runs.transfer) else ""),
        *(_engines(runs, name) for name in runs.num_engine),
        section("Requests on a timeline", _timeline(runs) or timeline(runs.whole.request)),
        "<h2>Latencies</h2>",
        table(_columns(done.summary)),
        "<h2>Pools</h2>",
        table(_columns(done.pools)),
        "<h2>Scenario</h2>",
        table(_columns(done.scenarios)),
    ]
    return page(done.title, parts, words)


def pools_page_bytes(done: "PooledRun") -> bytes:
    """`pools_page` as a file holds it."""
    return page_bytes(pools_page(done))


def _columns(frame: "pd.DataFrame") -> dict[str, list[object]]:
    return {str(name): frame[name].tolist() for name in frame.columns}


def _transfer_time(transfer: Columns) -> str:
    """How long KV is on its way; nothing where nothing was sent."""
    values = np.sort(transfer["end_s"] - transfer["begin_s"])
    return distribution("Transfer of KV", "transfer", values) if len(values) else ""


def _on_their_way(runs: PoolRuns) -> str:
    """Transfers at once, averaged over each part of the time."""
    edges, transfer = edges_of(runs.whole.request), runs.transfer
    on_way = np.maximum(mean_passed(transfer["begin_s"], edges) - mean_passed(transfer["end_s"], edges), 0.0)
    time = Axis("time (s)", float(edges[-1]))
    return lines("KV on its way", time, up_to("transfers at once", on_way), {"": held(edges, on_way)}, step=True)


def _engines(runs: PoolRuns, name: str) -> str:
    """How busy the engines of a pool are, and the KV blocks that their sequences hold."""
    if name not in runs.step:
        return section(_engines_word(name), said="Steps were not recorded (record_steps=True).")
    num = runs.num_engine[name]
    said = f"The first {MAX_REPLICA} of {num:,} engines are drawn." if num > MAX_REPLICA else ""
    charts = step_charts(runs.step[name], float(edges_of(runs.whole.request)[-1]), runs.num_block[name], "engine")
    return section(_engines_word(name), *charts, said=said)


def _engines_word(pool: str) -> str:
    return "Engines" if pool == "mixed" else f"Engines that {pool}"


def _timeline(runs: PoolRuns) -> str:
    """Requests from their arrival to their last token, the first that were handed over."""
    request, some = runs.whole.request, runs.transfer.rows(slice(0, MAX_REQUEST))
    at = some["request"]
    clocks = [request["arrival_s"][at], request["scheduled_s"][at], some["begin_s"], some["end_s"],
              request["last_token_s"][at]]  # fmt: skip
    rows = [
        (f"request {number}", [time for time in times if not np.isnan(time)])
        for number, *times in zip(at.tolist(), *(clock.tolist() for clock in clocks), strict=True)
    ]
    num = len(runs.transfer)
    said = f"the first {len(rows):,} of the {num:,} requests that were handed over" if len(rows) < num else ""
    return spans("Requests, in order of their hand-over", "s", rows, SPANS, said=said) if rows else ""
