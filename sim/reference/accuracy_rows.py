"""The rows that `ridgeline accuracy` writes: the columns of every `validate` verb, and more of its own beside them."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from hw_models.accuracy import COLUMNS

USUAL: dict[str, Any] = {"format": "-", "size_class": "all", "coverage": 1.0, "mape": math.nan, "median": math.nan,
                         "p90": math.nan, "bias": math.nan}  # fmt: skip


def of_engines(frame: pd.DataFrame) -> pd.DataFrame:
    """Errors on what was left out; `fitted_mape`: on what was fitted."""
    named = {"metric": "kind", "engine": "kernel", "left_out_error": "mape", "error": "fitted_mape"}
    return _ordered(frame.rename(columns=named).assign(system=frame["system"].replace("", "-")))


def of_energy(frame: pd.DataFrame) -> pd.DataFrame:
    """Errors of watts on what was left out; `fitted_median`: on what was fitted."""
    named = {"what": "kernel", "median": "fitted_median", "left_out_median": "median", "left_out_p90": "p90"}
    return _ordered(frame.rename(columns=named).assign(kind="power"))


def _ordered(frame: pd.DataFrame) -> pd.DataFrame:
    whole = frame.copy()
    for name, value in USUAL.items():
        if name not in whole:
            whole[name] = value
    return whole[[*COLUMNS, *(name for name in whole if name not in COLUMNS)]]


def with_totals(frame: pd.DataFrame, once: Sequence[str] = ()) -> pd.DataFrame:
    """The rows, and before them one a kind over all that have no finer one above them (`size_class` `all`).

    Means are those of all their cases; a median of several rows is not to be had from theirs, and is NaN. `once`: the
    columns that tell cases apart; of several rows about the same cases (left out in other ways) the first counts.

    >>> row = dict(zip(COLUMNS, ("e2e", "-", "k", "s", "all", 1, 1.0, 0.1, 0.1, 0.1, -0.1)))
    >>> found = with_totals(pd.DataFrame([row, row | {"kernel": "l", "n": 3, "mape": 0.2}]))
    >>> [found[name].tolist()[0] for name in ("kernel", "n", "coverage")], round(float(found["mape"].iloc[0]), 6)
    (['all', 4, 1.0], 0.175)
    """
    counted = frame[(frame["size_class"] == "all") | (frame["kind"] == "step")]
    counted = counted.drop_duplicates(subset=list(once)) if once else counted
    totals = [_total(str(kind), some) for kind, some in counted.groupby("kind", sort=False)]
    return pd.DataFrame([*totals, *frame.to_dict("records")], columns=list(frame.columns))


def _total(kind: str, some: pd.DataFrame) -> dict[str, Any]:
    n, given = int(some["n"].sum()), float((some["n"] / some["coverage"].where(some["coverage"] > 0)).sum())
    error: dict[str, float] = dict.fromkeys(("mape", "median", "p90", "bias"), math.nan)
    known = some[some["n"] > 0]
    for name in ("mape", "bias") if len(known) > 1 else error:
        error[name] = float((known[name] * known["n"]).sum(skipna=False) / n) if n else math.nan
    named = dict.fromkeys(("format", "kernel", "system", "size_class"), "all")
    return {"kind": kind, **named, "n": n, "coverage": n / given if given else 0.0, **error}
