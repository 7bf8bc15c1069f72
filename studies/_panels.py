"""Pictures shaped as papers draw them: groups of bars and curves, published beside simulated, a panel a claim."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from sim.show.plot_style import BLUE, INK, MARKERS, ORANGE, PALETTE, new_figure, styled, suptitle

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Panel(NamedTuple):
    """What one panel shows: rows of one claim, and of the setups that begin with `setup`."""

    claim: str
    title: str
    label: str  # of the vertical axis
    setup: str = ""
    curve: bool = False  # curves instead of bars
    log: bool = False


def tick(setup: str, panel: Panel) -> str:
    """What a group is called: its setup without what the panel's title says already.

    >>> tick("7B, 32 GPUs, 8K", Panel("", "", "", "7B, 32 GPUs, "))
    '8K'
    """
    return setup.removeprefix(panel.setup).strip(", ")


@styled
def panels(rows: pd.DataFrame, shown: Sequence[Panel], title: str, columns: int = 2) -> "Figure":
    """Published (hollow) and simulated (filled) of every system, side by side over the setups."""
    lines = -(-len(shown) // columns)
    figure, axes = new_figure(lines, columns, (4.6 * columns + 0.8, 3.0 * lines + 0.7), squeeze=False)
    systems = list(dict.fromkeys(rows["system"]))
    for axis, panel in zip(axes.flat, shown, strict=False):
        part = rows[(rows["claim"] == panel.claim) & rows["setup"].str.startswith(panel.setup)]
        _panel(axis, part, panel, systems)
    for axis in axes.flat[len(shown) :]:
        axis.set_visible(False)
    axes.flat[0].plot([], [], "s", mfc="none", mec=INK, label="published")
    axes.flat[0].plot([], [], "s", color=INK, label="simulated")
    handles: dict[str, Any] = {}
    for axis in axes.flat:
        handles |= {name: mark for mark, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(len(handles), 6), fontsize=8)
    suptitle(figure, title)
    return figure


def _panel(axis: Any, part: pd.DataFrame, panel: Panel, systems: Sequence[str]) -> None:
    axis.set_visible(len(part) > 0)
    setups = list(dict.fromkeys(part["setup"]))
    present = [name for name in systems if (part["system"] == name).any()]
    width = 0.84 / max(2 * len(present), 1)
    for index, name in enumerate(present):
        colour = PALETTE[systems.index(name) % len(PALETTE)]
        own = part[part["system"] == name].groupby("setup", sort=False)[["paper", "simulated"]].first()
        at = [setups.index(setup) for setup in own.index]
        if panel.curve:
            mark = MARKERS[systems.index(name) % len(MARKERS)]
            axis.plot(at, own["paper"], mark + "--", color=colour, mfc="white", lw=1.2)
            axis.plot(at, own["simulated"], mark + "-", color=colour, label=name)
            continue
        left = [place - 0.42 + 2 * index * width for place in at]
        axis.bar(left, own["paper"], width, align="edge", facecolor="white", edgecolor=colour, linewidth=1.2)
        axis.bar(
            [x + width for x in left], own["simulated"], width, align="edge", color=colour, edgecolor=colour,
            linewidth=1.2, label=name,
        )  # fmt: skip
    labels = [tick(setup, panel) for setup in setups]
    crowded = sum(map(len, labels)) > 46
    axis.set_xticks(range(len(setups)), labels, rotation=30 if crowded else 0, ha="right" if crowded else "center",
                    fontsize=7 if crowded else 8)  # fmt: skip
    axis.set_title(panel.title)
    axis.set_ylabel(panel.label)
    axis.grid(axis="x", visible=panel.curve)
    if panel.log:
        axis.set_yscale("log")
    else:
        low, high = axis.get_ylim()
        low = min(0.0, low)  # what falls below nothing is shown
        axis.set_ylim(low, high + 0.04 * (high - low) * panel.curve)  # and a flat curve's marks, whole


@styled
def bars(rows: pd.DataFrame, parts: Sequence[tuple[str, str]], title: str) -> "Figure":
    """Published beside simulated, lying, a panel for each (start of the claim, label of the axis)."""
    chosen = [rows[rows["claim"].str.startswith(claim)] for claim, _ in parts]
    height = [max(2, len(part)) for part in chosen]
    figure, axes = new_figure(
        len(parts), 1, (8.0, 1.2 + 0.34 * sum(height) + 0.5 * len(parts)), squeeze=False, height_ratios=height
    )
    for axis, part, (claim, label) in zip(axes[:, 0], chosen, parts, strict=True):
        names = [f"{one['system']}{str(one['claim']).removeprefix(claim)}: {one['setup']}" for one in records(part)]
        pairs(axis, part, names)
        axis.set_xlabel(label)
    axes[0][0].legend(loc="lower right")
    suptitle(figure, title)
    return figure


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows one by one."""
    return [{str(key): value for key, value in one.items()} for one in rows.to_dict("records")]


def pairs(axis: Any, part: pd.DataFrame, names: Sequence[str], font: float = 7) -> None:
    """Lying bars of `part`, published above simulated, each pair with its name."""
    place = list(range(len(part)))
    axis.barh([p - 0.2 for p in place], part["paper"], 0.38, color=ORANGE, label="published")
    axis.barh([p + 0.2 for p in place], part["simulated"], 0.38, color=BLUE, label="simulated")
    axis.set_yticks(place, [textwrap.fill(name, 58) for name in names], fontsize=font)
    axis.invert_yaxis()
    axis.set_xlim(left=0)
    axis.grid(axis="y", visible=False)
