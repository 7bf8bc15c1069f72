"""Steps between two that compute prompts (`vllm_v1:interval=N`); the exam has vLLM's own scheduler beside it."""

import dataclasses

import numpy as np
import pytest

from sim.run.scenario import Scenario
from sim.run.simulate import simulate

BASE = Scenario(model="gpt2", system="a100_sxm", engine="none", policy="vllm_v1",
                requests="poisson:rate=60,n=120,prompt=lognormal:mean=200:max=800,output=60")  # fmt: skip


def held(interval: int, **change: object) -> Scenario:
    return dataclasses.replace(BASE, policy=f"vllm_v1:interval={interval}", **change)  # type: ignore[arg-type]


def test_an_interval_of_one_is_the_plain_policy() -> None:
    plain, one = simulate(BASE), simulate(held(1))
    np.testing.assert_array_equal(plain.run.request["finish_s"], one.run.request["finish_s"])


@pytest.mark.parametrize("interval", [2, 5])
def test_steps_with_prompts_keep_their_distance_while_somebody_decodes(interval: int) -> None:
    done = simulate(held(interval), record_steps=True)
    steps = done.run.steps
    assert steps is not None
    last, kept = -interval, 0
    for k, step in enumerate(steps.to_dict("records")):
        if step["num_prefill"]:
            if step["num_decode"] and steps["num_waiting"].iloc[last if last >= 0 else k] == 0:
                assert k - last >= interval
                kept += 1
            last = k
    assert kept > 10
    plain = simulate(BASE)
    assert done.metrics["median_ttft_ms"] > plain.metrics["median_ttft_ms"]  # prompts wait
    assert done.metrics["total_output_tokens"] == plain.metrics["total_output_tokens"]


@pytest.mark.parametrize(("interval", "pp"), [(3, 1), (5, 2), (4, 4)])
def test_it_runs_ahead_as_it_steps(interval: int, pp: int) -> None:
    ahead, stepped = (simulate(held(interval, pp=pp, run_ahead=value)) for value in (True, False))
    np.testing.assert_array_equal(ahead.run.request["finish_s"], stepped.run.request["finish_s"])
