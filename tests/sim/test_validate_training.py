"""`ridgeline validate training` and `ridgeline train` on the command line."""

import json
import pathlib

import pytest

from sim.cli import main
from tests.shared_data import folder


def rows_of(file: str, tmp_path: pathlib.Path) -> list[dict[str, float]]:
    out = tmp_path / "rows.json"
    assert main(["validate", "training", str(folder("training", file)), "--json", str(out)]) == 0
    found: list[dict[str, float]] = json.loads(out.read_text())["rows"]
    return found


def test_single_node_iterations(tmp_path: pathlib.Path) -> None:
    (row,) = rows_of("a100_single_node_iterations.csv", tmp_path)
    assert (row["n"], row["coverage"]) == (1440, 1.0)
    assert row["mape"] <= 0.09  # constants of every fifth row


def test_layouts_and_what_does_not_fit(tmp_path: pathlib.Path) -> None:
    rows = rows_of("llama_layouts_a100.csv", tmp_path)
    total = rows[-1]
    assert total["mape"] <= 0.08
    assert total["oom_wrong"] <= 0.05 * total["oom_n"]
    assert min(row["rank_correlation"] for row in rows if row["n"] > 20) >= 0.85


def test_offloaded_optimizer(tmp_path: pathlib.Path) -> None:
    rows = rows_of("zero3_offload_iterations.csv", tmp_path)
    assert (rows[-1]["n"], rows[-1]["coverage"]) == (151, 1.0)
    assert rows[-1]["mape"] <= 0.15
    assert max(row["mape"] for row in rows) <= 0.15  # forward, backward and update apart, on each machine


def test_the_command_says_time_memory_and_cost(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, plot = tmp_path / "out.json", tmp_path / "step.svg"
    given = "train --model gpt3-13b --system dgx_a100 --gpus 16 --tp 4 --pp 2 --dp 2 --batch 32 --interleave 2"
    given += " --recompute none"
    trace = tmp_path / "trace.json"
    assert main([*given.split(), "--json", str(out), "--plot", str(plot), "--trace", str(trace)]) == 0
    events = json.loads(trace.read_text())["traceEvents"]
    # 16 microbatches, 4 stages on 2 ranks: a slice an operation, an arrow each way where a stage has a neighbour
    assert [sum(event["ph"] == phase for event in events) for phase in "Xsf"] == [16 * 4 * 2, 16 * 6, 16 * 6]
    s = json.loads(out.read_text())["summary"]
    parts = s["pipeline_s"] + s["exposed_dp_s"] + s["optimizer_s"] + s["host_s"]
    assert s["step_s"] == pytest.approx(parts)
    assert 0.2 < s["mfu"] < 0.7
    kinds = ("weight", "grad", "optimizer", "activation", "logit", "buffer", "reserve")
    assert s["mem_total_byte"] == pytest.approx(sum(s[f"mem_{kind}_byte"] for kind in kinds))
    assert "fits" in capsys.readouterr().out
    assert "<svg" in plot.read_text()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("train --model gpt3-13b --system dgx_a100 --gpus 9 --tp 8 --batch 8", "gpus = 9"),
        ("train --model gpt3-13b --system dgx_a100 --tp 7 --batch 8", "tp = 7"),
        ("train --model gpt3-13b --system dgx_a100 --dp 3 --batch 8", "batch = 8"),
        ("train --model gpt3-13b --system dgx_a100 --batch 8 --stack megatron", "no such stack"),
        ("train --model gpt3-13b --system dgx_a100 --batch 8 --format fp8", "no such pipe"),
        ("train --model gpt3-13b --system dgx_a100 --batch 8 --schedule gpipe --interleave 2", "no chunks"),
        ("validate training nowhere.csv", "nowhere.csv: cannot be read"),
    ],
)
def test_bad_input_of_training_is_one_line(given: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(given.split()) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1


def test_a_file_of_other_columns_is_refused_with_the_known_ones(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    assert main(["validate", "training", str(tmp_path / "other.csv")]) == 2
    assert "# GPUs" in capsys.readouterr().err
