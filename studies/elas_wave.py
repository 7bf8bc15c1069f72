"""ElasWave: what a step takes after failures, against dropping replicas and rerouting microbatches."""

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sim.faults.elastic import split_layers
from sim.show.plot_style import FAINT, PALETTE, new_figure, styled, suptitle
from studies._fault_policies import POLICIES, Cluster, survive
from studies._migration import Worker, flows, migration_s
from studies._table import row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "ElasWave (Kang et al. 2025): 1.35 times ReCycle's and 1.60 times TorchFT's throughput after failures on 96 NPUs"
)
NAMES = {"drop_replica": "TorchFT", "reroute": "ReCycle", "rebalance": "ElasWave"}
NUM_LAYER, NUM_MICROBATCH = 48, 96  # a 34B Llama; microbatches of the whole batch
LAYOUTS = ((3, 8, 4), (4, 6, 4), (6, 4, 4))  # replicas, stages, tensor parallel ranks: 96 NPUs each
FAILURES: dict[str, tuple[Worker, ...]] = {
    "one worker": ((0, 1),),
    "two workers, two stages": ((0, 1), (1, 2)),
    "two workers, one stage": ((0, 1), (1, 1)),
}
MAX_CLOCK = 1.1  # our choice: the published range of frequencies is not known
NOTE = (
    "layouts, failures, 96 microbatches and a clock up to 1.1 are ours (unstated); forward, input and weight gradient "
    "take as long as one another, no hop; a lost NPU is its tensor-parallel group lost"
)


@functools.cache
def case(layout: tuple[int, int, int], failure: str) -> dict[str, Any]:
    """Throughput of every policy relative to the healthy cluster, and what migrates."""
    dp, pp, _ = layout
    cluster, failed = Cluster(dp, pp, NUM_MICROBATCH // dp, NUM_LAYER), FAILURES[failure]
    found = {name: survive(cluster, failed, name, max_clock=MAX_CLOCK) for name in POLICIES}
    before, after = split_layers(NUM_LAYER, [1.0] * pp), found["rebalance"].layer
    byte = [sum(flows(before, after, dp, failed, interleaved=cut).values()) for cut in (True, False)]
    time = [migration_s(before, after, dp, failed, 1.0, 1.0, interleaved=cut) for cut in (True, False)]
    return {
        "layout": f"dp {dp}, pp {pp}", "failure": failure,
        **{NAMES[name]: one.throughput for name, one in found.items()},
        "without clocks": survive(cluster, failed, "rebalance", max_clock=1.0).throughput,
        "byte_saved": 1 - byte[0] / byte[1], "time_saved": 1 - time[0] / time[1],
    }  # fmt: skip


def run(
    layouts: tuple[tuple[int, int, int], ...] = LAYOUTS, failures: tuple[str, ...] = tuple(FAILURES)
) -> pd.DataFrame:
    """Throughput ratios of every case and their geometric means; what clocks add; bytes that interleaved cuts save."""
    cases = pd.DataFrame([case(layout, failure) for layout in layouts for failure in failures])
    rows: list[dict[str, Any]] = []
    for name, paper in (("ReCycle", 1.35), ("TorchFT", 1.60)):
        ratio = cases["ElasWave"] / cases[name]
        mean = float(np.exp(np.log(ratio).mean()))
        spread = f"mean of {len(cases)} cases from {ratio.min():.2f} to {ratio.max():.2f}; {NOTE}"
        rows.append(
            row("ElasWave", f"throughput over {name}, ratio", "every layout and failure", paper, mean, spread, 0.15)
        )
        for one, value in zip(cases.to_dict("records"), ratio, strict=True):
            setup = f"{one['layout']}, {one['failure']}"
            rows.append(row("ElasWave", f"throughput over {name}, ratio", setup, (1.0, paper), float(value), NOTE, 0.1))
    clocks = float((cases["ElasWave"] / cases["without clocks"]).min())
    rows.append(row("ElasWave", "higher clocks over none, least", "every layout and failure", (1.0, MAX_CLOCK), clocks,
                    "what whole layers cannot balance, clocks do", 0.0))  # fmt: skip
    saved = float(cases["byte_saved"].mean())
    cause = (
        f"published as time to recover, here bytes sent; of the busiest worker {cases['time_saved'].mean():.2f} "
        "as who keeps a lost one's snapshot sends the same either way"
    )
    rows.append(
        row(
            "ElasWave",
            "migration saved by interleaved cuts, share",
            "every layout and failure",
            0.51,
            saved,
            cause,
            0.15,
        )
    )
    return pd.DataFrame(rows)


@styled
def plot(table: pd.DataFrame) -> "Figure":
    """Throughput of the three answers for every layout, a panel a failure."""
    figure, axes = new_figure(1, len(FAILURES), (12, 3.8), sharey=True)
    for axis, failure in zip(axes, FAILURES, strict=True):
        cases = pd.DataFrame([case(layout, failure) for layout in LAYOUTS])
        for at, (name, colour) in enumerate(zip(("TorchFT", "ReCycle", "ElasWave"), PALETTE, strict=False)):
            place = np.arange(len(cases)) + 0.27 * (at - 1)
            axis.bar(place, cases[name], 0.27, color=colour, label=name)
            for x, value in zip(place, cases[name], strict=True):
                axis.annotate(f"{value:.2f}", (x, value), (0, 2), textcoords="offset points", ha="center", fontsize=7)
        axis.axhline(1, color=FAINT, ls="--", lw=1)
        axis.set_xticks(range(len(cases)), cases["layout"])
        axis.set(title=failure, ylim=(0, 1.25))
        axis.grid(axis="x", visible=False)
    axes[0].set_ylabel("throughput over the healthy cluster's")
    axes[0].legend(ncols=3, fontsize=7, loc="upper left")
    suptitle(figure, "ElasWave: 96 NPUs after failures")
    return figure
