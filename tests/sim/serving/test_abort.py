"""Clients that give up, and plans made a step ahead: by hand, and run-ahead against stepping."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.engine import records as at
from sim.serving.limits import Limits
from tests.sim.serving.serving_case import US, attention_price, flat_price, load, run, same
from tests.sim.serving.test_run_ahead import POLICIES, loads

PRICES = {stage: attention_price(512, 8, stage, window=40) for stage in (1, 3)}


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=15, deadline=None)
@given(
    requests=loads(),
    num_replica=st.sampled_from([1, 3]),
    num_stage=st.sampled_from([1, 3]),
    order=st.sampled_from(["fcfs", "sjf"]),
    swap=st.booleans(),
    plan_ahead=st.sampled_from([0, 1]),
    timeout_s=st.sampled_from([0.0, 2e-3, 8e-3, 3e-2]),
    record_steps=st.booleans(),
)
def test_run_ahead_equals_stepping_with_deadlines_and_plans_ahead(
    policy, requests, num_replica, num_stage, order, swap, plan_ahead, timeout_s, record_steps
):
    limits = Limits(
        num_block=200, block_token=4, max_context_token=160, num_replica=num_replica,
        preemption="swap" if swap else "recompute", host_block=40 if swap else 0,
        plan_ahead=plan_ahead, timeout_s=timeout_s,
    )  # fmt: skip
    ahead, step = (
        run(requests, PRICES[num_stage], policy, limits, order=order, engine=engine, record_steps=record_steps)
        for engine in ("run-ahead", "stepping")
    )
    same(ahead, step)
    ended = np.isin(ahead.request["status"], [at.FINISHED, at.REFUSED, at.ABORTED])
    assert ended.all()
    late = ahead.request["status"] == at.ABORTED
    assert ahead.counter["num_aborted"].sum() == late.sum()
    assert (ahead.request["reason"][late] == at.REASON_TIMEOUT).all()
    if timeout_s == 0:
        assert not late.any()


def test_a_sequence_that_gives_up_makes_room_for_the_next() -> None:
    # one place; a step of one token takes 11 us, of the prompt of 4 takes 14 us. The first wants 100 tokens, and its
    # client gives up after 50 us: it meets the plan at 14 + 4 x 11 = 58 us with 5 tokens. The second then runs alone,
    # 14 us and one more step of 11 us.
    limits = Limits(num_block=100, timeout_s=50e-6)
    result = run(load([0, 40], [4, 4], [100, 2]), flat_price(), "vllm_v1:max_seq=1", limits)
    assert result.request["status"].tolist() == [at.ABORTED, at.FINISHED]
    assert result.request["end_ps"].tolist() == [58 * US, (58 + 14 + 11) * US]
    assert result.request["produced_token"].tolist() == [5, 2]
    assert result.counter["num_aborted"].tolist() == [1]


def test_one_that_waits_too_long_never_starts() -> None:
    limits = Limits(num_block=100, timeout_s=50e-6)
    result = run(load([0, 1], [4, 4], [4, 60]), flat_price(), "vllm_v1:max_seq=1", limits)
    # the first ends at 14 + 3 x 11 = 47 us, before its time; the second starts then, and at 1 + 50 us it is too late
    assert result.request["status"].tolist() == [at.FINISHED, at.ABORTED]
    assert result.request["produced_token"].tolist() == [4, 1]
    waits = run(
        load([0, 1], [4, 4], [5, 60]), flat_price(), "vllm_v1:max_seq=1", Limits(num_block=100, timeout_s=57e-6)
    )
    assert waits.request["start_ps"].tolist() == [0, -1]  # the first ends at 58 us, when the second has given up


def test_a_plan_made_ahead_sees_an_arrival_one_step_later() -> None:
    # the first runs alone: 14 us, then 11 us a token. The second arrives at 20 us, while the step from 14 to 25 us
    # runs; the one from 25 us was planned at 14 us, so that it joins the one from 36 us: 10 + 4 + 1 tokens = 15 us
    for plan_ahead, start_us, first_us in ((0, 25, 40), (1, 36, 51)):
        limits = Limits(num_block=100, plan_ahead=plan_ahead)
        result = run(load([0, 20], [4, 4], [20, 2]), flat_price(), "vllm_v1", limits)
        assert result.request["start_ps"].tolist() == [0, start_us * US]
        assert result.request["first_token_ps"].tolist() == [14 * US, first_us * US]


def test_an_idle_engine_starts_at_once_though_it_plans_ahead() -> None:
    result = run(load([0, 0, 500], [4, 4, 4], [3, 3, 3]), flat_price(), "vllm_v1", Limits(num_block=100, plan_ahead=1))
    assert result.request["start_ps"].tolist() == [0, 0, 500 * US]
