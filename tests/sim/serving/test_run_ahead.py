"""Run-ahead equals one step at a time: the same integers for every policy and router."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.engine.records import FINISHED, REFUSED
from sim.serving.limits import Limits
from sim.serving.plugin import names
from sim.serving.result import ServeResult
from sim.serving.rules import Group
from tests.sim.serving.serving_case import attention_price, load, preempts, rules_drawn, run, same, with_scans

PRICES = {stage: with_scans(attention_price(512, 8, stage, window=40)) for stage in (1, 3)}
POLICIES = [
    "vllm_v1:max_token=32,max_seq=5", "vllm_v1:max_token=64,max_seq=8,max_chunk=16", "sarathi:max_token=24,max_seq=6",
    "vllm_v0:max_token=256,max_seq=6", "orca:max_token=256,max_seq=6,reserve=max",
    "orca:max_token=256,max_seq=6,reserve=pow2", "orca:max_token=256,max_seq=6,reserve=oracle",
    "static:max_token=400,max_seq=4", "sglang:max_token=64,max_seq=6,new_token_ratio=0.3",
    "trtllm:max_token=96,max_seq=6", "lightllm:max_token=96,max_seq=6,wait=3",
    "mnemosyne:max_token=24,max_seq=6,pair_million=0.0005,min_token=4",
    "splitwise:max_token=128,max_seq=6,prompt_token=40",
]  # fmt: skip

GROUPS = [
    (Group(),), (Group("window", 20), Group()), (Group("window", 12, 2),), (Group("budget", 24),),
    (Group("ratio", 4), Group("state", 0, 3)), (Group(), Group("state", 0, 9)), (Group("state", 0, 7),),
    (Group("window", 20), Group(), Group("state", 0, 4)),
]  # fmt: skip


@st.composite
def loads(draw: st.DrawFn) -> object:
    num = draw(st.integers(1, 14))
    seed = draw(st.integers(0, 2**16))
    random = np.random.default_rng(seed)
    scale = draw(st.sampled_from([0, 50, 400, 5000]))
    prompt = random.integers(1, 90, num)
    output = random.integers(1, 60, num)
    unit_token = 8
    groups = random.integers(0, 4, num)  # requests of a group share a prefix
    ids, start = [], [0]
    for i in range(num):
        num_unit = int((prompt[i] + output[i]) // unit_token)
        ids += [int(groups[i]) * 100 + unit if unit < 6 else 1000 + i * 100 + unit for unit in range(num_unit)]
        start.append(len(ids))
    _, dense = np.unique(ids, return_inverse=True) if ids else (None, np.zeros(0, int))
    parent = np.full(num, -1)
    if draw(st.booleans()):
        for i in range(1, num):
            if random.random() < 0.4:
                parent[i] = random.integers(0, i)
    return load(
        np.sort(random.integers(0, scale * num + 1, num)), prompt, output,
        predicted_token=random.integers(1, 60, num), priority=random.integers(0, 3, num),
        unit_start=start[:-1], unit_stop=start[1:], unit_id=dense, unit_token=unit_token,
        parent=parent, think_ps=random.integers(0, 10**8, num),
    )  # fmt: skip


def served(result: ServeResult) -> None:
    """Asserts that every request has ended once with all of its tokens, or was refused, within the memory."""
    request = result.request
    ended = request["status"] == FINISHED
    assert (ended | (request["status"] == REFUSED)).all()
    np.testing.assert_array_equal(request["produced_token"][ended], request["output_token"][ended])
    assert (request["arrival_ps"] <= request["start_ps"])[ended].all()
    assert (request["start_ps"] < request["first_token_ps"])[ended].all()
    assert (request["first_token_ps"] <= request["last_token_ps"])[ended].all()
    assert result.gap_count.sum() == (request["output_token"][ended] - 1).sum()
    assert (result.counter["peak_block"] <= result.num_block).all()


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=25, deadline=None)
@given(
    requests=loads(),
    num_block=st.sampled_from([45, 60, 200]),
    num_replica=st.sampled_from([1, 3]),
    num_stage=st.sampled_from([1, 3]),
    order=st.sampled_from(["fcfs", "sjf", "priority"]),
    swap=st.booleans(),
    prefix_cache=st.booleans(),
    router=st.sampled_from(names("router")),
    rules=rules_drawn(),
    groups=st.sampled_from(GROUPS),
    plan_ahead=st.sampled_from([0, 1]),
)
def test_run_ahead_equals_stepping(
    policy, requests, num_block, num_replica, num_stage, order, swap, prefix_cache, router, rules, groups, plan_ahead
):
    if "reserve" in policy:  # the longest context of 160 tokens takes a chunk of 64 blocks of 4
        num_block += 100
    limits = Limits(
        num_block=num_block, block_token=4, max_context_token=160, num_replica=num_replica,
        prefix_cache=prefix_cache, rules=rules, groups=groups, plan_ahead=plan_ahead, **preempts(swap, rules),
    )  # fmt: skip
    price = PRICES[num_stage]
    ahead, step = (
        run(requests, price, policy, limits, router, order=order, engine=engine, record_steps=True)
        for engine in ("run-ahead", "stepping")
    )
    assert (ahead.engine, step.engine) == ("run-ahead", "stepping")
    same(ahead, step)
    served(ahead)
