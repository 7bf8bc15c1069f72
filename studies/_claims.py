"""Rows of studies with a bound each, orders and signs as rows, and their picture.

A row is as in `studies._table`; here the bound is stated in the row's assumptions, and an order or a sign is a claim
whose published value is 1.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from sim.show.plot_style import BLUE, ORANGE, new_figure, styled, suptitle
from studies._table import COLUMNS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def row(
    system: str, claim: str, setup: str, paper: float, simulated: float, within: float, assumptions: str = "",
    *, points: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """One row; `within` bounds the relative error, or the difference where the numbers are shares (`points`).

    >>> r = row("duplex", "ratio", "batch 32", 2.0, 2.1, 0.1)
    >>> round(r["error"], 3), r["verdict"]
    (0.05, 'reproduced')
    """
    error = simulated / paper - 1
    off = abs(simulated - paper) if points else abs(error)
    bound = f"bound {within * 100:g} {'points' if points else '%'}"
    return {
        "system": system, "claim": claim, "setup": setup, "paper": float(paper), "simulated": float(simulated),
        "error": float(error), "verdict": "reproduced" if off <= within else "not reproduced",
        "assumptions": f"{bound}; {assumptions}" if assumptions else bound,
    }  # fmt: skip


def holds(system: str, claim: str, setup: str, true: bool, assumptions: str = "") -> dict[str, Any]:
    """A row for an order or a sign: 1 where it holds."""
    return row(system, claim, setup, 1.0, float(true), 0.0, assumptions)


def frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """The rows as a DataFrame of `COLUMNS`."""
    return pd.DataFrame(list(rows), columns=list(COLUMNS))


@styled
def bars(rows: pd.DataFrame, panels: Sequence[tuple[str, str]], title: str) -> "Figure":
    """Paper beside simulated, a panel for each (start of the claim, label of the axis, " (log)" at its end for a
    logarithmic one)."""
    chosen = [rows[rows["claim"].str.startswith(claim)] for claim, _ in panels]
    height = [max(2, len(part)) for part in chosen]
    figure, axes = new_figure(
        len(panels), 1, (8.0, 1.2 + 0.34 * sum(height) + 0.5 * len(panels)), squeeze=False, height_ratios=height
    )
    for axis, part, (claim, label) in zip(axes[:, 0], chosen, panels, strict=True):
        place = list(range(len(part)))
        axis.barh([p - 0.2 for p in place], part["paper"], 0.38, color=ORANGE, label="published")
        axis.barh([p + 0.2 for p in place], part["simulated"], 0.38, color=BLUE, label="simulated")
        labels = [
            f"{one['system']}{str(one['claim']).removeprefix(claim)}: {one['setup']}" for one in part.to_dict("records")
        ]
        axis.set_yticks(place, [name if len(name) <= 58 else name[:57] + "…" for name in labels], fontsize=7)
        axis.invert_yaxis()
        axis.set_xlabel(label.removesuffix(" (log)"))
        if label.endswith(" (log)"):
            axis.set_xscale("log")
        axis.grid(axis="y", visible=False)
    axes[0][0].legend(loc="lower right")
    suptitle(figure, title)
    return figure
