"""`ridgeline validate schedules` on the published orders, and `ridgeline schedule` on the command line."""

import json
import pathlib
import re

import pytest

from kernels.errors import InputError
from sim.cli import main
from sim.pipeline.schedule import run_schedule
from sim.validate.schedules import validate_schedules
from tests.shared_data import folder
from workloads.schedules import load


def test_every_published_order_is_reproduced_exactly(tmp_path: pathlib.Path) -> None:
    out = tmp_path / "rows.json"
    assert main(["validate", "schedules", str(folder("pipeline_schedules")), "--json", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert {row["coverage"] for row in rows} == {1.0}
    assert [row["kernel"] for row in rows if row["exact"] != row["n"]] == []
    assert [row["kernel"] for row in rows if row["order_exact"] != row["order_n"]] == []
    assert [row["kernel"] for row in rows if row["plan_worse"]] == []
    # 140 heuristic plans, 10 proven optima, 11 V-Half, 13 V-Min and 15 ZB-V
    for every in (False, True):  # added up, and in the row of all
        assert sum(row["plan_n"] for row in rows if (row["format"] == "all") == every) == 189


def test_vectors_without_an_order_are_replayed_by_our_own_or_not_covered(tmp_path: pathlib.Path) -> None:
    timing = {"tF": 1, "tB": 1, "tW": 1, "tComm": 0, "makespan": 15}  # (m + p - 1)(F + B) of p = 2, m = 4
    vectors = [{"schedule": name, "p": 2, "m": 4, "v": 1, "timings": [timing]} for name in ("1F1B", "unheard of")]
    (tmp_path / "short.json").write_text(json.dumps({"vectors": vectors}))
    (known, unknown, every), _ = validate_schedules(tmp_path)
    assert (known["n"], known["exact"], known["coverage"]) == (1, 1, 1.0)
    assert (unknown["n"], unknown["coverage"]) == (0, 0.0)
    assert [every[name] for name in ("format", "kernel", "system", "size_class", "n", "coverage")] == ["all"] * 4 + [
        1,
        0.5,
    ]


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
        ("schedule 1f1b --stages 2 --microbatches 2 --chunks 2", "has no option num_chunk"),
        ("schedule dualpipe --stages 2 --microbatches 8 --recompute 1", "recompute with overlapped"),
        ("schedule 1f1b --stages 2 --microbatches 2 --overlap-time 5", "no operations of this order overlap"),
        ("schedule dualpipe --stages 2 --microbatches 8 --overlap-time -1", "overlap_time = -1"),
        ("schedule 1f1b --stages 2 --microbatches 2 --times 1,2,3 --stage-times a.csv", "one of --times"),
        ("schedule interleaved-1f1b --stages 2 --microbatches 2 --chunks 0", "num_chunk = 0: too small"),
        ("schedule missing.csv", "missing.csv: cannot be read"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(given: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(given.split()) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1


def _vector(**change: object) -> dict[str, object]:
    """Two ranks, one microbatch, unit times: F0 F1 I1 I0 W0, so the first rank stays for 5 and W1 ends at 4."""
    given: dict[str, object] = {"p": 2, "m": 1, "tF": 1, "tB": 1, "tW": 1, "tComm": 0, "max_mem": 1}
    given |= {"best_time_max_stage_span": 5, "order": ["F0.0 I0.0 W0.0", "F1.0 I1.0 W1.0"]}
    return given | change


def test_an_automatic_plan_is_known_by_what_it_publishes_not_by_its_file(tmp_path: pathlib.Path) -> None:
    vector = _vector(mem_f=1, mem_b=0, mem_w=-1, stage_end_times=None, makespan=None)
    (tmp_path / "any_name.json").write_text(json.dumps({"vectors": [vector]}))
    row = validate_schedules(tmp_path)[0][0]
    assert (row["n"], row["exact"], row["plan_n"], row["plan_worse"]) == (1, 1, 1, 0)


def test_times_of_their_own_for_each_stage(tmp_path: pathlib.Path) -> None:
    # F0 2, hop 3, F1 1, I1 1, hop 3, I0 1, W0 1: 12; the first rank is there all the time
    vector = _vector(tF=[2, 1], tComm=[3], best_time_max_stage_span=12, makespan=12)
    (tmp_path / "a.json").write_text(json.dumps({"vectors": [vector]}))
    row = validate_schedules(tmp_path)[0][0]
    assert (row["n"], row["exact"], row["plan_n"], row["plan_worse"]) == (1, 1, 1, 0)


def test_pairs_that_the_tokens_do_not_show_are_those_of_the_generator(tmp_path: pathlib.Path) -> None:
    order = load("dualpipe").build(2, 4)
    paired = run_schedule(order, (1, 1, 1), overlap_time=2).summary["makespan"]
    timing = {"tF": 1, "tB": 1, "tW": 1, "tComm": 0, "tFB": 2, "makespan": paired}
    lines = [" ".join(map(str, ops)) for ops in order]
    vector = {"schedule": "DualPipe", "p": 2, "m": 4, "timings": [timing], "order": lines}
    (tmp_path / "a.json").write_text(json.dumps({"vectors": [vector]}))
    row = validate_schedules(tmp_path)[0][0]
    assert (row["exact"], row["order_exact"]) == (1, 1)
    assert paired < run_schedule(order, (1, 1, 1)).summary["makespan"]  # else the test shows nothing


@pytest.mark.parametrize(
    ("vector", "text"),
    [
        (_vector(tF=1.5), "tF = 1.5: not a whole number"),  # not cut to 1
        (_vector(tComm=-1), "tComm = -1"),
        (_vector(m=3), "of other (ranks, microbatches)"),
        ({"p": 2, "m": 1, "tB": 1}, "'tF' is missing"),
        (3, "a vector is an object"),
    ],
)
def test_vectors_that_cannot_be_are_refused(vector: object, text: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"vectors": [vector]}))
    with pytest.raises(InputError, match=re.escape(text)):
        validate_schedules(tmp_path)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("def order(p, m) return", "mine.py:1: cannot be read as a schedule"),
        ("import nothing_of_this_name", "mine.py:1: ModuleNotFoundError"),
        ("def order(p, m): return None", "order(...) must return"),
        ("def order(p, m): return [[('F', 0, 0)]]", "order(...) must return"),
        ("x = 1", "needs a function order"),
    ],
)
def test_a_schedule_file_that_is_none_is_named(
    text: str, error: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(text)
    assert main(["schedule", str(tmp_path / "mine.py"), "--stages", "1", "--microbatches", "1"]) == 2
    shown = capsys.readouterr().err
    assert error in shown
    assert "mine.py" in shown
