"""Adapters in the store: sums by hand, fetches and waits, eviction, and every way of running gives the integers."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import optable as op
from kernels.engine.price import adapter_cost, pack
from sim.serving.accounts import accounts
from sim.serving.adapters import operators, projections, with_adapters
from sim.serving.limits import Limits, Options
from sim.serving.plugin import find
from sim.serving.replay import Replay
from sim.serving.result import REQUEST_COLUMNS
from sim.serving.rules import Rank, Rules, Spans
from tests.sim.serving.serving_case import US, attention_price, load, run, same
from tests.sim.serving.test_run_ahead import loads
from tests.sim.serving.test_spans import VLLM, priced
from workloads import models

POLICIES = ["vllm_v1:max_token=32,max_seq=5", "vllm_v0:max_token=256,max_seq=6", "sarathi:max_token=24,max_seq=6"]
RANKS = (Rank(16, 6, 900 * US), Rank(8, 3, 450 * US))


def ideal(price):
    """Four projections of 512 by 512 in 16 bits, at ideal rates."""
    from kernels.gemm import IDEAL_GEMM
    from kernels.machine import NUM_FIT

    fit = np.zeros(NUM_FIT)
    fit[: len(IDEAL_GEMM)] = IDEAL_GEMM
    return price._replace(adapter=np.concatenate([[1, 2.0, 1e14], fit, [4, 512, 512, 1]]))


PRICES = {stage: ideal(attention_price(512, 8, stage, window=40)) for stage in (1, 3)}


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=12, deadline=None)
@given(
    requests=loads(),
    seed=st.integers(0, 99),
    num_block=st.sampled_from([48, 60, 200]),
    num_stage=st.sampled_from([1, 3]),
    swap=st.booleans(),
    rules=st.sampled_from([Rules(), VLLM]),
    prefix_cache=st.booleans(),
)
def test_run_ahead_equals_stepping(policy, requests, seed, num_block, num_stage, swap, rules, prefix_cache):
    random = np.random.default_rng(seed)
    requests = dataclasses.replace(requests, adapter=random.integers(-1, 6, len(requests)).astype(np.int32))
    limits = Limits(
        num_block=num_block, block_token=4, max_context_token=160, preemption="swap" if swap else "recompute",
        host_block=40 if swap else 0, rules=rules, ranks=RANKS, prefix_cache=prefix_cache, spans=Spans(2),
    )  # fmt: skip
    ahead, step = (
        run(requests, PRICES[num_stage], policy, limits, engine=engine, record_steps=True)
        for engine in ("run-ahead", "stepping")
    )
    same(ahead, step)


def test_a_repeated_step_that_is_lost_in_flight_gives_its_blocks_back():
    """Who is preempted while a repeated step of it is in flight holds that step's block too: one leaked."""
    requests = load([0] * 6, [87, 13, 6, 1, 64, 9], [9, 5, 28, 16, 26, 45], adapter=[4, 3, 2, 0, 1, -1])
    limits = Limits(num_block=48, block_token=4, max_context_token=160, rules=VLLM, ranks=RANKS, prefix_cache=False)
    ahead, step = (
        run(requests, PRICES[3], "sarathi:max_token=24,max_seq=6", limits, engine=engine, record_steps=True)
        for engine in ("run-ahead", "stepping")
    )
    same(ahead, step)


def test_requests_without_adapters_are_the_plain_system():
    requests = load(np.zeros(6, int), np.full(6, 40), np.full(6, 30))
    plain, ready = (
        run(requests, PRICES[1], POLICIES[0], Limits(num_block=200, block_token=4, ranks=ranks), record_steps=True)
        for ranks in ((), RANKS)
    )
    same(plain, ready)
    assert ready.counter["num_fetch"].sum() == 0


def test_an_admission_waits_for_its_adapter_and_the_next_one_does_not():
    """Two requests of one adapter, the second long after the first: one fetch of 900 us, one wait."""
    requests = load([0, 100_000], [32, 32], [4, 4], adapter=[0, 0])
    price = PRICES[1]
    done = run(requests, price, "vllm_v1:max_token=64,max_seq=4", Limits(num_block=200, block_token=4, ranks=RANKS))
    assert (done.counter["num_fetch"].sum(), done.counter["fetch_wait_ps"].sum()) == (1, 900 * US)
    ttft = done.request["first_token_ps"] - done.request["arrival_ps"]
    assert ttft[0] - ttft[1] == 900 * US


def test_who_is_next_is_fetched_while_a_step_runs():
    """One seat: the second request's adapter arrives long before the first request ends."""
    requests = load([0, 0], [32, 32], [40, 4], adapter=[0, 1])
    done = run(requests, PRICES[1], "vllm_v1:max_token=64,max_seq=1", Limits(num_block=200, block_token=4, ranks=RANKS))
    assert (done.counter["num_fetch"].sum(), done.counter["fetch_wait_ps"].sum()) == (2, 900 * US)


def test_what_does_not_fit_beside_others_is_evicted_and_fetched_again():
    """Room for one adapter beside the KV of a request: taking turns fetches each time."""
    num = 6
    requests = load(np.arange(num) * 50_000, np.full(num, 32), np.full(num, 4), adapter=np.arange(num) % 2 * 2)
    counts = {}
    for num_block in (9 + 6, 9 + 12):
        done = run(
            requests, PRICES[1], "vllm_v1:max_token=64,max_seq=4",
            Limits(num_block=num_block, block_token=4, ranks=RANKS),
        )  # fmt: skip
        assert (done.request["produced_token"] == 4).all()
        counts[num_block] = int(done.counter["num_fetch"].sum())
    assert counts == {15: num, 21: 2}
    small = run(requests, PRICES[1], "vllm_v1:max_token=64,max_seq=4", Limits(num_block=14, block_token=4, ranks=RANKS))
    assert (small.request["produced_token"] == 0).all()  # refused: adapter and KV never fit together


@pytest.mark.parametrize("tp", [1, 2])
def test_the_price_is_the_rows_of_the_operator_table(tp):
    price, lowered = priced("llama-3-8b", tp, 1)
    packed = pack(with_adapters(price, lowered, RANKS))
    for sums in ((1, 8, 8), (40, 640, 300), (500, 4000, 8)):
        time_ps, energy_nj, _, kb, mflop = adapter_cost(packed, *sums)
        ops = operators(lowered, 0, sums, 16)
        cost = lowered.price(ops, np.zeros(0, op.WORK_DTYPE))
        layers = lowered.model.num_layer
        assert (layers * time_ps, layers * energy_nj) == (cost["time_ps"].sum(), tp * cost["energy_nj"].sum())
        count = ops["count"] / layers
        assert kb == pytest.approx(tp * (op.mem_byte(ops) * count).sum() / 1e3, abs=1)
        assert mflop == pytest.approx(tp * (ops["flop"] * count).sum() / 1e6, abs=2)


def test_devices_divide_an_adapter_evenly():
    model = models.load("llama-2-7b")
    whole, half = (
        sum(count * (wide_in / split + wide_out) for count, wide_in, wide_out, split in projections(model, tp))
        for tp in (1, 2)
    )
    assert whole == 8 * 4096  # values a layer and rank: four projections of H by H
    assert half == whole / 2


@pytest.mark.parametrize(("tp", "pp"), [(1, 1), (2, 2)])
def test_run_ahead_equals_replay_on_simpy(tp, pp):
    random = np.random.default_rng(9)
    num = 14
    requests = load(
        np.sort(random.integers(0, 100_000, num)), random.integers(5, 100, num), random.integers(2, 40, num),
        adapter=random.integers(-1, 5, num),
    )  # fmt: skip
    limits = Limits(num_block=48, block_token=8, max_context_token=200, ranks=RANKS)
    price, lowered = priced("llama-3-8b", tp, pp)
    price = with_adapters(price, lowered, RANKS)
    policy = "vllm_v1:max_token=64,max_seq=4"
    ahead = run(requests, price, policy, limits)
    replay = Replay(requests, price, lowered, find("policy", policy), find("router", "round_robin"), limits, Options())
    seq = replay.run()
    for name, column in REQUEST_COLUMNS.items():
        np.testing.assert_array_equal(ahead.request[name], seq[column], err_msg=name)
    assert replay.num_operator == accounts(ahead, lowered).num_operator
    assert ahead.counter["num_fetch"].sum() >= 5
