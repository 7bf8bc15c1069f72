"""The picture of the NeuPIMs study: throughput by model, data set and batch as the paper draws it, and its numbers."""

from typing import TYPE_CHECKING, Any

import pandas as pd

from sim.show.plot_style import BLUE, FAINT, GREEN, ORANGE, SKY, styled, suptitle
from studies._neupims import LENGTHS, PAPER_MODELS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SYSTEMS = (
    ("gpu_padded", "GPU only (padded)", FAINT),
    ("npu_published", "NPU only (as published)", ORANGE),
    ("blocked", "NPU+PIM", SKY),
    ("neupims", "NeuPIMs", BLUE),
)
BATCHES = (64, 256, 512)


@styled
def figure(rows: pd.DataFrame) -> "Figure":
    """Throughput over the blocked NPU+PIM for each data set (row), model (column) and batch, from one batch a point;
    below, stage cycles, headline and utilisation, published beside simulated."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    picture = Figure(figsize=(11.0, 8.6), layout="constrained")
    FigureCanvasAgg(picture)
    parts: Any = picture.subfigures(2, 1, height_ratios=(1.35, 1))
    above, below = parts
    for line, dataset in zip(above.subplots(2, 4), LENGTHS, strict=True):
        for axis, name in zip(line, PAPER_MODELS, strict=True):
            _throughput(axis, dataset, name)
        line[0].set_ylabel("throughput\n(NPU+PIM = 1)")
        if dataset == "ShareGPT":
            line[0].set_ylim(0, 4.2)
            line[0].legend(loc="upper left", fontsize=6)
    cycles, headline, use, energy = below.subplots(1, 4)
    _pairs(cycles, rows, "stage cycles", "cycles", log=True, font=5)
    _pairs(headline, rows, "headline", "speed-up", font=6)
    _pairs(use, rows, "utilisation", "share of time", font=6)
    _pairs(energy, rows, ("energy", "power"), "share saved, ratio", font=6)
    cycles.legend(loc="lower right", fontsize=6)
    suptitle(picture, "NeuPIMs: throughput of its design and its baselines, published and simulated")
    return picture


def _throughput(axis: Any, dataset: str, name: str) -> None:
    from studies.neupims import compare

    for place, batch in enumerate(BATCHES):
        point = compare(dataset, name, batch)
        for i, (key, label, colour) in enumerate(SYSTEMS):
            height = point["blocked"] / point[key]
            axis.bar(place + 0.2 * (i - 1.5), height, 0.19, color=colour, label=label if place == 0 else None)
    axis.axhline(1.0, color=GREEN, linewidth=0.8)
    axis.set_xticks(range(len(BATCHES)), [str(batch) for batch in BATCHES])
    axis.set_title(f"{name.upper()}, {dataset}", fontsize=8)
    axis.grid(axis="x", visible=False)


def _pairs(
    axis: Any, rows: pd.DataFrame, claim: str | tuple[str, ...], label: str, *, log: bool = False, font: int
) -> None:
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


def _label(one: "pd.Series[Any]", claim: str | tuple[str, ...], with_batch: bool) -> str:
    """A row in few words: its system unless that is NeuPIMs throughout, its claim, its batch."""
    words = str(one["claim"])
    if isinstance(claim, str):
        words = words.removeprefix(claim).strip(" ,")
        if claim != "headline":
            words = f"{str(one['system']).removesuffix(' blocked')} {words}"
    if with_batch:
        words += ", " + str(one["setup"]).split(", ")[1]
    return words.replace(" over NPU only", "\nover NPU only")
