"""Pictures of a run: latency distributions, load over time, a roofline. Each returns a matplotlib figure."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from sim.record.metrics import token_rate
from sim.record.records import Run
from sim.show.plot_roofline import ROOF_COLUMNS, roofline
from sim.show.plot_style import BLUE, GREEN, ORANGE, PALETTE, PURPLE, SKY, new_figure, styled, suptitle

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ROOF_COLUMNS", "latency_cdf", "load_over_time", "roofline"]

Floats = npt.NDArray[np.float64]


@styled
def latency_cdf(runs: Run | Mapping[str, Run], title: str = "Latency of requests") -> "Figure":
    """Cumulative distributions of TTFT, TPOT and end-to-end latency, a curve a run; medians and P99 are marked."""
    named = {"": runs} if isinstance(runs, Run) else dict(runs)
    figure, axes = new_figure(1, 3, (10.5, 3.6), sharey=True)
    panels = (("ttft_s", "Time to first token"), ("tpot_s", "Time per output token"), ("e2e_s", "End-to-end latency"))
    for axis, (column, name) in zip(axes, panels, strict=True):
        values = {label: np.sort(run.requests[column].dropna().to_numpy(np.float64)) for label, run in named.items()}
        largest = max((float(item[-1]) for item in values.values() if len(item)), default=1.0)
        scale, unit = (1e3, "ms") if largest < 2.0 else (1.0, "s")
        for (label, item), colour in zip(values.items(), PALETTE * len(values), strict=False):
            if not len(item):
                continue
            at = [float(np.percentile(item, percent)) * scale for percent in (50, 99)]
            said = f"P50 {_three_digits(at[0])}, P99 {_three_digits(at[1])} {unit}"
            shown = f"{label}: {said}" if label else said
            drawn = np.unique(np.linspace(0, len(item) - 1, 2000).astype(np.int64))  # no more than can be seen
            axis.plot(item[drawn] * scale, (drawn + 1) / len(item) * 100, color=colour, label=shown)
            axis.plot(at, [50, 99], linestyle="", marker="o", markersize=4, color=colour, clip_on=False, zorder=4)
        smallest = min((float(item[0]) for item in values.values() if len(item)), default=0.0)
        axis.set_xlim(left=0 if smallest < 0.5 * largest else None)
        axis.set(title=name, xlabel=f"{name.lower()} ({unit})", ylim=(0, 101))
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), fontsize=8)
    axes[0].set_ylabel("requests at or below (%)")
    suptitle(figure, title)
    return figure


def _three_digits(value: float) -> str:
    """Three digits, without an exponent.

    >>> _three_digits(1234.5), _three_digits(0.01234)
    ('1,234', '0.0123')
    """
    if value == 0:
        return "0"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


@styled
def load_over_time(run: Run, title: str = "Load over time") -> "Figure":
    """Requests in the system, output tokens a second and, where steps were recorded, KV use over time."""
    done = run.requests[run.requests["first_token_s"].notna()]
    steps = run.steps if run.steps is not None and len(run.steps) else None
    figure, axes = new_figure(3 if steps is not None else 2, 1, (9.0, 6.0 if steps is not None else 4.2), sharex=True)
    end = float(np.nanmax([run.requests["arrival_s"].max(), done["last_token_s"].max() if len(done) else 0.0]))
    edges = np.linspace(0.0, end if end > 0 else 1.0, 241)
    width = edges[1] - edges[0]
    _requests_panel(axes[0], run.requests, edges)
    rate = token_rate(done, edges) / width if len(done) else np.zeros(len(edges) - 1)
    axes[1].fill_between(edges[:-1], rate, step="post", color=BLUE, alpha=0.25, linewidth=0)
    axes[1].step(edges[:-1], rate, where="post", color=BLUE, linewidth=1.2)
    axes[1].set(title="Throughput", ylabel="output tokens / s")
    for axis in axes[:2]:
        axis.set_ylim(bottom=0)
    if steps is not None:
        _memory_panel(axes[2], steps, edges, float(run.totals.get("kv_block", math.nan)))
    for axis in axes:
        axis.set_xlim(0, edges[-1])
    axes[-1].set_xlabel("time (s)")
    suptitle(figure, title)
    return figure


def running_and_waiting(requests: pd.DataFrame, times_s: Floats) -> tuple[Floats, Floats]:
    """Requests running (scheduled, not finished) and waiting at `times_s`; refused ones never count."""
    served = requests[requests["status"] != "refused"]

    def before(column: str) -> Floats:
        return np.searchsorted(np.sort(served[column].dropna().to_numpy()), times_s, side="right").astype(np.float64)

    return before("scheduled_s") - before("finish_s"), before("arrival_s") - before("scheduled_s")


def _requests_panel(axis: "Axes", requests: pd.DataFrame, edges: Floats) -> None:
    """Requests running and waiting, stacked."""

    running, waiting = running_and_waiting(requests, edges)
    axis.stackplot(edges, running, waiting, colors=(GREEN, ORANGE), alpha=0.75, linewidth=0, step="post",
                   labels=("running", "waiting"))  # fmt: skip
    axis.set(title="Requests in the system", ylabel="requests")
    axis.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.2)


def _memory_panel(axis: "Axes", steps: pd.DataFrame, edges: Floats, num_block: float) -> None:
    """Share of KV blocks held by sequences and kept for the cache, averaged over replicas."""
    whole = math.isfinite(num_block) and num_block > 0
    scale = 100.0 / num_block if whole else 1.0
    used, cached = (_sampled(steps, name, edges) * scale for name in ("used_block", "cached_block"))
    axis.stackplot(edges, used, cached, colors=(PURPLE, SKY), alpha=0.7, linewidth=0, step="post",
                   labels=("held by sequences", "kept for the prefix cache"))  # fmt: skip
    axis.set(title="KV memory", ylabel="KV blocks (%)" if whole else "KV blocks")
    peak = float((used + cached).max())
    axis.set_ylim(0, 105 if whole and peak > 40 else max(1.3 * peak, 1.0))
    axis.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.2)


def _sampled(steps: pd.DataFrame, name: str, edges: Floats) -> Floats:
    """A step column at the edges, averaged over replicas: what the last step before said; nothing used at rest."""
    found = []
    for _, own in steps.groupby("replica"):
        own = own.sort_values("start_s")
        last = np.searchsorted(own["start_s"].to_numpy(), edges, side="right") - 1
        values = own[name].to_numpy(np.float64)
        at_rest = (last < 0) | ((edges >= own["end_s"].to_numpy()[last]) if name == "used_block" else False)
        found.append(np.where(at_rest, 0.0, values[np.maximum(last, 0)]))
    return np.asarray(np.mean(found, axis=0))
