"""Charts as inline SVG: lines and steps, points, bars, spans of time. Axes begin at zero unless they are logarithmic;
one quantity an axis. Colours are classes of the page's style, so that they follow its ground."""

import itertools
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sim.show.page.page import NUM_COLOUR
from sim.show.tables import number

WIDTH, HEIGHT = 480, 290
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 40
CHARACTER = 6.4  # how wide one is at most, on average
MAX_POINT = 400  # of a line: no more than can be seen

Floats = npt.NDArray[np.float64]


class Axis(NamedTuple):
    """A quantity with its unit, and the range that is drawn."""

    label: str
    high: float
    low: float = 0.0
    log: bool = False

    def share(self, value: float) -> float:
        """Where a value lies: 0 the beginning of the axis, 1 its end."""
        if self.log:
            return (math.log10(value) - math.log10(self.low)) / (math.log10(self.high) - math.log10(self.low))
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round values on it.

        >>> Axis("s", 9.0).ticks(), Axis("FLOP/s", 1e4, 1.0, True).ticks()
        ([0.0, 2.0, 4.0, 6.0, 8.0], [1.0, 10.0, 100.0, 1000.0, 10000.0])
        """
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            return [10.0**power for power in range(first, last + 1, max(1, (last - first) // 5))]
        least = (self.high - self.low) / 5
        base = 10.0 ** math.floor(math.log10(least))
        step = next(base * k for k in (1, 2, 5, 10) if base * k >= least * 0.999)
        return [k * step for k in range(math.floor(self.high / step + 1e-9) + 1)]


def up_to(label: str, *values: Any) -> Axis:
    """An axis from zero that holds all values."""
    high = max((float(np.nanmax(v)) for v in map(np.asarray, values) if np.isfinite(v).any()), default=0.0)
    return Axis(label, high * 1.05 if high > 0 else 1.0)


def lines(
    title: str, x: Axis, y: Axis, series: Mapping[str, tuple[Any, Any]], *, step: bool = False, said: str = ""
) -> str:
    """A line a series, [n] against [n]; `step`: a value holds until the next."""
    drawn = []
    for k, (xs, ys) in enumerate(series.values()):
        path = ""
        for at, (one, other) in enumerate(zip(_px(x, xs), _py(y, ys), strict=True)):
            path += f"M{one},{other}" if at == 0 else f"H{one}V{other}" if step else f"L{one},{other}"
        drawn.append(f'<path class="s{k % NUM_COLOUR}" stroke-width="1.6" d="{path}"/>')
    return figure(title, x, y, "".join(drawn), list(series), said)


def points(
    title: str, x: Axis, y: Axis, series: Mapping[str, Sequence[tuple[float, float, str, str]]], *, said: str = "",
    behind: str = "", radius: Mapping[str, Sequence[float]] | None = None,
) -> str:  # fmt: skip
    """A mark a point (x, y, what is written beside it, what the pointer reads); `radius` in units of the drawing; the
    first lie on top. What would be written over something is left to the pointer."""
    marks, words, taken = list[str](), list[str](), list[tuple[float, float, float]]()
    for k, (name, rows) in enumerate(series.items()):
        sizes = radius[name] if radius else [4.0] * len(rows)
        for (one, other, word, whole), size in zip(rows, sizes, strict=True):
            (px,), (py,) = _px(x, [one]), _py(y, [other])
            marks.append(f'<circle class="f{k % NUM_COLOUR}" fill-opacity=".75" cx="{px}" cy="{py}" r="{size:.1f}">'
                         f"<title>{escape(whole)}</title></circle>")  # fmt: skip
            right, wide = float(px) > WIDTH - 90, 6.5 * len(word)
            begin, base = float(px) + (-6 - wide if right else 6), float(py) - 5
            free = all(abs(base - there) > 11 or begin > last or begin + wide < first for first, last, there in taken)
            if word and free:
                taken.append((begin, begin + wide, base))
                words.append(f'<text x="{float(px) + (-6 if right else 6):.1f}" y="{base:.1f}"'
                             f' text-anchor="{"end" if right else "start"}">{escape(word)}</text>')  # fmt: skip
    return figure(title, x, y, behind + "".join([*reversed(marks), *words]), list(series), said)


def line(x: Axis, y: Axis, ends: Sequence[tuple[float, float]], kind: str = "roof") -> str:
    """A line through points, to be laid behind others."""
    path = "L".join(f"{px},{py}" for one, other in ends for px, py in zip(_px(x, [one]), _py(y, [other]), strict=True))
    return f'<path class="{kind}" stroke-width="1.4" d="M{path}"/>'


def bars(title: str, unit: str, rows: Mapping[str, Mapping[str, float]], *, said: str = "") -> str:
    """A bar a row, its parts one after another; parts of one name have one colour, and the sum stands at the end."""
    names = list(dict.fromkeys(name for parts in rows.values() for name in parts))
    x = up_to(unit, [sum(parts.values()) for parts in rows.values()])
    wide = min(max(130.0, 12 + CHARACTER * max(map(len, rows), default=0)), WIDTH / 2)
    height, room = TOP + 20 * len(rows) + BOTTOM, WIDTH - wide - RIGHT - 54
    drawn = _below(x, wide, room, height)
    for at, (label, parts) in enumerate(rows.items()):
        top, begin = TOP + 20 * at, wide
        drawn += f'<text x="{wide - 6:.1f}" y="{top + 13}" text-anchor="end">{escape(label)}</text>'
        for name, value in parts.items():
            size = room * x.share(value)
            drawn += (f'<rect class="f{names.index(name) % NUM_COLOUR}" x="{begin:.1f}" y="{top + 3}" '
                      f'width="{size:.1f}" height="14"><title>{escape(f"{label}, {name}: {value:.6g} {unit}")}</title>'
                      "</rect>")  # fmt: skip
            begin += size
        drawn += f'<text x="{begin + 4:.1f}" y="{top + 14}">{number(sum(parts.values()))}</text>'
    return _svg(title, drawn, height, names if len(names) > 1 else [], said)


def spans(title: str, unit: str, rows: Sequence[tuple[str, Sequence[float]]], names: Sequence[str], *,
          said: str = "") -> str:  # fmt: skip
    """A row each, and on it one span after another: from its first time to its second, to its third, ..."""
    x = up_to(unit, [times[-1] for _, times in rows])
    each = max(2.0, min(14.0, 420 / max(len(rows), 1)))
    height = math.ceil(TOP + each * len(rows) + BOTTOM)
    drawn = _below(x, LEFT, WIDTH - LEFT - RIGHT, height)
    for at, (label, times) in enumerate(rows):
        for k, (begin, end) in enumerate(itertools.pairwise(times)):
            if not end > begin:
                continue
            (one, other) = _px(x, [begin, end])
            drawn += (f'<rect class="f{k}" x="{one}" y="{TOP + each * at:.1f}" '
                      f'width="{max(float(other) - float(one), 0.3):.1f}" height="{each * 0.8:.1f}"><title>'
                      f"{escape(f'{label}, {names[k]}: {begin:.6g} to {end:.6g} {unit}')}</title></rect>")  # fmt: skip
    return _svg(title, drawn, height, names, said)


def figure(title: str, x: Axis, y: Axis, drawn: str, names: Sequence[str], said: str = "") -> str:
    """What was drawn, with its axes, title and key."""
    frame = _below(x, LEFT, WIDTH - LEFT - RIGHT, HEIGHT)
    for value, at in zip(y.ticks(), _py(y, y.ticks()), strict=True):
        frame += (f'<path class="rule" d="M{LEFT},{at}H{WIDTH - RIGHT}"/>'
                  f'<text x="{LEFT - 5}" y="{float(at) + 4:.1f}" text-anchor="end">{_short(value)}</text>')  # fmt: skip
    frame += f'<text transform="translate(11,{(TOP + HEIGHT - BOTTOM) // 2}) rotate(-90)" text-anchor="middle">'
    return _svg(title, f"{frame}{escape(y.label)}</text>{drawn}", HEIGHT, names, said)


def _below(x: Axis, left: float, room: float, height: float) -> str:
    """The horizontal axis, its ticks and its label."""
    base = height - BOTTOM
    drawn = f'<path class="axis" d="M{left},{base}H{left + room}"/>'
    for value in x.ticks():
        at = left + room * x.share(value)
        drawn += (f'<path class="rule" d="M{at:.1f},{TOP}V{base}"/>'
                  f'<text x="{at:.1f}" y="{base + 14}" text-anchor="middle">{_short(value)}</text>')  # fmt: skip
    return drawn + f'<text x="{left + room / 2:.1f}" y="{base + 31}" text-anchor="middle">{escape(x.label)}</text>'


def _svg(title: str, drawn: str, height: float, names: Sequence[str], said: str) -> str:
    words = escape(title)
    key = "".join(f'<li><i class="f{k % NUM_COLOUR}"></i>{escape(name)}</li>' for k, name in enumerate(names) if name)
    return (
        f"<figure><figcaption>{words}{f'<small>{escape(said)}</small>' if said else ''}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{words}">{drawn}</svg>'
        f"{f'<ul class=key>{key}</ul>' if key else ''}</figure>\n"
    )


def _px(x: Axis, values: Any) -> list[str]:
    room = WIDTH - LEFT - RIGHT
    return [f"{LEFT + room * x.share(float(value)):.1f}" for value in values]


def _py(y: Axis, values: Any) -> list[str]:
    room = HEIGHT - TOP - BOTTOM
    return [f"{HEIGHT - BOTTOM - room * y.share(float(value)):.1f}" for value in values]


def _short(value: float) -> str:
    """A tick in few characters.

    >>> [_short(v) for v in (0.0, 0.25, 1500.0, 2e6, 1e15)]
    ['0', '0.25', '1.5k', '2M', '1e15']
    """
    for scale, letter in ((1e6, "M"), (1e3, "k")):
        if scale <= abs(value) < 1e9:
            return f"{value / scale:.4g}{letter}"
    return f"{value:.4g}".replace("e+", "e")
