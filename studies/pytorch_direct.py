"""What does a GPU save that reads scattered rows out of host memory itself? (PyTorch-Direct, Min et al. 2021)"""

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hw_models import catalog
from kernels.units import PS_PER_S
from sim.pipeline.bounded import Stage, run_stages
from studies._panels import Panel, panels
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "PyTorch-Direct (Min et al. 2021): 47.1 % less transfer time, training of graphs up to 1.6 times as fast"
SMALL: dict[str, Any] = {"num_row": 2000}
# 32-bit values of a row, by graph: recalled from the paper's table of data sets and not checked
WIDTH = {"product": 100, "paper": 128, "sk-2005": 293, "twitter": 343, "reddit": 602, "wikipedia": 800}
LINE = 128  # bytes of a request of a warp
# rows a batch: 1,024 seeds with 10 and 25 neighbours, half of them seen already; what a CPU gathers with all threads
ROWS, GATHER_GBPS = 130_000, (8.0, 12.0, 20.0)
LINK, SHARE = "pcie3", 0.8  # of the link, for copies and for reads of whole lines alike
STEP_MS = (10.0, 30.0, 100.0)  # of the training step itself: not published
SAVED, TIME, TRAFFIC = "transfer time saved", "ms of a batch's rows", "lines a needed line"
GAIN = "training over gathered"
COPY, DIRECT, SHIFTED = "gathered, copied", "read directly", "read directly, shifted to lines"
BESIDE = "gathered beside the step before"
NOTE = (
    "32-bit features of six graphs, 130,000 rows a batch, PCIe 3.0 x16 at 80 %; the CPU gathers 8 to 20 GB/s; the "
    "machine is not published; a row begins where its width puts it, requests are 128 bytes"
)


def lines(width: int, num_row: int, *, shifted: bool) -> float:
    """Lines that the link carries for `num_row` random rows, a row: warps of 32 values each touch the lines that they
    lie in; shifted, they begin where a line begins."""
    byte = 4 * width
    start = np.random.default_rng(0).integers(0, 1 << 24, num_row) * byte
    if shifted:
        return float(np.mean((start + byte - 1) // LINE - start // LINE + 1))
    first = start[:, None] + np.arange(0, byte, LINE)[None, :]
    last = np.minimum(first + LINE, (start + byte)[:, None]) - 1
    return float(np.mean((last // LINE - first // LINE + 1).sum(axis=1)))


def link_byte_per_s() -> float:
    """What moves of a link."""
    return SHARE * catalog.link(LINK).byte_per_s


def rows_s(kind: str, width: int, num_row: int, gather_gbps: float) -> float:
    """Seconds until a batch's rows are on the device."""
    byte = 4.0 * width * ROWS
    if kind == COPY:
        return byte / (1e9 * gather_gbps) + byte / link_byte_per_s()
    moved = ROWS * lines(width, num_row, shifted=kind == SHIFTED) * LINE
    return moved / link_byte_per_s()


def epoch_s(kind: str, width: int, num_row: int, gather_gbps: float, step_s: float, num: int = 50) -> float:
    """Seconds of so many batches: rows and then the step; or rows gathered beside the step before."""
    byte = 4.0 * width * ROWS
    if kind == BESIDE:
        stages = [Stage("gather", byte / (1e9 * gather_gbps)), Stage("step", byte / link_byte_per_s() + step_s)]
        return float(run_stages(stages, num).leave_ps[-1].max() / PS_PER_S)
    return num * (rows_s(kind, width, num_row, gather_gbps) + step_s)


def run(
    num_row: int = 20_000, gather: tuple[float, ...] = GATHER_GBPS, steps: tuple[float, ...] = STEP_MS
) -> pd.DataFrame:
    """Lines that move, time of a batch's rows, what is saved, and a training run."""
    rows: list[dict[str, Any]] = []
    middle = gather[len(gather) // 2]
    saved: dict[float, list[float]] = {rate: [] for rate in gather}
    for name, width in WIDTH.items():
        need = 4.0 * width / LINE
        moved = {kind: lines(width, num_row, shifted=kind == SHIFTED) / need for kind in (DIRECT, SHIFTED)}
        rows += [point(kind, TRAFFIC, name, value, NOTE) for kind, value in moved.items()]
        time = {kind: rows_s(kind, width, num_row, middle) for kind in (COPY, DIRECT, SHIFTED)}
        rows += [point(kind, TIME, name, 1e3 * value, NOTE) for kind, value in time.items()]
        for rate in gather:
            saved[rate].append(1 - rows_s(SHIFTED, width, num_row, rate) / rows_s(COPY, width, num_row, rate))
        rows.append(point(SHIFTED, SAVED, name, 1 - time[SHIFTED] / time[COPY], NOTE))
        rows.append(order(SHIFTED, "order: fewer lines than unshifted, unless rows are whole lines", name,
                          moved[SHIFTED] < moved[DIRECT] or 4 * width % LINE == 0, NOTE))  # fmt: skip
    mean = {rate: float(np.mean(values)) for rate, values in saved.items()}
    rows.append(row(SHIFTED, SAVED, "mean over graphs", 0.471, mean[middle], NOTE, null=0.0, said=True,
                    spread=list(mean.values())))  # fmt: skip
    rows.append(order(SHIFTED, "order: less transfer time on every graph", "8 to 20 GB/s gathered",
                      min(min(values) for values in saved.values()) > 0, NOTE))  # fmt: skip
    wide = WIDTH["reddit"]
    second = {(kind, rate, step): epoch_s(kind, wide, num_row, rate, step / 1e3)
              for kind in (COPY, BESIDE, SHIFTED) for rate in gather for step in steps}  # fmt: skip
    gain = {(kind, rate, step): second[COPY, rate, step] / value for (kind, rate, step), value in second.items()}
    rows += [point(kind, GAIN, f"reddit, step of {step:g} ms", gain[kind, middle, step], NOTE)
             for kind in (BESIDE, SHIFTED) for step in steps]  # fmt: skip
    own = [gain[SHIFTED, rate, steps[0]] for rate in gather]
    rows.append(row(SHIFTED, "training, up to", "reddit", 1.6, gain[SHIFTED, middle, steps[0]], NOTE, null=1.0,
                    said=True, spread=own))  # fmt: skip
    rows.append(order(SHIFTED, "order: the longer the step, the less is gained", "reddit",
                      all(gain[SHIFTED, rate, a] >= gain[SHIFTED, rate, b] for rate in gather
                          for a, b in itertools.pairwise(steps)), NOTE))  # fmt: skip
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Lines, times, savings by graph, and training."""
    return panels(table, [Panel(TRAFFIC, "what moves", TRAFFIC), Panel(TIME, "a batch", TIME),
                          Panel(SAVED, "saved", SAVED), Panel(GAIN, "training", "ratio", "reddit, ")],
                  "PyTorch-Direct: rows of a graph's features")  # fmt: skip
