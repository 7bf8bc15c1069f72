"""How wrong the shipped calibrations are on shapes that their fits have not seen, read from the profiles."""

import pandas as pd

from hw_models.profile import FOLDER, load, shipped

FITTED_WITH = ("kv_write", "p2p")  # on the rows of prefill attention and of all-to-all, which are in the table
COLUMNS = ("device", "operator", "format", "kernel", "n", "mape", "median", "p90", "bias")


def held_out() -> pd.DataFrame:
    """A row a fitted kernel that has held-out rows: their number and errors, fractions of the measured time.

    >>> set(held_out()["device"]) >= {"a100_sxm", "h100_sxm"}
    True
    """
    rows = []
    for device in (*shipped(), *sorted(file.name for file in FOLDER.glob("*.toml"))):
        for kernel in load(FOLDER / device).kernel:
            found = kernel.held_out
            if found is not None and found.n and kernel.kind not in FITTED_WITH:
                for part, error in {"": found, **kernel.part}.items():
                    errors = (error.n, error.mape, error.median, error.p90, error.bias)
                    name = f"{kernel.name}, {part}" if part else kernel.name
                    rows.append((device.removesuffix(".toml"), kernel.kind, kernel.format, name, *errors))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def markdown(frame: pd.DataFrame) -> str:
    """The table as docs/accuracy.md has it, errors in per cent."""
    lines = [
        "| device | operator | format | kernel | shapes | MAPE % | median % | p90 % | bias % |",
        "|---|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in frame.itertuples(index=False):
        errors = " | ".join(f"{100 * float(value):.1f}" for value in row[5:])
        lines.append(f"| {row[0]} | {row[1]} | {row[2]} | {row[3]} | {row[4]:,} | {errors} |")
    return "\n".join(lines)
