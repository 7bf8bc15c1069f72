"""Pictures shaped as papers draw them: groups of bars and curves, published beside simulated, a panel a claim."""

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from sim.show.plot_style import BLUE, INK, MARKERS, ORANGE, PALETTE, new_figure, styled, suptitle

if TYPE_CHECKING:
    from matplotlib.figure import Figure


KINDS = ("paper", "simulated")
BAR_SHARE = 0.14  # of a panel that a bar takes at most
LINE_CHARACTER = 52  # of names at 8 points that fit under a panel


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
    filled = [(panel, part) for panel in shown if len(part := rows_of(rows, panel))]
    columns = min(columns, max(len(filled), 1))
    lines = max(-(-len(filled) // columns), 1)
    figure, axes = new_figure(lines, columns, (4.6 * columns + 0.8, 3.0 * lines + 0.7), squeeze=False)
    systems = list(dict.fromkeys(rows["system"]))
    for axis, (panel, part) in zip(axes.flat, filled, strict=False):
        _panel(axis, part, panel, systems)
    for axis in axes.flat[len(filled) :]:
        axis.set_visible(False)
    handles: dict[str, Any] = {}
    if any(part["paper"].notna().any() for _, part in filled):
        first = axes.flat[0]
        handles["published"] = first.plot([], [], "s", mfc="none", mec=INK)[0]
        handles["simulated"] = first.plot([], [], "s", color=INK)[0]
    found = {name: mark for axis in axes.flat for mark, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    handles |= {name: found[name] for name in systems if name in found}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(len(handles), 6), fontsize=8)
    suptitle(figure, title)
    return figure


def rows_of(rows: pd.DataFrame, panel: Panel) -> pd.DataFrame:
    """What a panel shows; a quick pass may have nothing for some."""
    return rows[(rows["claim"] == panel.claim) & rows["setup"].str.startswith(panel.setup)]


def _panel(axis: Any, part: pd.DataFrame, panel: Panel, systems: Sequence[str]) -> None:
    setups = list(dict.fromkeys(part["setup"]))
    present = [name for name in systems if (part["system"] == name).any()]
    own = {
        name: part[part["system"] == name].groupby("setup", sort=False)[["paper", "simulated"]].first()
        for name in present
    }
    if panel.curve:
        for name in present:
            at, colour = [setups.index(setup) for setup in own[name].index], _colour(name, systems)
            mark = MARKERS[systems.index(name) % len(MARKERS)]
            axis.plot(at, own[name]["paper"], mark + "--", color=colour, mfc="white", lw=1.2)
            line = ":" if _again(name, systems) else "-"
            axis.plot(at, own[name]["simulated"], mark + line, color=colour, label=name)
    else:
        _groups(axis, setups, own, systems)
    _ticks(axis, [tick(setup, panel) for setup in setups])
    axis.set_title(panel.title)
    axis.set_ylabel(textwrap.fill(panel.label, 34))
    axis.grid(axis="x", visible=panel.curve)
    if panel.log:
        axis.set_yscale("log")
        number_log(axis)
    else:
        from_zero(axis)


def from_zero(axis: Any) -> None:
    """The vertical axis from nothing (or what falls below it) to a little above all that was drawn until now."""
    low, high = float(axis.dataLim.ymin), float(axis.dataLim.ymax)
    if math.isfinite(low) and math.isfinite(high) and (low or high):
        low = min(0.0, low)
        axis.set_ylim(low - 0.05 * (high - low) * (low < 0), max(high, 0.0) + 0.06 * (high - low))
    if low < 0:
        axis.axhline(0.0, color=INK, lw=0.8)


def log_places(axis: Any, values: Any) -> None:
    """A logarithmic horizontal axis with these numbers alone on it."""
    axis.set_xscale("log")
    at = sorted({float(value) for value in values})
    axis.set_xticks(at, [f"{value:,g}" for value in at])
    axis.minorticks_off()


def _colour(name: str, systems: Sequence[str]) -> str:
    return PALETTE[systems.index(name) % len(PALETTE)]


def _again(name: str, systems: Sequence[str]) -> bool:
    """Whether another system has its colour already: then it is dotted or hatched."""
    return systems.index(name) >= len(PALETTE)


def _groups(axis: Any, setups: Sequence[str], own: dict[str, pd.DataFrame], systems: Sequence[str]) -> None:
    """A group of bars a setup, as many as it has values, in the middle over its name."""
    values = [(name, kind, frame[kind].dropna().to_dict()) for name, frame in own.items() for kind in KINDS]
    groups = [[(name, kind, of[setup]) for name, kind, of in values if setup in of] for setup in setups]
    width = min(0.84 / max((len(group) for group in groups), default=1), 0.84 / 2)
    for at, group in enumerate(groups):
        for index, (name, kind, value) in enumerate(group):
            place, colour = at + (index - (len(group) - 1) / 2) * width, _colour(name, systems)
            axis.bar(place, value, width, facecolor="white" if kind == "paper" else colour, edgecolor=colour,
                     linewidth=1.2)  # fmt: skip
            if kind != "paper" and _again(name, systems):
                axis.bar(place, value, width, facecolor="none", edgecolor="white", hatch="///", linewidth=0)
    for name in own:
        hatch = "///" if _again(name, systems) else None
        axis.bar([0], [math.nan], width, facecolor=_colour(name, systems), edgecolor="white", hatch=hatch, label=name)
    spare = max(0.0, width / BAR_SHARE - len(setups)) / 2  # few bars do not fill a panel
    axis.set_xlim(-0.5 - spare, len(setups) - 0.5 + spare)


def _ticks(axis: Any, labels: Sequence[str]) -> None:
    """Names under their groups: level where they fit side by side, else in two lines, else slanting."""
    room = LINE_CHARACTER / max(len(labels), 3)
    shown = [textwrap.fill(label, max(int(room), 6), break_long_words=False) for label in labels]
    lines = [text.split("\n") for text in shown]
    if all(len(line) <= room for text in lines for line in text) and max(map(len, lines), default=0) <= 3:
        axis.set_xticks(range(len(labels)), shown, fontsize=8)
        return
    shown = [textwrap.fill(label, 26) if len(labels) <= 6 else label for label in labels]
    axis.set_xticks(range(len(labels)), shown, fontsize=7, rotation=35, ha="right", rotation_mode="anchor")


def number_log(axis: Any) -> None:
    """A logarithmic axis labelled in plain numbers: 1, 2 and 5 of every decade, or 1 alone where there are many."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    low, high = axis.get_ylim()
    first = (1.0,) if high > 1e3 * low else (1.0, 2.0, 5.0)
    axis.yaxis.set_major_locator(LogLocator(10, first, numticks=20))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.yaxis.set_minor_formatter(FuncFormatter(lambda _, __: ""))


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
