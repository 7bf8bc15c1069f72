"""Spans that rows share are read once: closed forms, neutral settings, and every way of running gives the integers."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_models import catalog
from hw_models.device import machine
from sim.serving.accounts import accounts
from sim.serving.limits import Limits, Options
from sim.serving.plugin import find
from sim.serving.replay import Replay
from sim.serving.result import REQUEST_COLUMNS
from sim.serving.rules import Rules, Spans
from sim.serving.step_price import HostTime, build
from tests.sim.serving.serving_case import attention_price, load, run, same
from tests.sim.serving.test_run_ahead import loads
from workloads import formats, models, placement

PRICES = {stage: attention_price(512, 8, stage, window=40) for stage in (1, 3)}
POLICIES = ["vllm_v1:max_token=32,max_seq=5", "vllm_v0:max_token=256,max_seq=6", "sarathi:max_token=24,max_seq=6"]
VLLM = Rules(own_cache=True, share_early=True, end_late=True, pooled=True, by_admission=True, keep_duplicate=True)


def shared(num: int, prefix: int, own: int = 16, output: int = 40, unit_token: int = 16):
    """`num` requests at once that share `prefix` tokens and have `own` more."""
    unit = prefix // unit_token
    return load(
        np.zeros(num, int), np.full(num, prefix + own), np.full(num, output), unit_start=np.zeros(num, int),
        unit_stop=np.full(num, unit), unit_id=np.arange(unit), unit_token=unit_token,
    )  # fmt: skip


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=12, deadline=None)
@given(
    requests=loads(),
    num_block=st.sampled_from([45, 60, 200]),
    num_stage=st.sampled_from([1, 3]),
    swap=st.booleans(),
    rules=st.sampled_from([Rules(), VLLM]),
    spans=st.builds(Spans, st.integers(2, 4), st.sampled_from([1, 16]), st.booleans()),
    plan_ahead=st.sampled_from([0, 1]),
)
def test_run_ahead_equals_stepping(policy, requests, num_block, num_stage, swap, rules, spans, plan_ahead):
    limits = Limits(
        num_block=num_block, block_token=4, max_context_token=160, preemption="swap" if swap else "recompute",
        host_block=40 if swap else 0, rules=rules, plan_ahead=plan_ahead, spans=spans,
    )  # fmt: skip
    ahead, step = (
        run(requests, PRICES[num_stage], policy, limits, engine=engine, record_steps=True)
        for engine in ("run-ahead", "stepping")
    )
    same(ahead, step)


@pytest.mark.parametrize("spans", [Spans(2), Spans(2, 33), Spans(2, 1, common=True)])
def test_without_a_shared_prefix_nothing_changes(spans):
    requests = load(np.zeros(6, int), np.full(6, 40), np.full(6, 30))
    plain, with_rule = (
        run(requests, PRICES[1], POLICIES[0], Limits(num_block=200, block_token=4, spans=rule), record_steps=True)
        for rule in (Spans(), spans)
    )
    same(plain, with_rule)
    assert with_rule.counter["num_span_step"].sum() == 0


def test_bytes_are_those_of_the_prefix_once_and_what_is_each_rows_own():
    num, prefix, own, output = 5, 64, 16, 20
    limits = {name: Limits(num_block=400, block_token=16, spans=rule) for name, rule in
              (("apart", Spans()), ("together", Spans(2)))}  # fmt: skip
    price = attention_price(512, 8)
    found = {name: run(shared(num, prefix, own, output), price, "vllm_v0:max_token=512,max_seq=8", limit)
             for name, limit in limits.items()}  # fmt: skip
    step = output - 1
    assert found["together"].counter["num_span_step"].sum() == step
    assert found["together"].counter["num_span_token"].sum() == step * (num - 1) * prefix
    token_kb, row_kb = 8 * 256 * 2 / 1000, 32 * 256 * 2 / 1000
    layers = 2 * 4
    saved = found["apart"].attn_kb.sum() - found["together"].attn_kb.sum()
    assert saved == pytest.approx(layers * step * ((num - 1) * prefix * token_kb - num * row_kb), rel=1e-2)
    assert found["apart"].attn_mflop.sum() == pytest.approx(found["together"].attn_mflop.sum(), rel=2e-2)  # whole MFLOP


def test_a_tree_is_read_node_by_node():
    """Four requests: all share 4 units, two and two share 4 more; 160 of each row's tokens are read with others."""
    unit = 16
    chains = [[0, 1, 2, 3, 10 + pair, 11 + pair, 12 + pair, 13 + pair] for pair in (0, 0, 10, 10)]
    _, ids = np.unique(np.concatenate(chains), return_inverse=True)
    requests = load(
        np.zeros(4, int), np.full(4, 140), np.full(4, 11), unit_start=np.arange(4) * 8,
        unit_stop=np.arange(1, 5) * 8, unit_id=ids, unit_token=unit,
    )  # fmt: skip
    counts = {}
    for name, rule in (("tree", Spans(2)), ("common", Spans(2, 1, common=True)), ("long", Spans(2, 65))):
        limits = Limits(num_block=400, block_token=16, spans=rule)
        done = run(requests, attention_price(1024, 8), "vllm_v0:max_token=1024,max_seq=8", limits)
        counts[name] = int(done.counter["num_span_token"].sum())
    assert counts == {"tree": 10 * 64 * (3 + 2), "common": 10 * 64 * 3, "long": 0}


@functools.cache
def priced(name: str, tp: int, pp: int):
    model = models.load(name)
    host = HostTime(step_s=5e-4, seq_s=1e-5, request_s=1e-4, dispatch_layer_s=1.2e-4, graph_token=(1, 2))
    arrays = machine(catalog.system("h100_sxm"))
    return build(model, formats.Formats(), placement.make(model, tp, pp), arrays, max_token=512, max_seq=8, host=host)


@pytest.mark.parametrize("policy", ["vllm_v1:max_token=64,max_seq=4", "vllm_v0:max_token=512,max_seq=4"])
@pytest.mark.parametrize(("model", "pp", "common"), [("llama-3-8b", 1, False), ("gemma-3-27b", 2, True)])
def test_run_ahead_equals_replay_on_simpy(policy, model, pp, common):
    random = np.random.default_rng(5)
    num, unit = 12, 16
    prompt, output = random.integers(70, 120, num), random.integers(2, 40, num)
    chains = [[*range(3), *([50 + i % 2] if i % 3 else [])] for i in range(num)]
    edges = np.cumsum([0, *map(len, chains)])
    _, ids = np.unique(np.concatenate(chains), return_inverse=True)
    requests = load(
        np.sort(random.integers(0, 100_000, num)), prompt, output, unit_start=edges[:-1], unit_stop=edges[1:],
        unit_id=ids, unit_token=unit,
    )  # fmt: skip
    limits = Limits(num_block=48, block_token=8, max_context_token=200, spans=Spans(2, 1, common))
    price, lowered = priced(model, 2, pp)
    ahead = run(requests, price, policy, limits)
    assert ahead.counter["num_span_step"].sum() > 10
    replay = Replay(requests, price, lowered, find("policy", policy), find("router", "round_robin"), limits, Options())
    seq = replay.run()
    for name, column in REQUEST_COLUMNS.items():
        np.testing.assert_array_equal(ahead.request[name], seq[column], err_msg=name)
    assert replay.num_operator == accounts(ahead, lowered).num_operator
