"""How wrong the shipped watts are on what their fit has not seen, as `sim.reference.power_fit` found it."""

import math
import pathlib

import pandas as pd

COLUMNS = ("system", "what", "n", "num_left_out", "median", "left_out_median", "left_out_p90")
FILE = pathlib.Path(__file__).with_name("power_accuracy.toml")


def stated() -> pd.DataFrame:
    """A row a source of watts: rows, groups left out one at a time, and errors (fractions of the measured watts) with
    everything fitted and with the group left out; no error of a fit where there was none.

    >>> set(stated()["system"]) == {"gb200", "h100_sxm"}
    True
    """
    import tomllib

    return pd.DataFrame(tomllib.loads(FILE.read_text())["row"]).reindex(columns=list(COLUMNS))


def markdown(frame: pd.DataFrame) -> str:
    """The table as docs/accuracy.md has it, errors in per cent."""
    lines = [
        "| system | watts of | rows | left out | median % | left out, median % | p90 % |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in frame.itertuples(index=False):
        errors = " | ".join("" if math.isnan(value) else f"{100 * float(value):.1f}" for value in row[4:])
        lines.append(f"| {row[0]} | {row[1]} | {row[2]:,} | {row[3]} | {errors} |")
    return "\n".join(lines)
