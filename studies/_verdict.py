"""The row that every study returns: what was published, what comes out here, and a verdict that can fail.

======================= ==============================================================================================
column                  what it holds
======================= ==============================================================================================
system, claim, setup    whose number, which one, and on what
paper, simulated        the published number and ours; an order is 1 where it holds; `paper` is empty for a point that
                        only a picture needs
error                   simulated / paper - 1, signed
bound                   the largest error that still counts: 10 % where the published number is exact, 20 % where it is
                        approximate (read off a figure, rounded), less where a tighter one is set; never more
verdict                 `reproduced`, `not reproduced`, or `said`: no set-up is published to hold the number to
kind                    `number`, `order` (a sign or a ranking), `fitted` (a constant was fitted on this number)
assumptions             what the paper leaves open, and what is known of a miss
seconds                 of the run that made the row; the runner fills it in, the same for every row of a study
======================= ==============================================================================================

Bounds have two sides whatever the wording: "up to X" is our largest over the paper's own grid against X. A number that
is told from "nothing happens" (a speedup of 1, a saving of 0) by less than its bound gives its `null`: the bound then
ends there, and what falls on the other side is a row of its own, an order that does not hold.
"""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from kernels.errors import InputError
from sim.run.study import COLUMNS

TAG = {"exact": 0.10, "approx": 0.20}
REPRODUCED, MISSED, SAID = "reproduced", "not reproduced", "said"


def row(
    system: str, claim: str, setup: str, paper: float, simulated: float, assumptions: str = "", *,
    tag: str = "exact", bound: float | None = None, points: float | None = None, null: float | None = None,
    kind: str = "number", said: bool = False, spread: Sequence[float] = (),
) -> dict[str, Any]:  # fmt: skip
    """A published number beside ours. `bound` (a fraction) or `points` (a difference, where numbers are shares) is a
    tighter figure than the tag's; `said`: nothing is published to hold it to. `spread`: our results over what the paper
    leaves open; a number that only some of them reach is not reproduced.

    >>> r = row("ZB-2p", "speedup", "28.3B", 1.31, 1.40, null=1.0)
    >>> round(r["error"], 3), r["bound"], r["verdict"]
    (0.069, 0.1, 'reproduced')
    >>> row("BitPipe", "speedup", "", 1.05, 0.99, null=1.0)["verdict"]
    'not reproduced'

    Raises `InputError` for a bound wider than the tag's, and for a number whose relative error means nothing.
    """
    if tag not in TAG or kind not in ("number", "fitted"):
        raise InputError("unknown", field="tag, kind", value=(tag, kind), allowed=[*TAG, "number", "fitted"])
    if not math.isfinite(paper) or paper in (0, null):
        raise InputError("a verdict needs a published number apart from nothing", field="paper", value=paper)
    allowed = TAG[tag]
    if points is not None:
        bound = min(allowed, points / abs(paper))
    if bound is not None and not 0 <= bound <= allowed:
        raise InputError(f"wider than an {tag} number allows", field="bound", value=bound, allowed=f"at most {allowed}")
    limit = allowed if bound is None else bound
    if null is not None:
        limit = min(limit, abs(paper - null) / abs(paper))
    error = simulated / paper - 1
    aside = null is not None and (simulated - null) * (paper - null) <= 0
    near = not aside and all(abs(value / paper - 1) <= limit for value in (simulated, *spread))
    if spread:
        text = f"{min(spread):.4g} to {max(spread):.4g} over what the paper leaves open"
        assumptions = f"{text}; {assumptions}" if assumptions else text
    verdict = SAID if said else REPRODUCED if near else MISSED
    return {
        "system": system, "claim": claim, "setup": setup, "paper": float(paper), "simulated": float(simulated),
        "error": float(error), "bound": math.nan if said else float(limit), "verdict": verdict, "kind": kind,
        "assumptions": assumptions, "seconds": math.nan, "flip": aside and not said,
    }  # fmt: skip


def order(system: str, claim: str, setup: str, true: bool, assumptions: str = "") -> dict[str, Any]:
    """A sign or a ranking that the paper states: 1 where it holds here too."""
    return {
        "system": system, "claim": claim, "setup": setup, "paper": 1.0, "simulated": float(true),
        "error": float(true) - 1, "bound": 0.0, "verdict": REPRODUCED if true else MISSED, "kind": "order",
        "assumptions": assumptions, "seconds": math.nan,
    }  # fmt: skip


def point(system: str, claim: str, setup: str, simulated: float, assumptions: str = "") -> dict[str, Any]:
    """A value that the picture needs and that nothing was published for."""
    return {
        "system": system, "claim": claim, "setup": setup, "paper": math.nan, "simulated": float(simulated),
        "error": math.nan, "bound": math.nan, "verdict": SAID, "kind": "number", "assumptions": assumptions,
        "seconds": math.nan,
    }  # fmt: skip


def frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """The rows as a DataFrame of `COLUMNS`, with a row more for each number on the other side of its null."""
    every: list[dict[str, Any]] = []
    for one in rows:
        every.append(one)
        if one.get("flip"):
            note = f"published {one['paper']:.4g}, here {one['simulated']:.4g}"
            every.append(order(one["system"], f"sign: {one['claim']}", one["setup"], False, note))
    return pd.DataFrame(every, columns=list(COLUMNS))


def judged(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that something was published for: all but the points of pictures."""
    return rows[rows["paper"].notna()]
