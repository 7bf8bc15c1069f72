"""Offline batches: our own seconds are exact, a batch that does not fit goes in waves, odd rows are counted."""

import pathlib
from typing import Any

import pandas as pd
import pytest

from kernels.errors import InputError
from sim.serving.engine_profile import load
from sim.validate._batches import Offline, frame_of, latency_s, offline_of, steps_of
from sim.validate.offline import validate_offline

ROW = {
    "accelerator": "mi300x", "num_accelerator": 1, "framework": "vLLM", "parallelism": "default",
    "model": "meta-llama/Llama-2-7b-hf", "batch": 16, "input_len": 128, "output_len": 128, "latency_s": 1.0,
}  # fmt: skip


def one(**more: Any) -> Offline:
    frame = frame_of(pd.DataFrame([ROW | more]))
    assert frame is not None
    return offline_of({str(key): value for key, value in frame.to_dict("records")[0].items()})


def test_our_own_seconds_are_exact_and_others_count_against_coverage(tmp_path: pathlib.Path) -> None:
    profile = load("vllm_2024_mi300x")
    rows = [{**ROW, "batch": batch} for batch in (1, 16)]
    rows = [{**row, "latency_s": latency_s(one(batch=row["batch"]), profile)} for row in rows]
    rows += [{**rows[0], "framework": "unheard"}, {**rows[0], "latency_s": "n/a"}]
    file = tmp_path / "batches.csv"
    pd.DataFrame(rows).to_csv(file, index=False)
    found, reasons = validate_offline(file)
    assert found[0]["kernel"] == found[0]["system"] == found[0]["format"] == found[0]["size_class"] == "all"
    assert found[0]["coverage"] == 0.5
    assert found[0]["mape"] == pytest.approx(0.0, abs=1e-9)
    assert sum(reasons.values()) == 2


def test_a_batch_that_does_not_fit_is_served_in_waves() -> None:
    profile = load("none")
    small, large = (one(batch=batch, input_len=2048, output_len=2048) for batch in (16, 256))
    first, many = steps_of(small, profile, "calibrated"), steps_of(large, profile, "calibrated")
    assert first[:2] == (1, 16)
    assert many[0] > 1  # 0.5 MiB a token, 4,096 tokens a sequence: 512 GiB
    assert many[0] * many[1] >= 256


def test_more_devices_give_llama_cpp_hand_overs_alone() -> None:
    profile = load("none")
    alone, apart = (latency_s(one(framework="llama.cpp", num_accelerator=num), profile) for num in (1, 4))
    assert alone < apart < 1.05 * alone


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(InputError, match="parallelism"):
        one(parallelism="diagonal")
