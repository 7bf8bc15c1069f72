"""Pictures of a run: latency distributions, load over time, a roofline. Each returns a matplotlib figure.

Colours are those of Okabe and Ito (2008), told apart with any colour vision.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np
import numpy.typing as npt
import pandas as pd

from kernels.errors import InputError
from kernels.optable import KIND_CODE
from sim.metrics import token_rate
from sim.records import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]
P = ParamSpec("P")
Box = tuple[float, float, float, float]

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#B8A500",
)  # fmt: skip
PALETTE = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW)
INK, FAINT = "#222222", "#8a8a8a"
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
STYLE: dict[Any, Any] = {
    "figure.dpi": 150, "figure.facecolor": "white", "savefig.facecolor": "white", "font.size": 9,
    "font.family": "DejaVu Sans", "axes.titlesize": 10, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": FAINT, "axes.labelcolor": INK,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": "#e6e6e6", "grid.linewidth": 0.8,
    "xtick.color": INK, "ytick.color": INK,
    "xtick.major.size": 0, "ytick.major.size": 0, "xtick.minor.size": 0, "ytick.minor.size": 0,
    "legend.frameon": False, "lines.linewidth": 1.8,
}  # fmt: skip


def styled(draw: Callable[P, "Figure"]) -> Callable[P, "Figure"]:
    """The same function, drawing in this file's style; without matplotlib an `InputError`."""

    @functools.wraps(draw)
    def wrapped(*args: P.args, **keys: P.kwargs) -> "Figure":
        try:
            import matplotlib as mpl
        except ImportError:
            raise InputError(
                "plots need the extra: pip install 'ridgeline[plot]'", field="plot", value="matplotlib"
            ) from None
        with mpl.rc_context(STYLE):
            return draw(*args, **keys)

    return wrapped


def _figure(rows: int, columns: int, size: tuple[float, float], **keys: Any) -> tuple["Figure", Any]:
    """A figure and its axes, without the global state of pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, **keys)


@styled
def latency_cdf(runs: Run | Mapping[str, Run], title: str = "Latency of requests") -> "Figure":
    """Cumulative distributions of TTFT, TPOT and end-to-end latency, a curve a run; medians and P99 are marked."""
    named = {"": runs} if isinstance(runs, Run) else dict(runs)
    figure, axes = _figure(1, 3, (10.5, 3.6), sharey=True)
    panels = (("ttft_s", "Time to first token"), ("tpot_s", "Time per output token"), ("e2e_s", "End-to-end latency"))
    for axis, (column, name) in zip(axes, panels, strict=True):
        values = {label: np.sort(run.requests[column].dropna().to_numpy(np.float64)) for label, run in named.items()}
        largest = max((float(item[-1]) for item in values.values() if len(item)), default=1.0)
        scale, unit = (1e3, "ms") if largest < 2.0 else (1.0, "s")
        for (label, item), colour in zip(values.items(), PALETTE * len(values), strict=False):
            if not len(item):
                continue
            at = [float(np.percentile(item, percent)) * scale for percent in (50, 99)]
            said = f"P50 {_three_digits(at[0])}, P99 {_three_digits(at[1])} {unit}"
            shown = f"{label}: {said}" if label else said
            drawn = np.unique(np.linspace(0, len(item) - 1, 2000).astype(np.int64))  # no more than can be seen
            axis.plot(item[drawn] * scale, (drawn + 1) / len(item) * 100, color=colour, label=shown)
            axis.plot(at, [50, 99], linestyle="", marker="o", markersize=4, color=colour, clip_on=False, zorder=4)
        smallest = min((float(item[0]) for item in values.values() if len(item)), default=0.0)
        axis.set_xlim(left=0 if smallest < 0.5 * largest else None)
        axis.set(title=name, xlabel=f"{name.lower()} ({unit})", ylim=(0, 101))
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), fontsize=8)
    axes[0].set_ylabel("requests at or below (%)")
    _suptitle(figure, title)
    return figure


def _three_digits(value: float) -> str:
    """Three digits, without an exponent.

    >>> _three_digits(1234.5), _three_digits(0.01234)
    ('1,234', '0.0123')
    """
    if value == 0:
        return "0"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def _suptitle(figure: "Figure", title: str) -> None:
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)


@styled
def load_over_time(run: Run, title: str = "Load over time") -> "Figure":
    """Requests in the system, output tokens a second and, where steps were recorded, KV use over time."""
    done = run.requests[run.requests["first_token_s"].notna()]
    steps = run.steps if run.steps is not None and len(run.steps) else None
    figure, axes = _figure(3 if steps is not None else 2, 1, (9.0, 6.0 if steps is not None else 4.2), sharex=True)
    end = float(np.nanmax([run.requests["arrival_s"].max(), done["last_token_s"].max() if len(done) else 0.0]))
    edges = np.linspace(0.0, end if end > 0 else 1.0, 241)
    width = edges[1] - edges[0]
    _requests_panel(axes[0], run.requests, edges)
    rate = token_rate(done, edges) / width if len(done) else np.zeros(len(edges) - 1)
    axes[1].fill_between(edges[:-1], rate, step="post", color=BLUE, alpha=0.25, linewidth=0)
    axes[1].step(edges[:-1], rate, where="post", color=BLUE, linewidth=1.2)
    axes[1].set(title="Throughput", ylabel="output tokens / s")
    if steps is not None:
        _memory_panel(axes[2], steps, edges, float(run.totals.get("kv_block", math.nan)))
    for axis in axes:
        axis.set_ylim(bottom=0)
        axis.set_xlim(0, edges[-1])
    axes[-1].set_xlabel("time (s)")
    _suptitle(figure, title)
    return figure


def _requests_panel(axis: "Axes", requests: pd.DataFrame, edges: Floats) -> None:
    """Requests running and waiting, stacked."""

    def before(column: str) -> Floats:
        return np.searchsorted(np.sort(requests[column].dropna().to_numpy()), edges, side="right").astype(np.float64)

    served = requests[requests["status"] != "refused"]
    arrived = np.searchsorted(np.sort(served["arrival_s"].to_numpy()), edges, side="right")
    running = before("scheduled_s") - before("finish_s")
    waiting = np.maximum(arrived - before("scheduled_s"), 0)
    colours = (GREEN, ORANGE)
    axis.stackplot(edges, np.maximum(running, 0), waiting, colors=colours, alpha=0.75, linewidth=0, step="post",
                   labels=("running", "waiting"))  # fmt: skip
    axis.set(title="Requests in the system", ylabel="requests")
    axis.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.2)


def _memory_panel(axis: "Axes", steps: pd.DataFrame, edges: Floats, num_block: float) -> None:
    """Share of KV blocks held by sequences and kept for the cache, averaged over replicas."""
    whole = math.isfinite(num_block) and num_block > 0
    scale = 100.0 / num_block if whole else 1.0
    used, cached = (_sampled(steps, name, edges) * scale for name in ("used_block", "cached_block"))
    axis.stackplot(edges, used, cached, colors=(PURPLE, SKY), alpha=0.7, linewidth=0, step="post",
                   labels=("held by sequences", "kept for the prefix cache"))  # fmt: skip
    axis.set(title="KV memory", ylabel="KV blocks (%)" if whole else "KV blocks")
    if whole:
        axis.set_ylim(0, 105)
    axis.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.2)


def _sampled(steps: pd.DataFrame, name: str, edges: Floats) -> Floats:
    """A step column at the edges (what the last step before said), averaged over replicas."""
    found = []
    for _, own in steps.groupby("replica"):
        own = own.sort_values("start_s")
        last = np.searchsorted(own["start_s"].to_numpy(), edges, side="right") - 1
        values = own[name].to_numpy(np.float64)
        found.append(np.where(last >= 0, values[np.maximum(last, 0)], 0.0))
    return np.asarray(np.mean(found, axis=0))


ROOF_COLUMNS: dict[str, str] = {
    "operator": "name",
    "kind": "kernel",
    "flop": "FLOPs of all repetitions",
    "mem_byte": "bytes to and from device memory of all repetitions",
    "time_s": "time of all repetitions",
}


@styled
def roofline(
    points: pd.DataFrame, peaks: Sequence[tuple[str, float]], mem_byte_per_s: float, title: str = "Roofline"
) -> "Figure":
    """Operators (`ROOF_COLUMNS`; the area of a mark is its share of the time) under the roof of a device.

    `peaks`: (label, FLOP/s) of the ceilings, such as bf16 and fp8. A column `phase` makes a panel a phase.
    Operators without FLOPs or bytes are left out, and a caption says what share of the time they take.
    """
    phases = list(dict.fromkeys(points["phase"])) if "phase" in points else [""]
    size = (7.8, 5.0) if len(phases) == 1 else (6.2 * len(phases), 5.0)
    figure, axes = _figure(1, len(phases), size, sharex=True, sharey=True, squeeze=False)
    parts = [points[points["phase"] == phase] if phase else points for phase in phases]
    for axis, phase, part in zip(axes[0], phases, parts, strict=True):
        axis.set_title(phase)
        _marks(axis, part)
    some = _on_roof(points)
    low, high = _decades((some["flop"] / some["mem_byte"]).tolist(), [peak / mem_byte_per_s for _, peak in peaks])
    slowest = float((some["flop"] / some["time_s"]).min()) if len(some) else math.inf
    best = max(peak for _, peak in peaks)
    for axis in axes[0]:
        axis.set(xscale="log", yscale="log", xlim=(low, high), xlabel="operational intensity (FLOP / byte of memory)")
        axis.set_ylim(min(low * mem_byte_per_s, slowest / 2), best * 4)
        _roofs(axis, low, high, peaks, mem_byte_per_s)
    axes[0][0].set_ylabel("FLOP / s")
    _suptitle(figure, title)
    _legend(figure, axes[0][0], parts)
    figure.draw_without_rendering()  # so that the places of labels are known
    for axis, part in zip(axes[0], parts, strict=True):
        _label_slope(axis, low, mem_byte_per_s)
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


def _label_slope(axis: "Axes", low: float, mem_byte_per_s: float) -> None:
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
        color=INK,
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
    for i in np.argsort(-time_s, kind="stable")[:8]:
        if time_s[i] < 0.01 * total_s:
            break
        text = f"{names[i]} {time_s[i] / total_s:.0%}"
        width, height = 4.6 * len(text), 9.0  # of the 8-point font
        (x, y), gap = centre[i], radius[i] + 3
        for step in range(24):
            dy = (step // 2 + 1) // 2 * 11.0 * (-1 if step // 2 % 2 else 1)
            left = x + gap if step % 2 == 0 else x - gap - width
            box = (left, y + dy - height / 2, left + width, y + dy + height / 2)
            inside = box[0] > frame[0] and box[2] < frame[2] and box[1] > frame[1] and box[3] < frame[3]
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                stroke = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.6} if abs(dy) > gap else None
                at = (left - x if step % 2 == 0 else left + width - x, dy)
                axis.annotate(
                    text,
                    (place[i, 0], place[i, 1]),
                    xytext=at,
                    textcoords="offset points",
                    fontsize=8,
                    color=INK,
                    ha="left" if step % 2 == 0 else "right",
                    va="center",
                    arrowprops=stroke,
                    zorder=5,
                )
                break


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
