"""How wrong the shipped calibrations are on shapes that their fits have not seen, read from the profiles."""

import pandas as pd

from hw_models.profile import FOLDER, load, shipped

FITTED_WITH = ("kv_write", "p2p")  # on the rows of prefill attention and of all-to-all, which are in the table
COLUMNS = ("kind", "format", "kernel", "system", "size_class", "n", "coverage", "mape", "median", "p90", "bias")


def held_out() -> pd.DataFrame:
    """A row a fitted kernel that has held-out rows, and a row a part of them (`size_class`) where a profile tells
    parts apart: their number (all were compared) and errors, fractions of the measured time.

    >>> set(held_out()["system"]) >= {"a100_sxm", "h100_sxm"}
    True
    """
    rows = []
    for device in (*shipped(), *sorted(file.name for file in FOLDER.glob("*.toml"))):
        for kernel in load(FOLDER / device).kernel:
            found = kernel.held_out
            if found is not None and found.n and kernel.kind not in FITTED_WITH:
                named = kernel.kind, kernel.format, kernel.name, device.removesuffix(".toml")
                for part, error in {"all": found, **kernel.part}.items():
                    rows.append((*named, part, error.n, 1.0, error.mape, error.median, error.p90, error.bias))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def markdown(frame: pd.DataFrame) -> str:
    """The table as docs/accuracy.md has it, errors in per cent."""
    lines = [
        "| device | operator | format | kernel | shapes | MAPE % | median % | p90 % | bias % |",
        "|---|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for kind, fmt, kernel, system, part, n, _, *error in frame.itertuples(index=False):
        errors = " | ".join(f"{100 * float(value):.1f}" for value in error)
        name = kernel if part == "all" else f"{kernel}, {part}"
        lines.append(f"| {system} | {kind} | {fmt} | {name} | {n:,} | {errors} |")
    return "\n".join(lines)
