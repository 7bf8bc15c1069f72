"""How wrong machines are that a relative's calibration prices, as `sim.reference.inherited_fit` found it."""

import math
import pathlib
import tomllib

import pandas as pd

from hw_models.accuracy import COLUMNS
from sim.serving.engine_profile import load, names

FILE = pathlib.Path(__file__).with_name("inherited_accuracy.toml")
MORE = ("relative", "data", "left_out", "model_left_out_mape")


def stated() -> pd.DataFrame:
    """A row a machine, kind of operator and format, or framework whose whole batches were measured (`e2e`): errors with
    nothing taken from the machine but its datasheet. `model_left_out_mape`, of batches: the error where the engine
    profile was fitted on the machine and a model (or a length and batch) left out; NaN for operators.

    >>> set(stated()["system"]) >= {"mi300x", "mi250", "gaudi2", "max_1550", "gh200", "gb200", "l40s", "a40"}
    True
    """
    rows = tomllib.loads(FILE.read_text())["row"]
    own = {(profile.stack, profile.device): profile.fit for name in names() if (profile := load(name)).fit}
    for row in rows:
        fit = own.get((row["kernel"].partition(":")[0].partition(" ")[0], row["system"]))
        row["model_left_out_mape"] = fit.left_out_error["e2e"] if fit and row["kind"] == "e2e" else math.nan
    return pd.DataFrame(rows)[[*COLUMNS, *MORE]]


def markdown(frame: pd.DataFrame) -> str:
    """The table as docs/accuracy.md has it, errors in per cent."""
    lines = [
        "| machine | relative | measured | what | rows | MAPE % | median % | p90 % | bias % | model left out, % |",
        "|---|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in frame.to_dict("records"):
        what = row["kernel"] if row["kind"] == "e2e" else f"{row['kind']} {row['format']}"
        names = ("mape", "median", "p90", "bias", "model_left_out_mape")
        errors = " | ".join("" if math.isnan(row[name]) else f"{100 * row[name]:.1f}" for name in names)
        data = row["data"].rpartition("/")[2]
        lines.append(f"| {row['system']} | {row['relative']} | {data} | {what} | {row['n']:,} | {errors} |")
    return "\n".join(lines)
