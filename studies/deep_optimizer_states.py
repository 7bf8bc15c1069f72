"""Deep Optimizer States: asynchronous flush and interleaved updates against a blocking baseline."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sim.training.offload import Host, OffloadRun, offload_iteration
from sim.training.offload_measured import HOSTS
from studies._table import bars, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Deep Optimizer States (Maurya et al. 2024): iterations up to 2.5 times faster, and a case where it is slower"


def _iteration_s(
    host: Host, layers: int, hidden: int, dp: int, micro_batch: int, share: float, gap: int, flush: bool
) -> float:
    values = (12.0 * layers * hidden**2, layers, hidden, 2048, 1, dp, micro_batch, 1, share, gap, flush)
    run = OffloadRun(*(np.array([float(value)]) for value in values))
    return float(sum(part[0] for part in offload_iteration(run, host)))


def run() -> pd.DataFrame:
    """Speedup with 80 % of the states on the host (four H100), and of interleaving alone at 70B on 16 A100."""
    rows = []
    for name, layers, hidden, paper in (("13B", 40, 5120, 2.35), ("7B", 32, 4096, 2.23)):
        host = HOSTS["twinflow"]
        base = _iteration_s(host, layers, hidden, 4, 1, 0.8, 0, False)
        ours = _iteration_s(host, layers, hidden, 4, 1, 0.8, 2, True)
        flush = _iteration_s(host, layers, hidden, 4, 1, 0.8, 0, True)
        setup = f"{name}, dp 4, 80 % on the host"
        rows.append(row(host.name, "speedup", setup, paper, base / ours, "every second group on the GPU", 0.1))
        # 13B: 4159 to 2119 ms by the flush alone of 4159 to 1767 in all
        share = (base - flush) / (base - ours)
        rows.append(row(host.name, "share of the gain from the flush", setup, (0.80, 0.86), share, "", 0.1))
    host = HOSTS[""]
    base, ours = (_iteration_s(host, 80, 8192, 16, 4, 1.0, gap, True) for gap in (0, 5))
    rows.append(row(host.name, "speedup of interleaving alone", "70B, dp 16", 0.93, base / ours,
                    "measured: the passes slow down by more than the update gains; not modelled", 0.1))  # fmt: skip
    return pd.DataFrame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Bars of every row."""
    return bars(table, "Deep Optimizer States")
