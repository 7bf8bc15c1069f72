"""The picture of the NeuPIMs study: throughput by model, data set and batch as the paper draws it, and its numbers."""

import textwrap
from typing import TYPE_CHECKING, Any

import pandas as pd

from sim.show.plot_style import BLUE, FAINT, GREEN, ORANGE, SKY, styled, suptitle

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOUR = {"GPU only": FAINT, "NPU only": ORANGE, "NPU+PIM blocked": SKY, "NeuPIMs": BLUE}


@styled
def figure(rows: pd.DataFrame) -> "Figure":
    """Throughput over the blocked NPU+PIM for each data set (row), model (column) and batch, from one batch a point;
    below, stage cycles, headline and utilisation, published beside simulated."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    picture = Figure(figsize=(15.0, 11.0), layout="constrained")
    FigureCanvasAgg(picture)
    parts: Any = picture.subfigures(2, 1, height_ratios=(1, 1))
    above, below = parts
    points = rows[rows["claim"].str.startswith("throughput over NPU+PIM")]
    place = points["setup"].str.split("; ")
    datasets, models = (list(dict.fromkeys(place.str[at])) for at in (0, 1))
    lines = above.subplots(max(1, len(datasets)), max(1, len(models)), squeeze=False)
    for line, dataset in zip(lines, datasets, strict=False):
        for axis, name in zip(line, models, strict=True):
            _throughput(axis, points[(place.str[0] == dataset) & (place.str[1] == name)])
            axis.set_title(f"{name.upper()}, {dataset}", fontsize=8)
        line[0].set_ylabel("throughput\n(NPU+PIM = 1)")
    lines[0][0].set_ylim(0, 4.2)
    lines[0][0].legend(loc="upper left", fontsize=6)
    cycles, headline, use, energy = below.subplots(1, 4, width_ratios=(1.6, 1.2, 1, 1))
    _pairs(cycles, rows, "stage cycles", "cycles", log=True, font=7)
    _pairs(headline, rows, "headline", "speed-up", font=8)
    _pairs(use, rows, "utilisation", "share of time", font=8)
    _pairs(energy, rows, "energy of the memory", "share of energy saved", font=8)
    cycles.legend(loc="lower right", fontsize=6)
    suptitle(picture, "NeuPIMs: throughput of its design and its baselines, published and simulated")
    return picture


def _throughput(axis: Any, points: pd.DataFrame) -> None:
    batches = list(dict.fromkeys(points["setup"].str.split("; ").str[2]))
    for i, system in enumerate(dict.fromkeys(points["system"])):
        height = points[points["system"] == system]["simulated"]
        axis.bar([at + 0.2 * (i - 1.5) for at in range(len(height))], height, 0.19, color=COLOUR[system], label=system)
    axis.axhline(1.0, color=GREEN, linewidth=0.8)
    axis.set_xticks(range(len(batches)), batches)
    axis.grid(axis="x", visible=False)


def _pairs(axis: Any, rows: pd.DataFrame, claim: str, label: str, *, log: bool = False, font: int) -> None:
    """Published beside simulated for the rows whose claim begins so."""
    part = rows[rows["claim"].str.startswith(claim)]
    place = list(range(len(part)))
    axis.barh([p - 0.2 for p in place], part["paper"], 0.38, color=ORANGE, label="published")
    axis.barh([p + 0.2 for p in place], part["simulated"], 0.38, color=BLUE, label="simulated")
    axis.set_yticks(place, [_label(one, claim, log) for _, one in part.iterrows()], fontsize=font)
    axis.invert_yaxis()
    axis.set_xlabel(label)
    if log:
        axis.set_xscale("log")
    axis.grid(axis="y", visible=False)


def _label(one: "pd.Series[Any]", claim: str, with_batch: bool) -> str:
    """A row in few words: its system unless that is NeuPIMs throughout, its claim, its batch."""
    words = str(one["claim"]).removeprefix(claim).strip(" ,")
    if claim != "headline" or one["system"] != "NeuPIMs":
        words = f"{str(one['system']).removesuffix(' blocked')} {words}"
    if with_batch:
        words += ", " + str(one["setup"]).split(", ")[1]
    return textwrap.fill(words, 34)
