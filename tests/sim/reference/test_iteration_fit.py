"""The fit of iterations: it finds the constants that made its data, and leaves out what it is told to."""

import dataclasses
import pathlib

import numpy as np
import pytest

from sim.reference.iteration_fit import NAMES, cases, fit, name
from sim.reference.step_fit import Case, changed
from sim.serving.engine_profile import EngineProfile, load
from sim.serving.step_time import Batch, Deployment, step_s

WHERE = Deployment("yi-34b", "a100_pcie_x4", tp=2)
BARE = EngineProfile(title="", source="", step_s=0.0, seq_s=0.0, token_s=0.0, request_s=0.0, stream_s=0.0)
PROMPTS = [Batch(num_prompt=1, prompt_len=num) for num in (64, 2048, 8192)]
DECODES = [Batch(num_decode=num, kv_len=1024) for num in (1, 16, 64)]


def test_the_constants_that_made_the_data_are_found() -> None:
    made = changed(BARE, NAMES, np.array([1.1, 2.0, 8e-4, 1e-3, 5e-3]))
    some = [Case("prefill", WHERE, one, step_s(WHERE, made, one)) for one in PROMPTS]
    some += [Case("decode", WHERE, one, step_s(WHERE, made, one)) for one in DECODES]
    found = fit(some, BARE, max_round=60)
    for case in some:
        assert step_s(WHERE, found, case.batch) == pytest.approx(case.seconds, rel=0.02)
    assert set(NAMES) <= {field.name for field in dataclasses.fields(found)}


def test_a_factor_on_attention_of_prompts_lengthens_prompts_alone() -> None:
    slow = dataclasses.replace(BARE, prefill_factor=3.0)
    longer = [step_s(WHERE, slow, one) / step_s(WHERE, BARE, one) for one in PROMPTS]
    assert longer == sorted(longer)  # the longer the prompt, the more of it is attention
    assert 1.0 < longer[-1] < 3.0
    for one in DECODES:
        assert step_s(WHERE, slow, one) == step_s(WHERE, BARE, one)


def test_steps_that_began_a_run_are_no_cases(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "steps.csv"
    file.write_text("num_prefill_token,num_decode_token,step_s\n256,0,0.12\n512,0,0.1\n0,8,0.07\n")
    given = {"model": "yi-34b", "system": "a100_pcie_x4", "tp": 2}
    assert [name(case) for case in cases([file], **given)] == ["prefill:256", "prefill:512", "decode:8"]
    assert [name(case) for case in cases([file], ("prefill:256",), **given)] == ["prefill:512", "decode:8"]


def test_the_shipped_profile_left_out_what_its_study_asks() -> None:
    from studies.sarathi_serve import DECODE, PREFILL, PUBLISHED

    profile = load(PUBLISHED)
    assert profile.fit is not None
    asked = {f"decode:{num}" for num in DECODE} | {f"prefill:{num}" for num in PREFILL}
    assert asked <= set(profile.fit.left_out.removeprefix("steps ").split(", "))
