"""A roofline: operators at their operational intensity and speed, under the ceilings of a device."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kernels.optable import KIND_CODE
from sim.show.plot_style import FAINT, INK, MARKERS, PALETTE, new_figure, styled, suptitle

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]
Box = tuple[float, float, float, float]

UNITS_INK = "#8c2d04"  # roof of units in the memory and the rings of what runs there

ROOF_COLUMNS: dict[str, str] = {
    "operator": "name",
    "kind": "kernel",
    "flop": "FLOPs of all repetitions",
    "mem_byte": "bytes to and from device memory of all repetitions",
    "time_s": "time of all repetitions",
}


@styled
def roofline(
    points: pd.DataFrame, peaks: Sequence[tuple[str, float]], mem_byte_per_s: float, title: str = "Roofline",
    units: tuple[float, float] | None = None,
) -> "Figure":  # fmt: skip
    """Operators (`ROOF_COLUMNS`; the area of a mark is its share of the time) under the roof of a device.

    `peaks`: (label, FLOP/s) of the ceilings, such as bf16 and fp8. A column `phase` makes a panel a phase. `units`:
    (FLOP/s, byte/s) of units in the memory, a second roof; what runs on them (a column `engine`) has a dark edge.
    Operators without FLOPs or bytes are left out, and a caption says what share of the time they take.
    """
    phases = list(dict.fromkeys(points["phase"])) if "phase" in points else [""]
    size = (7.8, 5.0) if len(phases) == 1 else (6.2 * len(phases), 5.0)
    figure, axes = new_figure(1, len(phases), size, sharex=True, sharey=True, squeeze=False)
    parts = [points[points["phase"] == phase] if phase else points for phase in phases]
    for axis, phase, part in zip(axes[0], phases, parts, strict=True):
        axis.set_title(phase)
        _marks(axis, part)
    some = _on_roof(points)
    ridges = [peak / mem_byte_per_s for _, peak in peaks] + ([units[0] / units[1]] if units else [])
    low, high = _decades((some["flop"] / some["mem_byte"]).tolist(), ridges)
    slowest = float((some["flop"] / some["time_s"]).min()) if len(some) else math.inf
    best = max(peak for _, peak in peaks)
    for axis in axes[0]:
        axis.set(xscale="log", yscale="log", xlim=(low, high), xlabel="operational intensity (FLOP / byte of memory)")
        axis.set_ylim(min(low * mem_byte_per_s, slowest / 2), best * 4)
        _roofs(axis, low, high, peaks, mem_byte_per_s)
        if units:
            _units_roof(axis, low, high, *units)
    axes[0][0].set_ylabel("FLOP / s")
    suptitle(figure, title)
    _legend(figure, axes[0][0], parts)
    figure.draw_without_rendering()  # so that the places of labels are known
    for axis, part in zip(axes[0], parts, strict=True):
        _label_slope(axis, low, mem_byte_per_s, INK)
        if units:
            _label_slope(axis, low, units[1], UNITS_INK)
        _label_points(axis, part)
    return figure


def _on_roof(points: pd.DataFrame) -> pd.DataFrame:
    return points[(points["flop"] > 0) & (points["mem_byte"] > 0) & (points["time_s"] > 0)]


def _roofs(axis: "Axes", low: float, high: float, peaks: Sequence[tuple[str, float]], mem_byte_per_s: float) -> None:
    """The ceilings, the highest with the slope of the memory."""
    x = np.geomspace(low, high, 400)
    for index, (label, peak) in enumerate(sorted(peaks, key=lambda item: -item[1])):
        axis.plot(x, np.minimum(peak, x * mem_byte_per_s), color=INK, linewidth=1.8 if index == 0 else 1.1, zorder=2)
        text = f"{label}: {peak / 1e12:,.0f} TFLOP/s"
        axis.annotate(text, (high, peak), xytext=(-4, 4), textcoords="offset points", ha="right", fontsize=8, color=INK)


def _decades(intensity: Sequence[float], ridges: Sequence[float]) -> tuple[float, float]:
    values = [*intensity, *ridges]
    return 10.0 ** math.floor(math.log10(min(values) / 1.5)), 10.0 ** math.ceil(math.log10(max(values) * 3))


def _units_roof(axis: "Axes", low: float, high: float, peak: float, byte_per_s: float) -> None:
    """The roof of units in the memory: its slope, its ceiling and its ridge."""
    x = np.geomspace(low, high, 400)
    axis.plot(x, np.minimum(peak, x * byte_per_s), color=UNITS_INK, linewidth=1.6, linestyle="--", zorder=2)
    text = f"units in the memory: {peak / 1e12:,.1f} TFLOP/s, ridge {peak / byte_per_s:,.1f} Op/B"
    axis.annotate(
        text, (high, peak), xytext=(-4, 4), textcoords="offset points", ha="right", fontsize=8, color=UNITS_INK
    )


def _label_slope(axis: "Axes", low: float, mem_byte_per_s: float, color: str) -> None:
    """The memory bandwidth, along the slanted roof."""
    ends = axis.transData.transform([(low, low * mem_byte_per_s), (10 * low, 10 * low * mem_byte_per_s)])
    angle = math.degrees(math.atan2(ends[1][1] - ends[0][1], ends[1][0] - ends[0][0]))
    axis.annotate(
        f"{mem_byte_per_s / 1e9:,.0f} GB/s",
        (2.2 * low, 2.2 * low * mem_byte_per_s),
        xytext=(-3, 5),
        textcoords="offset points",
        rotation=angle,
        rotation_mode="anchor",
        fontsize=8,
        color=color,
    )


def _areas(points: pd.DataFrame) -> Floats:
    """Areas of the marks in square points."""
    some, total_s = _on_roof(points), float(points["time_s"].sum())
    return 25.0 + 900.0 * some["time_s"].to_numpy(np.float64) / total_s if len(some) else np.empty(0)


def _marks(axis: "Axes", points: pd.DataFrame) -> None:
    """A mark an operator: colour and shape by kernel, area by time; a caption for what has no place."""
    some, area = _on_roof(points), _areas(points)
    for kind in dict.fromkeys(some["kind"]):
        mask = (some["kind"] == kind).to_numpy()
        x, y = (some["flop"] / some[name] for name in ("mem_byte", "time_s"))
        axis.scatter(x[mask], y[mask], s=area[mask], **_look(kind), alpha=0.75, zorder=3)
    if "engine" in some:
        there = some["engine"].isin(("units", "both")).to_numpy()
        if there.any():
            x, y = (some["flop"] / some[name] for name in ("mem_byte", "time_s"))
            axis.scatter(
                x[there], y[there], s=area[there], facecolors="none", edgecolors=UNITS_INK, linewidths=1.6, zorder=4
            )
    total_s = float(points["time_s"].sum())
    rest = 1.0 - float(some["time_s"].sum()) / total_s if total_s > 0 else 0.0
    if rest > 0.005:
        text = f"not shown: {rest:.0%} of the time (links, host, no FLOPs)"
        axis.annotate(text, (1, 0), xycoords="axes fraction", xytext=(-4, 6), textcoords="offset points", ha="right",
                      fontsize=8, color=FAINT)  # fmt: skip


def _look(kind: str) -> dict[str, Any]:
    """Colour and shape of a kernel, the same in every picture."""
    code = KIND_CODE.get(kind, len(KIND_CODE))
    colour, marker = PALETTE[code % len(PALETTE)], MARKERS[(code + code // len(PALETTE)) % len(MARKERS)]
    return {"color": colour, "marker": marker, "edgecolors": "white", "linewidths": 0.8}


def _legend(figure: "Figure", axis: "Axes", parts: Sequence[pd.DataFrame]) -> None:
    kinds = dict.fromkeys(kind for part in parts for kind in _on_roof(part)["kind"])
    handles = [axis.scatter([], [], s=36, **_look(kind), label=kind) for kind in kinds]
    if handles:
        title = "kernel (area: share of the time)"
        if any("engine" in part and part["engine"].isin(("units", "both")).any() for part in parts):
            title += "; ringed: on units in the memory"
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8, title=title)


def _label_points(axis: "Axes", points: pd.DataFrame) -> None:
    """Names of the operators that take the most time, each where it covers no text, no mark and no roof."""
    some, total_s = _on_roof(points), float(points["time_s"].sum())
    time_s, names = some["time_s"].to_numpy(np.float64), some["operator"].tolist()
    place = np.stack([some["flop"] / some["mem_byte"], some["flop"] / some["time_s"]], axis=1)
    pixel = axis.figure.dpi / 72.0
    centre = axis.transData.transform(place) / pixel if len(some) else np.empty((0, 2))
    radius = np.sqrt(_areas(points)) / 2
    taken: list[Box] = [(x - r, y - r, x + r, y + r) for (x, y), r in zip(centre, radius, strict=True)]
    for line in axis.lines:
        taken += [(x, y, x, y) for x, y in axis.transData.transform(np.asarray(line.get_xydata())) / pixel]
    boxes = [np.asarray(text.get_window_extent().extents) / pixel for text in axis.texts]
    taken += [(float(box[0]), float(box[1]), float(box[2]), float(box[3])) for box in boxes]
    frame = [float(edge) / pixel for edge in axis.get_window_extent().extents]
    named = np.zeros(len(names), np.bool_)
    for i in np.argsort(-time_s, kind="stable"):
        if named[i] or time_s[i] < 0.01 * total_s:
            continue
        near = np.hypot(*(centre - centre[i]).T) < max(10.0, radius[i])  # marks on top of each other share a label
        group = [
            j for j in np.argsort(-time_s, kind="stable") if near[j] and not named[j] and time_s[j] >= 0.01 * total_s
        ]
        named[group] = True
        text = "\n".join(f"{names[j]} {time_s[j] / total_s:.0%}" for j in group)
        _place(axis, text, place[i], centre[i], radius[i] + 3, taken, frame)


def _place(
    axis: "Axes", text: str, place: Floats, centre: Floats, gap: float, taken: list[Box], frame: Sequence[float]
) -> None:
    """Write `text` beside a mark, at the nearest height to the right or left that is free; nowhere if none is."""
    width, height = 4.6 * max(map(len, text.split("\n"))), 10.0 * (text.count("\n") + 1)  # of the 8-point font
    x, y = centre
    for step in range(48):
        dy = (step // 2 + 1) // 2 * 6.0 * (-1 if step // 2 % 2 else 1)
        left = x + gap if step % 2 == 0 else x - gap - width
        box = (left, y + dy - height / 2, left + width, y + dy + height / 2)
        inside = box[0] > frame[0] and box[2] < frame[2] and box[1] > frame[1] and box[3] < frame[3]
        if not inside or any(_overlap(box, other) for other in taken):
            continue
        taken.append(box)
        axis.annotate(
            text,
            (float(place[0]), float(place[1])),
            xytext=(left - x if step % 2 == 0 else left + width - x, dy),
            textcoords="offset points",
            fontsize=8,
            color=INK,
            linespacing=1.1,
            ha="left" if step % 2 == 0 else "right",
            va="center",
            arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.6} if abs(dy) > height / 2 else None,
            zorder=5,
        )
        return


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
