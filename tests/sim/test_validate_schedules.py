"""`ridgeline validate schedules` on the published orders, and `ridgeline schedule` on the command line."""

import json
import pathlib

import pytest

from sim.cli import main
from sim.validate.schedules import validate_schedules
from tests.shared_data import folder


def test_every_published_order_is_reproduced_exactly(tmp_path: pathlib.Path) -> None:
    out = tmp_path / "rows.json"
    assert main(["validate", "schedules", str(folder("pipeline_schedules")), "--json", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert {row["coverage"] for row in rows} == {1.0}
    assert [row["kernel"] for row in rows if row["exact"] != row["n"]] == []
    assert [row["kernel"] for row in rows if row["order_exact"] != row["order_n"]] == []
    assert [row["kernel"] for row in rows if row["plan_worse"]] == []
    # 140 heuristic plans, 10 proven optima, 11 V-Half, 13 V-Min and 15 ZB-V
    assert sum(row["plan_n"] for row in rows) == 189


def test_vectors_without_an_order_are_replayed_by_our_own_or_not_covered(tmp_path: pathlib.Path) -> None:
    timing = {"tF": 1, "tB": 1, "tW": 1, "tComm": 0, "makespan": 15}  # (m + p - 1)(F + B) of p = 2, m = 4
    vectors = [{"schedule": name, "p": 2, "m": 4, "v": 1, "timings": [timing]} for name in ("1F1B", "unheard of")]
    (tmp_path / "short.json").write_text(json.dumps({"vectors": vectors}))
    known, unknown = validate_schedules(tmp_path)
    assert (known["n"], known["exact"], known["coverage"]) == (1, 1, 1.0)
    assert (unknown["n"], unknown["coverage"]) == (0, 0.0)


def test_schedule_command(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, plot, order = tmp_path / "z.json", tmp_path / "z.svg", tmp_path / "z.csv"
    given = "schedule zb-v --stages 4 --microbatches 8 --times 5,6,4 --hop 1"
    assert main([*given.split(), "--json", str(out), "--plot", str(plot), "--csv", str(order)]) == 0
    record = json.loads(out.read_text())
    assert record["summary"]["num_op"] == len(record["op"]) == 4 * 8 * 2 * 3
    assert "<svg" in plot.read_text()
    again = tmp_path / "again.json"
    assert main(["schedule", str(order), "--times", "5,6,4", "--hop", "1", "--json", str(again)]) == 0
    assert json.loads(again.read_text())["summary"] == record["summary"]
    assert main(["schedule", "list"]) == 0
    assert "zb-auto" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("schedule 1f1 --stages 2 --microbatches 2", "nearest: 1f1b"),
        ("schedule 1f1b --microbatches 2", "--stages is missing"),
        ("schedule 1f1b --stages 2 --microbatches 2 --times 1,2", "3 integers"),
        ("schedule 1f1b --stages 2 --microbatches 2 --chunks 2", "no such option"),
        ("schedule dualpipe --stages 2 --microbatches 8 --recompute 1", "recompute with overlapped"),
        ("schedule missing.csv", "missing.csv: cannot be read"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(given: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(given.split()) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1
