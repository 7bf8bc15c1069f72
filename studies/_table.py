"""The table that every study returns, and its picture: paper against simulated, a row a claim."""

from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ("system", "claim", "setup", "paper", "simulated", "error", "verdict", "assumptions")


def row(
    system: str, claim: str, setup: str, paper: float | tuple[float, float], simulated: float, assumptions: str = "",
    tolerance: float = 0.1,
) -> dict[str, Any]:  # fmt: skip
    """One claim. `paper` is a number (reproduced within `tolerance` of it) or a range (reproduced inside it, the same
    tolerance beyond its ends); `error` is relative to the number or to the nearer end.

    >>> row("s", "speedup", "", (1.05, 1.28), 1.1)["verdict"], row("s", "speedup", "", 2.0, 1.5)["verdict"]
    ('reproduced', 'not reproduced')
    """
    low, high = paper if isinstance(paper, tuple) else (paper, paper)
    nearest = min(max(simulated, low), high)
    error = (simulated - nearest) / nearest if nearest else simulated
    verdict = "reproduced" if abs(error) <= tolerance else "not reproduced"
    text = f"{low:g} to {high:g}" if low != high else f"{low:g}"
    return dict(zip(COLUMNS, (system, claim, setup, text, simulated, error, verdict, assumptions), strict=True))


def bars(table: pd.DataFrame, title: str) -> "Figure":
    """Paper (a mark, or a span) and simulated (a bar) of each row."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 0.5 * len(table) + 1.4), layout="constrained")
    for at, (paper, simulated, verdict) in enumerate(
        zip(table["paper"], table["simulated"], table["verdict"], strict=True)
    ):
        low, high = (float(part) for part in (paper.split(" to ") * 2)[:2])
        axes.barh(at, simulated, color="#4c78c8" if verdict == "reproduced" else "#d8933c", height=0.6)
        axes.plot([low, high], [at, at], "k|-", ms=14, lw=2)
    labels = table["system"] + ": " + table["claim"] + " (" + table["setup"] + ")"
    axes.set(yticks=range(len(table)), yticklabels=labels, title=title, xlabel="bar: simulated; mark: paper")
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=7)
    return figure
