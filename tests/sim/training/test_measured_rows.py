"""Measured training tables that are not as they should be: refused by line and by the file's own column."""

import pathlib

import pandas as pd
import pytest

from kernels.errors import InputError
from sim.validate.training import validate_file, validate_training

NODE = {"# GPUs": 2, "global batch": 4, "micro batch": 1, "hidden size": 1024, "attention heads": 16, "# layers": 4,
        "sequence length": 512, "tensor parallelism": 1, "data parallelism": 1, "pipeline parallelism": 2,
        "iteration time (ms)": 50.0}  # fmt: skip
LAYOUT = {"file": "llama_13B_bfloat16_64_GPUs", "World Size": 64, "Average Step Time": "OOM Error", "kernel": "torch",
          "activation_checkpointing_type": "disabled", "micro_batch_size": 8, "model_parallel_size": 1,
          "pipe_parallel_size": 1, "sequence_parallel": None}  # fmt: skip
LOG = "log-7B-tp1-dp4-l32-h4096-a32-sl2048-gbs4-mbs1-ratio1-subg1-prefetch0-flush_async0-opt_gaps0"
OFFLOAD = {"dir": "a100", "log": LOG, "fwd_ms": 1.0, "bwd_ms": 1.0, "step_ms": 1.0, "iter_ms": 3.0}


def written(row: dict[str, object], path: pathlib.Path, **change: object) -> pathlib.Path:
    pd.DataFrame([row | change]).to_csv(path / "runs.csv", index=False)
    return path / "runs.csv"


@pytest.mark.parametrize(
    ("row", "column", "value", "text"),
    [
        (NODE, "iteration time (ms)", -1.0, "runs.csv:2: iteration time (ms) = -1.0: not a number above 0"),
        (NODE, "hidden size", 1000.5, "not a whole number"),
        (NODE, "attention heads", 7, "does not divide the hidden size"),
        (NODE, "# layers", 1, "more chunks than layers"),
        (LAYOUT, "pipe_parallel_size", 64, "pipe_parallel_size = 64: more chunks than layers"),  # 40 layers
        (LAYOUT, "sequence_parallel", "maybe", "not true or false"),
        (LAYOUT, "Average Step Time", "inf", "neither a time nor an OOM"),
        (OFFLOAD, "fwd_ms", 0.0, "fwd_ms = 0.0: not a measurement"),  # a relative error of nothing is endless
        (OFFLOAD, "step_ms", "x", "not a measurement"),
        (OFFLOAD, "log", LOG.replace("tp1", "tp0"), "tp must be above 0"),
    ],
)
def test_what_cannot_be_is_refused(
    row: dict[str, object], column: str, value: object, text: str, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(InputError) as caught:
        validate_training(written(row, tmp_path, **{column: value}))
    assert text in str(caught.value)


def test_an_odd_log_counts_and_the_others_go_on(tmp_path: pathlib.Path) -> None:
    odd = [OFFLOAD | {"bwd_ms": "x"}, OFFLOAD | {"log": "of whatever"}]
    pd.DataFrame([OFFLOAD, *odd, OFFLOAD]).to_csv(tmp_path / "runs.csv", index=False)
    rows, reasons, _ = validate_file(tmp_path / "runs.csv")
    every = next(row for row in rows if row["kind"] == "step")
    assert (every["n"], every["coverage"], [one["n"] for one in reasons]) == (2, 0.5, [1, 1])


def test_an_empty_table_and_a_missing_column_are_named(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "runs.csv"
    file.write_text(",".join(NODE) + "\n")
    with pytest.raises(InputError, match="no row"):
        validate_training(file)
    file.write_text("dir,log,fwd_ms,bwd_ms\na,b,1,1\n")
    with pytest.raises(InputError, match="has also step_ms"):
        validate_training(file)


@pytest.mark.parametrize("spelling", ["OOM Error", "oom", "Out of memory"])
def test_runs_that_did_not_fit_are_covered_by_their_verdict(spelling: str, tmp_path: pathlib.Path) -> None:
    (row,) = validate_training(written(LAYOUT, tmp_path, **{"Average Step Time": spelling}))
    # 13 B in 16 bits with fp32 gradients is 78 GB before any activation: eight sequences of it do not fit 80 GB
    assert (row["kind"], row["n"], row["coverage"], row["mape"]) == ("fits", 1, 1.0, 0.0)


@pytest.mark.parametrize(("spelling", "same"), [("True", True), ("1.0", True), ("false", False)])
def test_sequence_parallelism_in_any_spelling(spelling: str, same: bool, tmp_path: pathlib.Path) -> None:
    change = {"Average Step Time": 30.0, "model_parallel_size": 4, "micro_batch_size": 1}
    one = validate_training(written(LAYOUT, tmp_path, **change, sequence_parallel="true"))[0]
    other = validate_training(written(LAYOUT, tmp_path, **change, sequence_parallel=spelling))[0]
    assert (one["bias"] == other["bias"]) == same
