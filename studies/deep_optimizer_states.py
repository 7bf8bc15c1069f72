"""Deep Optimizer States: asynchronous flush and interleaved updates against a blocking baseline."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sim.show.plot_style import FAINT, PALETTE, new_figure, styled, suptitle
from sim.training.offload import Host, OffloadRun, offload_iteration
from sim.training.offload_measured import HOSTS
from studies._table import row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Deep Optimizer States (Maurya et al. 2024): iterations up to 2.5 times faster, and cases where it is slower"
SHAPES = {"7B": (32, 4096), "13B": (40, 5120), "70B": (80, 8192)}
# measured: forward, backward, update in ms, without and with (80 % of the states on the host, four H100)
MEASURED = {"13B": ((184, 2673, 1302), (434, 611, 723)), "7B": ((151, 1393, 716), (247, 352, 414))}
# measured: what interleaving alone brings on 16 A100 in four nodes (the flush is asynchronous in both)
ACROSS = {"70B": 0.93, "7B": 0.98}


def _parts(host: Host, model: str, dp: int, micro_batch: int, share: float, gap: int, flush: bool) -> tuple[float, ...]:
    layers, hidden = SHAPES[model]
    values = (12.0 * layers * hidden**2, layers, hidden, 2048, 1, dp, micro_batch, 1, share, gap, flush)
    run = OffloadRun(*(np.array([float(value)]) for value in values))
    return tuple(float(part[0]) for part in offload_iteration(run, host))


def run() -> pd.DataFrame:
    """Speedup with 80 % of the states on the host (four H100), and of interleaving alone on 16 A100."""
    rows = []
    host = HOSTS["twinflow"]
    for name, (slow, fast) in MEASURED.items():
        base = sum(_parts(host, name, 4, 1, 0.8, 0, False))
        ours = sum(_parts(host, name, 4, 1, 0.8, 2, True))
        flush = sum(_parts(host, name, 4, 1, 0.8, 0, True))
        setup = f"{name}, dp 4, 80 % on the host"
        paper = round(sum(slow) / sum(fast), 2)
        rows.append(row(host.name, "speedup", setup, paper, base / ours, "every second group on the GPU", 0.1))
        # 13B: 4159 to 2119 ms by the flush alone of 4159 to 1767 in all
        share = (base - flush) / (base - ours)
        rows.append(row(host.name, "share of the gain from the flush", setup, (0.80, 0.86), share, "", 0.1))
    host = HOSTS[""]
    for name, paper in ACROSS.items():
        base, ours = (sum(_parts(host, name, 16, 4, 1.0, gap, True)) for gap in (0, 5))
        cause = (
            "passes that gather weights across nodes slow down by 4 %, as measured for 7B on two and four nodes; 70B's "
            "slow down by 20 % forward and 11 % backward, once measured, which nothing here explains"
        )
        rows.append(row(host.name, "speedup of interleaving alone", f"{name}, dp 16", paper, base / ours, cause, 0.05))
    return pd.DataFrame(rows)


@styled
def plot(table: pd.DataFrame) -> "Figure":
    """Forward, backward and update of the blocking baseline, with the asynchronous flush, and interleaved; measured
    totals beside."""
    figure, axes = new_figure(1, 3, (12, 3.8))
    cases = (("blocking", 0, False), ("flush", 0, True), ("flush,\ninterleaved", 2, True))
    for axis, name in zip(axes, MEASURED, strict=False):
        for place, (_, gap, flush) in enumerate(cases):
            base = 0.0
            parts = _parts(HOSTS["twinflow"], name, 4, 1, 0.8, gap, flush)
            for part, value, colour in zip(("forward", "backward", "update"), parts, PALETTE, strict=False):
                axis.bar(place, value * 1e3, 0.6, bottom=base, color=colour, label=part if place == 0 else None)
                base += value * 1e3
        for place, ms in ((0, sum(MEASURED[name][0])), (2, sum(MEASURED[name][1]))):
            axis.plot([place - 0.35, place + 0.35], [ms, ms], color="black", lw=2, label=None if place else "measured")
        axis.set_xticks(range(3), [label for label, _, _ in cases])
        axis.set(title=f"{name}, four H100, 80 % on the host", ylabel="ms an iteration")
    axes[0].legend(fontsize=7)
    across = table[table["claim"] == "speedup of interleaving alone"]
    spot = np.arange(len(across))
    axes[2].bar(spot - 0.2, across["paper"].astype(float), 0.4, color=PALETTE[1], label="measured")
    axes[2].bar(spot + 0.2, across["simulated"], 0.4, color=PALETTE[0], label="simulated")
    axes[2].axhline(1, color=FAINT, ls="--", lw=1)
    axes[2].set_xticks(spot, across["setup"])
    axes[2].set(title="interleaving alone, four nodes", ylabel="speedup", ylim=(0, 1.2))
    axes[2].legend(fontsize=7)
    suptitle(figure, "Deep Optimizer States")
    return figure
