"""Every column and number of the results with its unit and its meaning, read from where each is declared."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

UNITS: dict[str, str] = {
    "s": "s", "ms": "ms", "j": "J", "w": "W", "byte": "B", "token": "tokens", "tokens": "tokens", "block": "blocks",
    "share": "share", "h": "$/h", "rate": "%",
}  # fmt: skip
"""What the last word of a name says."""
_SPECIAL = {
    "usd_per_million_token": "$", "energy_j_per_million_token": "J", "usd_per_h": "$/h", "duration": "s",
    "request_throughput": "requests/s", "request_goodput": "requests/s",
    "request_goodput_per_kw": "requests/s/kW", "output_throughput": "tokens/s",
    "total_token_throughput": "tokens/s", "max_output_tokens_per_s": "tokens/s", "priority": "", "request": "",
    "error": "share", "bound": "share", "seconds": "s", "spec_decode_acceptance_length": "tokens",
}  # fmt: skip

STUDY: dict[str, str] = {
    "system": "the published system",
    "claim": "what it says of itself",
    "setup": "the paper's set-up, as simulated",
    "paper": "the published number; empty of a point that is only drawn",
    "simulated": "ours",
    "error": "simulated / paper - 1",
    "bound": "of the error, on both sides",
    "verdict": "reproduced, not reproduced, or said (no set-up is published)",
    "kind": "number, order (a sign or ranking) or fitted (a constant was fitted on it)",
    "assumptions": "what the paper leaves open, and the range over it",
    "seconds": "that the study took",
}


def unit(name: str) -> str:
    """The unit that a name carries; nothing for counts and words.

    >>> unit("ttft_s"), unit("p99_ttft_ms"), unit("prompt_token"), unit("completed"), unit("usd_per_million_token")
    ('s', 'ms', 'tokens', '', '$')
    """
    if name in _SPECIAL:
        return _SPECIAL[name]
    words = re.split("_", name)
    return UNITS.get(words[-1], "") if len(words) > 1 else ""


def found(frame: "pd.DataFrame", name: str) -> "pd.DataFrame":
    """Rows of `columns()` that a name means: of a table, else whose name holds it, else the quantity that a statistic
    (`p99_ttft_ms`, `mean_ttft_ms`) is of, or that an output token shares in what is stated of all tokens."""
    quantity = re.sub(r"^(mean|median|std|p\d+(\.\d+)?)_", "", name)
    quantity = re.sub("(?<=_per_million)_output_token$", "_token", quantity)
    here = frame["table"].eq(name) | frame["column"].str.contains(name, regex=False)
    return frame[here] if here.any() else frame[frame["column"].eq(quantity)]


def columns() -> "pd.DataFrame":
    """A row a column: `table` (requests, steps, operators, metrics, totals, study), `column, unit, meaning`."""
    import pandas as pd

    from sim.record.metrics import METRICS
    from sim.record.records import OPERATOR_COLUMNS, REQUEST_COLUMNS, STEP_COLUMNS, TOTALS

    tables = {
        "metrics": METRICS, "requests": REQUEST_COLUMNS, "steps": STEP_COLUMNS, "operators": OPERATOR_COLUMNS,
        "totals": TOTALS, "study": STUDY,
    }  # fmt: skip
    rows = [(table, name, unit(name), text) for table, held in tables.items() for name, text in held.items()]
    return pd.DataFrame(rows, columns=["table", "column", "unit", "meaning"])


TITLES: dict[str, str] = {
    "metrics": "the numbers of a run: `simulate --json`, `done.metrics`",
    "requests": "a row a request: `requests.csv`, `done.run.requests`",
    "steps": "a row an iteration of an engine: `steps.csv`, `done.run.steps`",
    "operators": "a row an operator and what bound it: `operators.csv`, `done.run.operators`",
    "totals": "of a run: `done.run.totals`",
    "study": "a row a claim: `ridgeline study run NAME --json`",
}


def markdown() -> str:
    """The page docs/columns.md."""
    from sim.show import tables

    frame = columns()
    lines = ["# Columns", "", "Every column and number of the results. Units stand in the names; this page is made by",
             "`ridgeline columns --markdown docs/columns.md` from where each is declared."]  # fmt: skip
    for table, title in TITLES.items():
        part = frame[frame["table"] == table].drop(columns="table")
        part["column"] = [f"`{name}`" for name in part["column"]]
        lines += ["", f"## {table.capitalize()}", "", f"{title[0].upper()}{title[1:]}.", "", tables.markdown(part)]
    return "\n".join(lines) + "\n"
