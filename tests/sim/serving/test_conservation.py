"""What is never created or lost: KV blocks, tokens, requests, time; and limits that hold at every step."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.engine import records as at
from kernels.engine.lanes import settle_all
from kernels.engine.price import pack
from kernels.engine.types import engine_of, fleet_of
from kernels.errors import InputError
from sim.serving import state, stepping
from sim.serving.engine import serve
from sim.serving.limits import Limits, Options
from sim.serving.plugin import find
from tests.sim.serving.serving_case import US, attention_price, flat_price, load, preempts, rules_drawn, run
from tests.sim.serving.test_run_ahead import POLICIES, loads

PRICES = {stage: attention_price(512, 8, stage, window=40) for stage in (1, 2)}


def resident(w, k):
    """Units in engine k's store: the entries that hang in a bucket."""
    found = []
    for bucket in w.unit["bucket"]:
        while bucket:
            if w.unit["engine"][bucket] == k:
                found.append(bucket)
            bucket = w.unit["chain"][bucket]
    return np.array(sorted(found), int)


def evictable(w, me):
    """Blocks in the order of eviction, walked from its head, and its last entry."""
    blocks, node, last = 0, int(me["lru_head"]), 0
    while node:
        entry = w.unit[node] if node > 0 else w.seq[-1 - node]
        assert entry["previous"] == last
        blocks += int(me["unit_block"]) if node > 0 else int(entry["run"] + entry["blank"])
        last, node = node, int(entry["next"])
    return blocks, last


def check(w):
    """The state of every engine between two events."""
    for k in range(len(w.engine)):
        me = w.engine[k]
        settle_all(engine_of(w, k))
        here = w.seq[w.seq["replica"] == k]
        held = here[np.isin(here["status"], (at.RUNNING, at.DONE, at.LEAVING))]
        gone = here[~np.isin(here["status"], (at.RUNNING, at.DONE, at.LEAVING))]
        blocks = int(held["block"].sum() + here["run"].sum() + here["blank"].sum()) + int(me["free_block"])
        if me["reserve"] == at.PAGED:
            ref = w.unit["ref"][resident(w, k)]
            blocks += len(ref) * int(me["unit_block"])
            assert ref[ref > 0].sum() == here["shared"].sum()  # every hold has a holder
            assert evictable(w, me) == (me["evictable_block"], me["lru_tail"])
            # enough blocks for every token, none for a sequence that is not running
            room = (held["block"] + held["shared"] * me["unit_block"]) * me["block_token"]
            assert (room >= held["kv"]).all()
            assert not gone["block"].any()
        assert blocks == me["num_block"]
        assert 0 <= me["free_block"] <= me["num_block"]
        assert me["kv_token"] == held["kv"].sum()
        assert me["num_running"] == len(held)
        live = here[np.isin(here["status"], (at.WAITING, at.RUNNING, at.SWAPPED, at.DONE))]
        assert me["outstanding"] == len(live)
        assert me["load_token"] == (live["prompt"] + live["produced"]).sum()
        assert me["num_waiting"] == np.isin(here["status"], (at.WAITING, at.SWAPPED)).sum()


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=6, deadline=None)
@given(
    requests=loads(), num_stage=st.sampled_from([1, 2]), swap=st.booleans(), plan_ahead=st.sampled_from([0, 1]),
    rules=rules_drawn(),
)  # fmt: skip
def test_blocks_tokens_and_requests_are_conserved_at_every_event(policy, requests, num_stage, swap, plan_ahead, rules):
    limits = Limits(
        num_block=45 + 100 * ("reserve" in policy), block_token=4, max_context_token=160, num_replica=2,
        plan_ahead=plan_ahead, rules=rules, **preempts(swap, rules),
    )  # fmt: skip
    plugin, router, price = find("policy", policy), find("router", "least_token"), PRICES[num_stage]
    w = state.build(requests, price, plugin, limits, Options())
    fleet = fleet_of(w, router.vector(), 0)
    while stepping.run(w, fleet, pack(price), plugin.function, router.function, 1) == stepping.BUDGET:
        check(w)
    assert w.engine["host_free_block"].tolist() == [limits.host_block] * 2
    assert (w.seq["status"] >= at.FINISHED).all()


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=10, deadline=None)
@given(requests=loads(), num_stage=st.sampled_from([1, 2]))
def test_every_step_and_request_keeps_its_limits(policy, requests, num_stage):
    limits = Limits(num_block=45 + 100 * ("reserve" in policy), block_token=4, max_context_token=160)
    result = run(requests, PRICES[num_stage], policy, limits, record_steps=True)
    value = find("policy", policy).value
    log = dict(zip(at.LOG_COLUMNS, result.step.T, strict=True))
    rows = log["num_prefill"] + log["num_decode"] + log["num_idle"]
    token = log["prefill_token"] + log["pad_token"] + log["num_decode"]
    assert (rows <= value["max_seq"]).all()
    assert (token <= value["max_token"]).all()
    assert (rows > 0).all()
    assert (log["used_block"] + log["cached_block"] <= limits.num_block).all()
    r = result.request
    done = r["status"] == at.FINISHED
    assert (done | (r["status"] == at.REFUSED)).all()
    assert ((r["reason"] > 0) == ~done).all()
    assert (r["produced_token"][done] == requests.output_token[done]).all()
    for earlier, later in (
        ("arrival", "start"),
        ("start", "first_token"),
        ("first_token", "last_token"),
        ("last_token", "end"),
    ):
        assert (r[f"{earlier}_ps"][done] <= r[f"{later}_ps"][done]).all()
    assert result.counter["num_output_token"].sum() == requests.output_token[done].sum()
    # a gap between two tokens for every token but the first of each request
    assert result.gap_count.sum() == (requests.output_token[done] - 1).sum()
    # computed = prompts + one a decoded token + what was recomputed + padding - what was cached
    must = requests.prompt_token[done].sum() + requests.output_token[done].sum() - done.sum()
    if result.counter["num_recompute"].sum() == 0:
        computed = result.counter["num_token"].sum() - result.counter["num_pad_token"].sum()
        assert computed == must - result.counter["num_hit_token"].sum()
    # each stage computes one step at a time, and steps of a lane follow each other
    for lane in range(num_stage):
        of_lane = result.step[log["lane"] == lane]
        assert (of_lane[1:, 2] >= of_lane[:-1, 3]).all()


def test_sarathi_never_stalls_a_decode():
    # between admission and end every step of the replica decodes each sequence whose prompt is done
    random = np.random.default_rng(3)
    requests = load(np.sort(random.integers(0, 4000, 40)), random.integers(50, 900, 40), random.integers(2, 60, 40))
    result = run(requests, flat_price(), "sarathi:max_token=128,max_seq=16", Limits(num_block=4000), record_steps=True)
    longest_ps = (result.step[:, 3] - result.step[:, 2]).max()
    worst = np.flatnonzero(result.gap_count)[-1]
    from kernels.engine.gap import edges_s

    assert edges_s()[worst] <= longest_ps * 1e-12  # no token waits longer than one step
    v0 = run(requests, flat_price(), "vllm_v0:max_token=4096,max_seq=16", Limits(num_block=4000), record_steps=True)
    assert edges_s()[np.flatnonzero(v0.gap_count)[-1]] > 3 * longest_ps * 1e-12  # prefill-priority stalls them


def test_constant_service_agrees_with_md1():
    # one sequence at a time, one output token, steps of 11 us: M/D/1. Mean wait = rho S / (2 (1 - rho)).
    # 200,000 arrivals at rho = 0.7: the standard error of the mean wait, from 40 batches, is below 2 %.
    random = np.random.default_rng(11)
    num, service_us, rho = 200_000, 11, 0.7
    arrival = np.cumsum(random.exponential(service_us / rho, num))
    requests = load(np.zeros(num), np.ones(num), np.ones(num))
    requests = type(requests)(**{**vars(requests), "arrival_ps": (arrival * US).astype(np.int64)})
    result = run(requests, flat_price(max_token=64, max_seq=4), "vllm_v1:max_token=64,max_seq=1", Limits(num_block=10))
    wait_us = (result.request["start_ps"] - result.request["arrival_ps"]) / US
    batch = wait_us.reshape(40, -1).mean(axis=1)
    error = batch.std(ddof=1) / np.sqrt(len(batch))
    expected = rho * service_us / (2 * (1 - rho))
    assert error < 0.02 * expected
    assert abs(wait_us.mean() - expected) < 4 * error
    assert (result.request["end_ps"] - result.request["start_ps"] == service_us * US).all()


def test_work_grows_linearly_with_requests():
    def calls(num):
        random = np.random.default_rng(5)
        arrival = np.cumsum(random.exponential(400, num))
        requests = load(arrival, random.integers(1, 100, num), random.integers(1, 40, num))
        result = run(requests, flat_price(), "sarathi", Limits(num_block=2000))
        return np.array([result.counter["num_step"].sum(), result.counter["num_plan"].sum()])

    ratio = calls(16_000) / calls(4000)
    assert (abs(ratio - 4) < 0.2).all()  # 4 x the requests, 4 x the steps and plans (5 %: sampling)


STUCK = '''
"""Admits a sequence a plan and never schedules it."""

from kernels.engine.verbs import admit, head
from sim.serving.plugin import Option

OPTIONS = {"max_token": Option(512, "tokens a step"), "max_seq": Option(4, "sequences")}


def plan(r):
    if head(r) >= 0:
        admit(r, 1)
    return 0
'''


@pytest.mark.parametrize("engine", ["run-ahead", "stepping"])
def test_deadlock_names_who_waits(tmp_path, engine):
    path = tmp_path / "stuck.py"
    path.write_text(STUCK)
    with pytest.raises(InputError, match=r"replica 0: policy stuck .*: 2 requests hold KV \(0, 1\)"):
        run(load([0, 0], [5, 5], [2, 2]), flat_price(), str(path), Limits(num_block=9), engine=engine)


def test_an_interrupt_keeps_what_was_done():
    def interrupt(ended, steps):
        raise KeyboardInterrupt

    num = 3000
    requests = load(np.arange(num) * 100, np.full(num, 8), np.full(num, 5))
    from unittest import mock

    with mock.patch("sim.serving.engine.time.monotonic", side_effect=range(10_000)):  # a second a look
        result = serve(
            requests, flat_price(), find("policy", "sarathi"), find("router", "random"), Limits(num_block=100),
            Options(progress=interrupt, budget=500),
        )  # fmt: skip
    assert not result.complete
    finished = int(result.counter["num_finished"].sum())
    assert 0 < finished < num
    assert (result.request["status"] == at.FINISHED).sum() == finished
