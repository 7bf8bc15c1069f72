"""A schedule drawn as the papers draw it: a row a rank, boxes with microbatch numbers, and the memory curve below."""

import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# forward, backward, input gradient, weight gradient, recompute, optimizer: light for the first chunk, darker after
COLORS = {"F": "#4c78c8", "B": "#3fa37c", "I": "#2aa6a0", "W": "#8bbf4d", "R": "#b9a6d8", "O": "#d8933c"}
LABELS = {"F": "forward", "B": "backward", "I": "input gradient", "W": "weight gradient", "R": "recompute",
          "O": "optimizer"}  # fmt: skip
MAX_LABELLED_OP = 1500


def plot_schedule(op: pd.DataFrame, title: str) -> "Figure":
    """Figure of `ScheduleResult.op`: time to the right, a rank a row, idle time left white on grey; chunks of a rank
    are told by shade, microbatches by number; below, the memory of every rank (its peak at the right)."""
    from matplotlib import pyplot as plt
    from matplotlib.patches import Patch

    num_rank, makespan = int(op["rank"].max()) + 1, int(op["end"].max())
    height = max(2.0, 0.34 * num_rank + 0.6)
    figure, (top, low) = plt.subplots(
        2, 1, sharex=True, figsize=(13, height + 2.2), height_ratios=[height, 1.7], layout="constrained"
    )
    digits = len(str(op["microbatch"].max())) if len(op) <= MAX_LABELLED_OP else 0
    ends_first = op["overlap"].shift(fill_value=False).to_numpy()
    for rank in range(num_rank):
        ops = op[op["rank"] == rank]
        stages = sorted(ops["stage"].unique())
        shade = {stage: 1 - 0.32 * n / max(len(stages) - 1, 1) for n, stage in enumerate(stages)}
        top.barh(rank, makespan, color="#e9e9ec", height=0.86, zorder=0)
        for index, row in zip(ops.index.to_numpy(), ops.itertuples(), strict=True):
            _draw_box(top, row, shade[row.stage], bool(ends_first[index]), digits, makespan)
        low.step(np.r_[0, ops["end"]], np.r_[0, ops["memory"]], where="post", lw=1,
                 color=plt.get_cmap("viridis")(rank / max(num_rank - 1, 1) * 0.9), label=f"rank {rank}")  # fmt: skip
    top.set(ylim=(num_rank - 0.5, -0.5), yticks=range(num_rank), ylabel="rank", title=title, xlim=(0, makespan))
    used = [kind for kind in COLORS if (op["kind"] == kind).any()]
    handles = [Patch(facecolor=COLORS[kind], label=LABELS[kind]) for kind in used] + [
        Patch(facecolor="#e9e9ec", label="idle")
    ]
    top.legend(
        handles=handles, ncols=len(handles), loc="upper right", bbox_to_anchor=(1, -0.02), frameon=False, fontsize=8
    )
    low.set(xlabel="time", ylabel="memory")
    low.grid(alpha=0.25)
    if num_rank <= 16:
        low.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _draw_box(axes: Any, row: Any, shade: float, second: bool, digits: int, makespan: int) -> None:
    """A box with its microbatch's number, all numbers of one width in type of one size; `digits` 0: without."""
    width = row.end - row.start
    if width <= 0:
        return
    paired = row.overlap or second
    y, tall = (row.rank + (0.215 if second else -0.215), 0.43) if paired else (row.rank, 0.86)
    color = np.array([int(COLORS[row.kind][i : i + 2], 16) / 255 for i in (1, 3, 5)]) * shade
    axes.barh(y, width, left=row.start, height=tall, color=color, edgecolor="white", linewidth=0.5)
    # the axes are about 840 pt wide
    size = min(8.0 if not paired else 6.0, 840 * width / makespan / (0.7 * digits)) if digits else 0.0
    if size > 3:
        axes.text(row.start + width / 2, y, str(row.microbatch), ha="center", va="center", fontsize=size, color="white")


def save_plot(op: pd.DataFrame, title: str, path: str | pathlib.Path) -> None:
    """Write the figure as the suffix of `path` says (.svg, .png, .pdf)."""
    from kernels.errors import InputError

    suffix = pathlib.Path(path).suffix
    if suffix not in (".svg", ".png", ".pdf"):
        raise InputError("unknown picture format", field="plot", value=str(path), allowed=[".svg", ".png", ".pdf"])
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure = plot_schedule(op, title)
    figure.savefig(path, dpi=150)
    plt.close(figure)
