"""What is fitted on steady loads: the constants that made its data are found again."""

import dataclasses
import pathlib

import numpy as np
import pandas as pd
import pytest

from sim.reference.steady_fit import FILES, fitted
from sim.serving.engine_profile import load
from sim.serving.step_time import Batch, Deployment, lowered_for, step_of
from sim.validate._power_rows import deployment
from sim.validate._steady import steady

LOAD = {"task": "lm-arena-chat", "gpu": "h100_sxm", "dp": 1, "output_len_mean": 600.0}
RUNS = [
    ("Qwen/Qwen3-8B", "bfloat16", 1, 1, 64), ("Qwen/Qwen3-8B", "bfloat16", 1, 1, 256),
    ("Qwen/Qwen3-235B-A22B-Instruct-2507-FP8", "fp8", 8, 8, 16),
    ("Qwen/Qwen3-235B-A22B-Instruct-2507-FP8", "fp8", 8, 8, 128),
]  # fmt: skip


def test_a_fit_finds_the_constants_that_made_its_data(tmp_path: pathlib.Path) -> None:
    made = dataclasses.replace(load("vllm_0.11"), seq_s=2e-5, block_expert_s=7e-5)
    rows = []
    for model, precision, num, ep, batch in RUNS:
        row = {**LOAD, "model": model, "precision": precision, "num_gpu": num, "tp": num, "ep": ep}
        where, _ = deployment(row, model, "h100_sxm", num)
        seconds, _ = steady(where, made, batch, 600.0, "lm-arena-chat")
        rows.append(row | {"batch_mean": float(batch), "output_tok_per_s": batch / seconds})
    for file in FILES:
        pd.DataFrame(rows).to_csv(tmp_path / file, index=False)
    found = fitted(tmp_path, load("vllm_0.11"))
    assert (found.seq_s, found.block_expert_s) == pytest.approx((2e-5, 7e-5), rel=0.03)
    assert found.fit is not None
    assert found.fit.error["step"] < 0.01


def test_only_block_scaled_experts_take_longer() -> None:
    def step_s(weight_format: str, seconds: float) -> float:
        profile = dataclasses.replace(load("none"), block_expert_s=seconds)
        lowered, _ = lowered_for(Deployment("qwen3-30b-a3b", "h100_sxm", weight_format=weight_format), profile)
        return step_of(lowered, Batch(0, 0, 8, 256))[0]

    assert step_s("fp8_block", 1e-4) - step_s("fp8_block", 0.0) == pytest.approx(48 * 1e-4, rel=1e-3)
    assert np.isclose(step_s("bf16", 1e-4), step_s("bf16", 0.0), rtol=0, atol=0)
