"""The rows that every `ridgeline validate` verb prints and writes: one JSON shape, `{"rows": [{...}]}`.

========== ==================================================================
kind       what was compared (an operator, a schedule, a metric)
format     number format, or "-"
kernel     kernel, generator or column
system     machine or file
size_class "all", or a class of sizes
n          comparisons
coverage   share of the given cases that could be compared
mape       mean absolute relative error (errors are fractions of the measured value)
median     median absolute relative error
p90        90th percentile of the same
bias       mean of the signed relative error
========== ==================================================================
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sim.record.export import write_json
from sim.show.tables import table

COLUMNS = ("kind", "format", "kernel", "system", "size_class", "n", "coverage", "mape", "median", "p90", "bias")


def error_row(
    kind: str, kernel: str, system: str, simulated: Sequence[float], measured: Sequence[float], num_case: int,
    *, number_format: str = "-", size_class: str = "all", **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """One row from paired values; `num_case` is how many cases were given, comparable or not.

    >>> row = error_row("t", "k", "s", [1.1, 0.9], [1.0, 1.0], 4)
    >>> row["n"], row["coverage"], round(row["mape"], 6), round(row["bias"], 6)
    (2, 0.5, 0.1, 0.0)
    """
    paired = [(s - m) / m if m else float(s != m) for s, m in zip(simulated, measured, strict=True)]
    signed = np.asarray(paired, float)
    size = np.abs(signed)
    values = [size.mean(), np.median(size), np.percentile(size, 90), signed.mean()] if size.size else [float("nan")] * 4
    row: dict[str, Any] = dict(zip(COLUMNS[:5], (kind, number_format, kernel, system, size_class), strict=True))
    row |= {"n": size.size, "coverage": size.size / num_case if num_case else 0.0}
    row |= dict(zip(COLUMNS[7:], (float(v) for v in values), strict=True))
    return row | more


def report(
    rows: Sequence[dict[str, Any]], path: str | pathlib.Path | None, reasons: Mapping[str, int] | None = None
) -> str:
    """Write the JSON where asked (missing numbers as null; why rows were not run under `reasons`), and return the table
    as text."""
    if path:
        why = [{"reason": reason, "n": n} for reason, n in (reasons or {}).items()]
        write_json({"rows": list(rows)} | ({"reasons": why} if reasons is not None else {}), path)
    return table(pd.DataFrame(rows))
