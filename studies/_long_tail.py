"""Batches of documents with long-tailed lengths, and pictures of what they cost."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from sim.show.plot_style import PALETTE, new_figure, styled, suptitle

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# median and spread of log length, our choice: most documents are short and a few in a thousand are longer than
# 100,000 tokens (code), or a few in a million (articles)
DATA = {"code": (2000.0, 1.6), "web": (1500.0, 1.2), "articles": (700.0, 1.3)}
LONG = (2000.0, 2.0)  # code with whole repositories: one document in a hundred is longer than 200,000 tokens


def lengths(data: str, count: int, context: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """`count` log-normal lengths of `DATA`, cut off at `context` tokens.

    >>> int(lengths("web", 1000, 4096).max())
    4096
    """
    median, spread = DATA[data]
    drawn = np.exp(np.log(median) + spread * np.random.default_rng(seed).standard_normal(count))
    return np.clip(drawn.astype(np.int64), 16, context)


def filled(token: int, context: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """As many lengths of `LONG`, cut off at `context`, as make up `token` tokens."""
    drawn = np.exp(np.log(LONG[0]) + LONG[1] * np.random.default_rng(seed).standard_normal(token // 256))
    length = np.clip(drawn.astype(np.int64), 16, context)
    return length[: int(np.searchsorted(np.cumsum(length), token)) + 1]


@styled
def grouped(
    table: pd.DataFrame, by: str, label: Sequence[str], series: Sequence[str], unit: str, title: str
) -> "Figure":
    """A panel for each value of column `by`: a bar for each of the columns `series`, with the gain of the last over
    the first above it."""
    panels = list(dict.fromkeys(table[by]))
    figure, axes = new_figure(1, len(panels), (1.5 + 4.8 * len(panels), 4.2), squeeze=False)
    width = 0.8 / len(series)
    for axis, panel in zip(axes[0], panels, strict=True):
        part = table[table[by] == panel]
        for at, (name, colour) in enumerate(zip(series, PALETTE, strict=False)):
            place = np.arange(len(part)) + width * (at - (len(series) - 1) / 2)
            axis.bar(place, part[name], width, color=colour, label=name)
        for at, values in enumerate(part[list(series)].to_numpy(float)):
            axis.annotate(f"{values[0] / values[-1]:.2f}x", (at, values.max()), (0, 3), textcoords="offset points",
                          ha="center", fontsize=7)  # fmt: skip
        names = ["\n".join(str(value) for value in one) for one in part[list(label)].itertuples(index=False)]
        axis.set_xticks(range(len(part)), names, fontsize=7)
        axis.set(title=panel, ylabel=unit if axis is axes[0][0] else "")
        axis.grid(axis="x", visible=False)
    axes[0][0].legend(fontsize=8, loc="upper left")
    suptitle(figure, title)
    return figure
