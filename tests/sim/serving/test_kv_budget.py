"""A budget of tokens: less is held and read than was computed, and a budget that nobody reaches changes nothing."""

import numpy as np
import pytest

from sim.serving.limits import Limits, Options
from sim.serving.plugin import find
from sim.serving.replay import Replay
from sim.serving.result import REQUEST_COLUMNS
from sim.serving.rules import Group
from tests.sim.serving.serving_case import attention_price, load, run, same
from tests.sim.serving.test_spans import priced

POLICIES = ["vllm_v1:max_token=32,max_seq=5", "vllm_v0:max_token=256,max_seq=6", "sarathi:max_token=24,max_seq=6"]


def some(num: int = 10):
    random = np.random.default_rng(3)
    return load(np.sort(random.integers(0, 4000, num)), random.integers(5, 90, num), random.integers(2, 60, num))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("num_stage", "num_block"), [(1, 60), (3, 45)])
def test_a_budget_that_nobody_reaches_is_the_plain_system(policy, num_stage, num_block):
    price = attention_price(512, 8, num_stage, window=40)
    plain, roomy = (
        run(some(), price, policy, Limits(num_block=num_block, block_token=4, max_context_token=160, groups=(group,)),
            record_steps=True)
        for group in (Group(), Group("budget", 160))
    )  # fmt: skip
    same(plain, roomy)


def test_held_and_read_is_the_budget():
    """One request of 64 and 41 tokens under a budget of 16: each of 40 decodes reads 16 keys, and holds 4 blocks."""
    requests = load([0], [64], [41])
    limits = Limits(num_block=40, block_token=4, max_context_token=160, groups=(Group("budget", 16),))
    price = attention_price(512, 8)
    done = run(requests, price, "vllm_v0:max_token=256,max_seq=4", limits, record_steps=True)
    used = done.step[:, 11]
    assert used[0] == 64 // 4  # the prompt is computed whole, then what is not kept goes
    assert set(used[1:].tolist()) == {4}
    layers, key_kb, row_kb = 2 * 4, 8 * 256 * 2 / 1000, 32 * 256 * 2 / 1000
    assert done.attn_kb[0, :, 1].sum() == pytest.approx(layers * 40 * (16 * key_kb + row_kb), rel=1e-2)


def test_a_chunk_reads_what_is_kept_and_itself():
    requests = load([0], [96], [2])
    price = attention_price(512, 8)
    found = {
        size: run(requests, price, "vllm_v1:max_token=32,max_seq=4",
                  Limits(num_block=60, block_token=4, max_context_token=160, groups=(group,)))
        for size, group in ((0, Group()), (16, Group("budget", 16)))
    }  # fmt: skip
    pair = {0: 96 * 97 // 2, 16: 32 * 33 // 2 + 2 * (32 * 33 // 2 + 32 * 16)}
    for size, done in found.items():
        assert done.attn_mflop[0, :, 0].sum() == pytest.approx(8 * pair[size] * 16384e-6, rel=2e-2)


@pytest.mark.parametrize(("model", "pp"), [("llama-3-8b", 1), ("gemma-3-27b", 2)])
def test_run_ahead_equals_replay_on_simpy(model, pp):
    limits = Limits(num_block=90, block_token=8, max_context_token=200, groups=(Group("budget", 24),))
    price, lowered = priced(model, 2, pp)
    policy = "vllm_v1:max_token=64,max_seq=4"
    ahead = run(some(), price, policy, limits)
    seq = Replay(
        some(), price, lowered, find("policy", policy), find("router", "round_robin"), limits, Options()
    ).run()  # fmt: skip
    for name, column in REQUEST_COLUMNS.items():
        np.testing.assert_array_equal(ahead.request[name], seq[column], err_msg=name)
