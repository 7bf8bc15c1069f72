"""What every verb of `validate`, and every table of `accuracy`, writes: one shape of rows, one row a kind over all."""

import json
import math
import pathlib
from typing import Any

import pandas as pd
import pytest

import sim.validate
from sim.cli import main
from sim.reference.accuracy_rows import with_totals
from tests.properties.cases_measured import MEASURED
from tests.shared_data import folder

COLUMNS = ["kind", "format", "kernel", "system", "size_class", "n", "coverage", "mape", "median", "p90", "bias"]
VERBS = sorted(path.stem for path in pathlib.Path(sim.validate.__path__[0]).glob("[a-z]*.py"))
POWER = {"dtype": "bfloat16", "kernel": "torch", "m": 8192, "n": 8192, "k": 8192, "latency_ms": 1.0, "power_w": 900}
ROWS = MEASURED | {"power": (POWER, ("--system", "gb200"))}
TABLES = ("", "--engines", "--energy", "--inherited", "--training")


def check(text: str) -> list[dict[str, Any]]:
    """The rows of a file that was written: their columns, values and totals."""
    written = json.loads(text)
    assert all(set(reason) == {"reason", "n"} and reason["n"] > 0 for reason in written["reasons"])
    rows: list[dict[str, Any]] = written["rows"]
    for row in rows:
        assert list(row)[:11] == COLUMNS
        assert all(isinstance(row[name], str) for name in COLUMNS[:5])
        assert isinstance(row["n"], int)
        assert 0 <= row["coverage"] <= 1
        assert all(row[name] is None or math.isfinite(row[name]) for name in COLUMNS[7:])
        if None not in (row["mape"], row["bias"]):
            assert abs(row["bias"]) <= row["mape"] + 1e-12  # a mean and that of the absolute values
    for kind in {row["kind"] for row in rows}:
        every = [row for row in rows if row["kind"] == kind and all(row[name] == "all" for name in COLUMNS[1:5])]
        assert len(every) == 1, kind
    return rows


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_writes_the_same_columns_and_a_row_a_kind(verb: str, tmp_path: pathlib.Path) -> None:
    row, more = ROWS[verb]
    file, out = tmp_path / ("v.json" if verb == "schedules" else "v.csv"), tmp_path / "out.json"
    if verb == "schedules":
        file.write_text(json.dumps({"vectors": [row]}))
    else:
        pd.DataFrame([row, row | {next(iter(row)): None}]).to_csv(file, index=False)  # and one that says nothing
    assert main(["validate", verb, str(file), *more, "--json", str(out)]) in (0, 3)
    check(out.read_text())


def test_phases_of_iterations_on_a_host_have_their_rows_over_all(tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out.json"
    file = folder("training", "zero3_offload_iterations.csv")
    assert main(["validate", "training", str(file), "--json", str(out)]) == 0
    rows = check(out.read_text())
    assert {row["kind"] for row in rows} == {"forward", "backward", "update", "iteration", "step"}
    for kind in ("forward", "step"):  # over all: every row of the machines' once
        some = [row for row in rows if row["kind"] == kind]
        whole = next(row for row in some if row["system"] == "all")
        assert whole["n"] == 151


@pytest.mark.parametrize("table", TABLES)
def test_every_table_of_accuracy_writes_them_too(table: str, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out.json"
    assert main(["accuracy", *([table] if table else []), "--json", str(out)]) == 0
    assert len(check(out.read_text())) > 3


def test_a_total_counts_each_case_once() -> None:
    """Three cases of 10 % and one of 30 make 15; the same cases left out in another way count no second time, nor do
    parts of them."""
    base = dict(zip(COLUMNS, ("e2e", "-", "a", "s", "all", 3, 1.0, 0.1, 0.1, 0.1, -0.1), strict=True))
    rows = [base, base | {"mape": 0.5}, base | {"kernel": "b", "n": 1, "coverage": 0.5, "mape": 0.3, "bias": 0.3}]
    rows.append(base | {"size_class": "long", "n": 2})
    total = with_totals(pd.DataFrame(rows), ("kernel",)).to_dict("records")[0]
    assert (total["n"], total["coverage"]) == (4, pytest.approx(4 / 5))
    assert (total["mape"], total["bias"]) == (pytest.approx(0.15), pytest.approx(0.0))
    assert math.isnan(total["median"])
