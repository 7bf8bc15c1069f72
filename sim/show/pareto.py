"""Pareto plots of a sweep or a recommendation: what a user gets against what a device gives, what tokens cost, and the
energy that they take."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from kernels.errors import InputError
from sim.show.plot_style import BLUE, FAINT, INK, new_figure, styled, suptitle
from sim.show.points import DEVICE, JOULE, LABEL, USD, USER, WALL, Row, front, ran, with_rates

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_WORD = 12  # points of a front that are labelled
MAX_NAME = 22  # characters of a scenario's name beside its point
NEEDS = ("output_throughput", "num_device")


def shortened(name: str) -> str:
    """A scenario's name as a point has room for it.

    >>> shortened("dgx_h100"), shortened("a_long_system vllm_v1:max_chunk=512")
    ('dgx_h100', 'a_long_sys...chunk=512')
    """
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME // 2 - 1]}...{name[-(MAX_NAME // 2 - 2) :]}"


@styled
def pareto(frame: pd.DataFrame, title: str = "") -> "Figure":
    """Tokens/s a user (1 / mean TPOT) against tokens/s a GPU, dollars and joules a million output tokens, a panel each;
    of the front, which no other point beats in both, the mean concurrency stands beside the points.

    `frame` is what `ridgeline.sweep` or `ridgeline.compare` returns (then every point is named), or `.frame` of
    `ridgeline.recommend`. Overloaded points are in no front. Raises `InputError` where its columns are not those, or no
    point served a request.
    """
    if "points" in frame.attrs:
        frame = pd.DataFrame(frame.attrs["points"])
    missing = [name for name in NEEDS if name not in frame]
    if missing or not {"mean_tpot_ms", USER} & set(frame):
        raise InputError("not the frame of a sweep, a comparison or a recommendation", field="frame",
                         value=list(frame)[:4],
                         allowed=f"one with {', '.join(NEEDS)} and mean_tpot_ms or {USER}")  # fmt: skip
    rows = [with_rates({str(name): value for name, value in row.items()}) for row in frame.to_dict("records")]
    rows = [row for row in rows if ran(row)]
    if not rows:
        raise InputError("no point served a request", field="frame", value=f"{len(frame)} rows")
    kept = [row for row in rows if row.get("load_state") != "overloaded"]
    figure, axes = new_figure(1, 3, (12.0, 4.0))
    panels = ((DEVICE, False), (USD, True), (WALL if WALL in frame else JOULE, True))
    for axis, (name, least) in zip(axes, panels, strict=True):
        _panel(axis, rows, kept, name, least)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    suptitle(figure, title)
    return figure


def _panel(axis: "Axes", rows: Sequence[Row], kept: Sequence[Row], name: str, least: bool) -> None:
    """Every point against what a user gets, the front through those that no other beats."""
    there, among = (
        [row for row in some if isinstance(row.get(name), int | float) and math.isfinite(row[name])]
        for some in (rows, kept)
    )
    axis.set(xlabel=LABEL[USER], ylabel=LABEL[name])
    if not there:
        axis.text(0.5, 0.5, "not known of this machine", transform=axis.transAxes, ha="center", color=FAINT)
        return
    best = front(among, USER, name, least)
    axis.plot([row[USER] for row in there], [row[name] for row in there], linestyle="", marker="o", markersize=4,
              color=FAINT, label="beaten by another in both")  # fmt: skip
    axis.plot([row[USER] for row in best], [row[name] for row in best], marker="o", markersize=5, color=BLUE,
              label="front, with its mean concurrency")  # fmt: skip
    named = [row for row in there if "scenario" in row]
    for row in (named or best)[:: max(1, -(-len(named or best) // MAX_WORD))]:
        said = f"{row['concurrency']:.3g}"
        if named:
            said = f"{shortened(row['scenario'])} ({said})"
        axis.annotate(said, (row[USER], row[name]), xytext=(4, 4), textcoords="offset points", fontsize=7,
                      color=INK)  # fmt: skip
    axis.set_xlim(0, (1.5 if named else 1.12) * max(row[USER] for row in there))
    axis.set_ylim(0, 1.12 * max(row[name] for row in there))
