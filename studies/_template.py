"""What does a matrix product take on an A100? (copy this file: its name is the study's, this line its question)"""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hw_models import catalog, device
from kernels import optable
from kernels.formats import FORMAT_CODE
from sim.show.plot_style import BLUE, ORANGE, new_figure, styled, suptitle
from studies._verdict import frame, order, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# 1. The claim in one line: whose it is, and the number that people remember.
CLAIM = "LLMCompass (Zhang et al. 2024): products of 12,288 x 12,288 on a measured A100, 0.19 ms at 64 rows"

# 2. What is published, and the set-up it holds for: measured milliseconds of fp16 products by rows.
WIDTH = 12288
MEASURED = {64: 0.1900, 128: 0.2003, 256: 0.3185, 512: 0.6118, 1024: 1.1990, 2048: 2.3586, 4096: 4.4576, 8192: 8.6216}
# 3. What the paper leaves open goes into the rows' assumptions, with the range of the result over plausible values.
OPEN = (
    "which A100 is not said: 302 MB in 0.19 ms are more than the 40 GB part reads, hence the 80 GB one; the kernels "
    "that are fitted to another library's"
)
CLAIMED = "milliseconds"  # of the rows, and what the picture looks for

SMALL = {"rows": (64, 512)}  # the quick pass that CI runs: keyword arguments of `run`


def run(rows: tuple[int, ...] = tuple(MEASURED), system: str = "a100_sxm_80gb") -> pd.DataFrame:
    """A row a number: published beside simulated. Keyword arguments become options of the command."""
    arrays = device.machine(catalog.system(system), "calibrated")
    ops, work = optable.empty(len(rows))
    ops["kind"], ops["fmt"], ops["count"], ops["batch"] = optable.GEMM, FORMAT_CODE["fp16"], 1, 1
    ops["m"], ops["n"], ops["k"], ops["flop"] = rows, WIDTH, WIDTH, 2.0 * np.array(rows) * WIDTH**2
    ops["weight_byte"], ops["act_byte"] = 2.0 * WIDTH**2, 2.0 * np.array(rows) * WIDTH
    ops["write_byte"] = ops["act_byte"]
    found = device.cost(ops, work, arrays)["time_ps"] * 1e-9
    table: list[dict[str, Any]] = [
        row("A100", CLAIMED, f"{count} rows", MEASURED[count], float(ms), OPEN)  # 10 %, both sides
        for count, ms in zip(rows, found, strict=True) if count in MEASURED
    ]  # fmt: skip
    grows = bool((np.diff(found[np.argsort(rows)]) >= 0).all())
    table.append(order("A100", "order: more rows never take less", "every number of rows", grows))
    return frame(table)


@styled
def plot(table: pd.DataFrame) -> "Figure":
    """The figure in the paper's own form, from the frame alone: it may come from a file."""
    figure, axis = new_figure(1, 1, (6.0, 3.8))
    part = table[table["claim"] == CLAIMED]
    rows = part["setup"].str.split().str[0].astype(int)
    axis.plot(rows, part["paper"], "o", color=ORANGE, mfc="white", label="measured")
    axis.plot(rows, part["simulated"], "-", color=BLUE, label="simulated")
    axis.set(xlabel=f"rows, by {WIDTH} x {WIDTH}", ylabel="milliseconds", xscale="log", yscale="log")
    axis.legend()
    suptitle(figure, "Matrix products on an A100")
    return figure
