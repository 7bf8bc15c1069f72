"""2BP: how much of 1.70x on four devices is scheduling."""

from typing import TYPE_CHECKING

import pandas as pd

from sim.schedule import run_schedule
from studies._table import bars, row
from workloads.schedules import load

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "2BP (Rae et al. 2024): 1.70 times the throughput of 1F1B with m = p on four devices"


def run(stages: int = 4) -> pd.DataFrame:
    """1F1B (m = p) against its 2BP, against ZB-H1 of the same memory, and against no bubble at all, for W = F and for
    weight gradients that take longer."""
    rows = []
    for times in ((10, 10, 10), (10, 10, 20)):
        base = run_schedule(load("1f1b").build(stages, stages), times).summary
        setup = f"p = m = {stages}, F : I : W = {times[0]} : {times[1]} : {times[2]}"
        note = "scheduling alone: no concatenated weight gradients, no framework cost"
        gains = {
            "2BP, W at the end": run_schedule(load("2bp").build(stages, stages), times).summary["makespan"],
            "ZB-H1": run_schedule(load("zb-h1").build(stages, stages), times).summary["makespan"],
            "no bubble (bound)": stages * sum(times),
        }
        for name, makespan in gains.items():
            rows.append(row(name, "speedup over 1F1B", setup, 1.70, base["makespan"] / makespan, note, 0.05))
    return pd.DataFrame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Bars of every row."""
    return bars(table, "2BP")
