"""How wrong the shipped engine profiles are on what their fits have not seen, read from the profiles."""

import pandas as pd

from sim.serving.engine_profile import load, names

COLUMNS = ("engine", "data", "metric", "n", "error", "left_out_error", "left_out", "system")


def left_out() -> pd.DataFrame:
    """A row a fitted profile and metric: mean absolute errors (fractions of the measured value) on what was fitted and
    on what was left out, `n` shapes or stages fitted, and how they were left out.

    >>> set(left_out()["engine"]) >= {"vllm_0.15", "vllm_2023_h100"}
    True
    """
    rows = []
    for name in names():
        profile = load(name)
        fit = profile.fit
        for metric in fit.error if fit is not None else ():
            assert fit is not None
            errors = (fit.num_run, fit.error[metric], fit.left_out_error[metric], fit.left_out)
            rows.append((name, fit.data, metric, *errors, profile.device))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def markdown(frame: pd.DataFrame) -> str:
    """The table as docs/accuracy.md has it, errors in per cent."""
    lines = [
        "| engine | measured | metric | fitted | error % | left out, error % | left out |",
        "|---|---|---|---:|---:|---:|---|",
    ]
    rows = (
        f"| {row[0]} | {row[1]} | {row[2]} | {row[3]} | {100 * row[4]:.1f} | {100 * row[5]:.1f} | {row[6]} |"
        for row in frame.itertuples(index=False)
    )
    return "\n".join([*lines, *rows])
