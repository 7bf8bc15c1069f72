"""Batches of documents with long-tailed lengths, and pictures of what they cost."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from sim.show.plot_style import PALETTE, new_figure, styled, suptitle

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Ints = npt.NDArray[np.int64]
SHORTEST = 16  # tokens


def drawn(median: float, spread: float, count: int, seed: int = 0) -> Ints:
    """`count` log-normal lengths: their median, and the standard deviation of their logarithms."""
    value = median * np.exp(spread * np.random.default_rng(seed).standard_normal(count))
    return np.maximum(value.astype(np.int64), SHORTEST)


def dropped(median: float, spread: float, count: int, context: int, seed: int = 0) -> Ints:
    """`count` lengths, those beyond `context` tokens left out.

    >>> int(dropped(1500.0, 1.2, 1000, 4096).max()) <= 4096
    True
    """
    length = drawn(median, spread, 4 * count, seed)
    return length[length <= context][:count]


def filled(median: float, spread: float, token: int, context: int, seed: int = 0) -> Ints:
    """As many lengths within `context` as make up `token` tokens."""
    length = drawn(median, spread, max(1024, token // 64), seed)
    length = length[length <= context]
    return length[: int(np.searchsorted(np.cumsum(length), token)) + 1]


def spread_for(median: float, share: float, threshold: int, context: int) -> float:
    """The spread at which `share` of the tokens within `context` are in documents of `threshold` tokens and more.

    Of a log-normal, tokens lie log-normally around median exp(spread^2), so that the share is a ratio of two normal
    integrals; it grows with the spread, which halving therefore finds.

    >>> s = spread_for(1000.0, 0.16, 131072, 2**21)
    >>> length = dropped(1000.0, s, 1_000_000, 2**21)
    >>> bool(abs(length[length >= 131072].sum() / length.sum() - 0.16) < 0.02)
    True
    """
    from scipy.special import ndtr

    low, high = 0.1, 4.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        beyond, within = (
            1 - ndtr((np.log(edge / median) - middle**2) / middle) for edge in (float(threshold), float(context))
        )
        low, high = (middle, high) if (beyond - within) / (1 - within) < share else (low, middle)
    return low


@styled
def grouped(points: pd.DataFrame, series: Sequence[str], unit: str, title: str) -> "Figure":
    """A panel for each part of the setups before "; ": a bar for each system of `series`, with the gain of the last
    over the first above it."""
    place_of = points["setup"].str.split("; ")
    panels = list(dict.fromkeys(place_of.str[0]))
    figure, axes = new_figure(1, len(panels), (1.5 + 4.8 * len(panels), 4.2), squeeze=False)
    width = 0.8 / len(series)
    for axis, panel in zip(axes[0], panels, strict=True):
        part = points[place_of.str[0] == panel]
        names = list(dict.fromkeys(place_of[part.index].str[1]))
        height = {name: part[part["system"] == name].set_index("setup")["simulated"].to_numpy(float) for name in series}
        for at, (name, colour) in enumerate(zip(series, PALETTE, strict=False)):
            place = np.arange(len(names)) + width * (at - (len(series) - 1) / 2)
            axis.bar(place, height[name], width, color=colour, label=name)
        for at, values in enumerate(np.array([height[name] for name in series]).T):
            axis.annotate(f"{values[0] / values[-1]:.2f}x", (at, values.max()), (0, 3), textcoords="offset points",
                          ha="center", fontsize=7)  # fmt: skip
        axis.set_xticks(range(len(names)), [name.replace(", ", "\n") for name in names], fontsize=7)
        axis.set(title=panel, ylabel=unit if axis is axes[0][0] else "")
        axis.margins(y=0.1)
        axis.grid(axis="x", visible=False)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=len(series), fontsize=8)
    suptitle(figure, title)
    return figure
