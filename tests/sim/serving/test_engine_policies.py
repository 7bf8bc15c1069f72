"""Schedules of SGLang's, TensorRT-LLM's and LightLLM's policies by hand: a step takes 10 us and 1 us a token."""

import numpy as np
import pytest

from kernels.engine.records import LOG_COLUMNS
from sim.serving import engine_profile
from sim.serving.limits import Limits
from tests.sim.serving.serving_case import US, flat_price, load, run

LIMITS = Limits(num_block=1000, block_token=4, max_context_token=256, prefix_cache=False)
SHAPES = [int(LOG_COLUMNS.index(name)) for name in ("num_prefill", "num_decode", "prefill_token")]


def served(policy, requests, limits=LIMITS, **options):
    result = run(requests, flat_price(), policy, limits, record_steps=True, **options)
    times = [(result.request[f"{name}_ps"] // US).tolist() for name in ("first_token", "end")]
    return times, [tuple(row) for row in result.step[:, SHAPES].tolist()], result


def test_sglang_prefills_in_batches_of_their_own():
    # A(4, 3) at 0 is alone: 14. B(12, 4) and C(2, 2) came at 5: a chunk of 8 of B -> 32, its rest and C's 2 -> 48; then
    # all decode: 13 -> 61 ends C, 12 -> 73 ends A, 84.
    times, shapes, _ = served("sglang:max_token=8", load([0, 5, 5], [4, 12, 2], [3, 4, 2]))
    assert times == [[14, 48, 48], [73, 84, 61]]
    assert shapes == [(1, 0, 4), (1, 0, 8), (2, 0, 6), (0, 3, 0), (0, 2, 0), (0, 1, 0)]


def test_trtllm_mixes_whole_prompts_with_decodes():
    # step 2: A decodes, and C's prompt comes along with B's whole one only if it fits: 1 + 6 + 2 > 8, so B alone -> 31;
    # then A's last, B decodes, C's prompt: 10 + 4 -> 45
    times, shapes, _ = served("trtllm:max_token=8,max_seq=16", load([0, 5, 5], [4, 6, 2], [3, 3, 2]))
    assert shapes[:3] == [(1, 0, 4), (1, 1, 6), (1, 2, 2)]
    assert times == [[14, 31, 45], [45, 57, 57]]
    cut, chunks, _ = served("trtllm:max_token=8,max_seq=16,chunked=1", load([0, 5, 5], [4, 6, 2], [3, 3, 2]))
    assert chunks[1] == (2, 1, 7)  # the last token of C's prompt is left for the next step
    assert cut[0][1] == 32


def test_lightllm_tries_prompts_once_the_newest_has_decoded_a_while():
    # A(4, 6) alone: 14, decodes -> 25, 36, then B(3, 2), which came at 5, alone -> 49; both -> 61 ends B, A -> 72, 83
    times, shapes, _ = served("lightllm:max_token=64,max_seq=16,wait=2", load([0, 5], [4, 3], [6, 2]))
    assert times == [[14, 49], [83, 61]]
    assert shapes == [(1, 0, 4), (0, 1, 0), (0, 1, 0), (1, 0, 3), (0, 2, 0), (0, 1, 0), (0, 1, 0)]
    at_once, _, _ = served("lightllm:max_token=64,max_seq=16,wait=0", load([0, 5], [4, 3], [6, 2]))
    assert at_once[0] == [14, 27]


def test_lightllm_counts_what_is_held_when_the_first_have_ended():
    # A holds 4 + 10 in the end, B 4 + 2: at most 5 + 6 while B is there, 14 when it has gone. 16 tokens hold both
    limits = {num: Limits(num_block=num, block_token=1, max_context_token=64, prefix_cache=False) for num in (14, 16)}
    first = [
        served("lightllm:max_token=64,max_seq=16,wait=0", load([0, 0], [4, 4], [10, 2]), one)[0][0]
        for one in limits.values()
    ]
    assert first[0][1] > first[1][1] == 18


@pytest.mark.parametrize(("num_block", "first", "end"), [(15, 175, 164), (16, 110, 175)])
def test_sglang_tries_nobody_after_an_admission_that_left_nothing(num_block, first, end):
    # three prompts reserve 4 + 4 + 12 tokens each (the last one asks for 3 + 4 + 12), all 60 of 15 blocks; their first
    # batch takes 21, the others 13. At 99 there is room for (1, 1), as they need no page in advance any more, but with
    # 15 blocks nobody looks until 164
    limits = Limits(num_block=num_block, block_token=4, max_context_token=256, prefix_cache=False)
    times, _, _ = served("sglang:max_token=64,max_seq=8", load([0, 0, 0, 95], [4, 4, 3, 1], [12, 12, 12, 1]), limits)
    assert times == [[21, 21, 21, first], [end, end, end, first]]


@pytest.mark.parametrize("policy", [f"{name}:max_token=64,max_seq=64" for name in ("sglang", "trtllm", "lightllm")])
def test_whoever_is_admitted_ends_where_outputs_are_reserved(policy):
    draw = np.random.default_rng(1)
    prompt, output = draw.integers(1, 60, 40), draw.integers(1, 60, 40)
    requests = load(np.sort(draw.integers(0, 500, 40)), prompt, output)
    tight = Limits(num_block=40, block_token=4, max_context_token=256, prefix_cache=False)
    _, _, result = served(policy, requests, tight)
    assert int(result.counter["num_recompute"].sum()) == 0
    assert (result.request["end_ps"] > 0).all()
    ahead = run(requests, flat_price(), policy, tight)
    assert (ahead.request["end_ps"] == result.request["end_ps"]).all()


def test_sglang_retracts_where_it_reserved_too_little():
    draw = np.random.default_rng(1)
    requests = load(np.zeros(20, int), draw.integers(1, 20, 20), draw.integers(40, 60, 20))
    tight = Limits(num_block=40, block_token=4, max_context_token=256, prefix_cache=False)
    _, _, safe = served("sglang:max_token=64,max_seq=64", requests, tight)
    _, _, bold = served("sglang:max_token=64,max_seq=64,new_token_ratio=0.2", requests, tight)
    assert int(safe.counter["num_recompute"].sum()) == 0 < int(bold.counter["num_recompute"].sum())
    assert (bold.request["end_ps"] > 0).all()
    assert bold.request["start_ps"].mean() < safe.request["start_ps"].mean()


@pytest.mark.parametrize("name", ["sglang", "trtllm"])
def test_profiles_name_their_policy_and_say_where_times_come_from(name):
    profile = engine_profile.load(name)
    assert profile.policy == name
    assert "measured" in profile.source
