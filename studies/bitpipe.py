"""BitPipe: what two V-shaped pipelines gain over the best synchronous schedule of the same memory class."""

from typing import TYPE_CHECKING

import pandas as pd

from sim.schedule import run_schedule
from studies._table import bars, row
from workloads.schedules import load

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "BitPipe (Wu et al. 2024): 1.05 to 1.28 times the throughput of synchronous pipelines"
STAGE = 24  # ticks of a forward through 1/p of the model; a chunk of v takes 1/v of it, a backward twice as long


def run(stages: int = 8, microbatches: tuple[int, ...] = (8, 16, 32)) -> pd.DataFrame:
    """Time of 1F1B, interleaved 1F1B (v = 2) and Chimera over BitPipe's, and its bubble in closed form."""
    rows = []
    for m in microbatches:
        quarter = STAGE // 2
        bitpipe = run_schedule(load("bitpipe").build(stages, m), (quarter, 2 * quarter, 0)).summary
        setup = f"p = {stages}, m = {m}, B = 2F, no hop"
        formula = (stages - 2) * (m // stages + 1) * quarter / bitpipe["makespan"]
        rows.append(row("BitPipe", "bubble rate", setup, round(formula, 6), bitpipe["bubble_rate_makespan"],
                        "closed form (D-2)(N/D+1)", 1e-4))  # fmt: skip
        times = {
            "1F1B": run_schedule(load("1f1b").build(stages, m), (STAGE, 2 * STAGE, 0)),
            "interleaved 1F1B": run_schedule(
                load("interleaved-1f1b").build(stages, m, num_chunk=2), (quarter, 2 * quarter, 0)
            ),
            "Chimera": run_schedule(load("chimera").build(stages, m), (STAGE, 2 * STAGE, 0)),
        }
        best = min(result.summary["makespan"] for result in times.values())
        rows.append(row("BitPipe", "speedup over the best baseline", setup, (1.05, 1.28), best / bitpipe["makespan"],
                        "compute alone; weights twice", 0.05))  # fmt: skip
    return pd.DataFrame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Bars of every row."""
    return bars(table, "BitPipe")
