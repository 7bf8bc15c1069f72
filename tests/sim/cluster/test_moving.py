"""KV that is moved before a machine is gone: times by hand, bytes that are needed, nobody lost or served twice."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.errors import InputError
from sim.cluster.operation import Event, Operation, PoolsOperation
from sim.cluster.simulate_operation import simulate_operation
from sim.run.scenario import Scenario
from sim.serving.rules import Group, Rules
from tests.sim.cluster import test_operate as one_pool
from tests.sim.cluster.test_meetings import sessions
from tests.sim.cluster.test_operate import POLICY, operate, served
from tests.sim.serving.serving_case import US, load, same

TOKEN_BYTE = 1000.0


def part(num=2, byte_per_s=1e9, **more):
    pool = one_pool.part(num, **more)
    return dataclasses.replace(pool, kv_token_byte=TOKEN_BYTE, link_byte_per_s=byte_per_s)


def called_back(*at_us, notice_us=1000.0, move_us=1000.0, engine=0, **more):
    events = tuple(Event(us * 1e-6, engine, "spot") for us in at_us)
    return Operation(event=events, spot_notice_s=notice_us * 1e-6, spot_move_s=move_us * 1e-6, **more)


def said(done, k):
    return [what for _, engine, what in done.event if engine == k]


def test_one_request_goes_on_where_its_kv_has_come_to():
    """The prompt takes 30 us and each further token 11: seven are there at 96 us. At 100 us the KV of 26 tokens takes
    to a link of a byte a nanosecond and lands at 126; the 23 tokens that are left take 11 us each."""
    done = operate(load([0], [20], [30]), called_back(100), part())
    r = served(done)
    assert r["last_token_ps"].tolist() == [(126 + 23 * 11) * US]
    assert (done.num_moved, done.moved_byte, done.num_resent) == (1, 26 * TOKEN_BYTE, 0)
    assert (r["replica"][0], r["num_preempted"][0]) == (1, 0)


def test_it_decodes_until_the_notice_has_so_much_left():
    """Of a notice of 1,000 us the last 800: it goes at 300 us, when 25 tokens are there."""
    done = operate(load([0], [20], [30]), called_back(100, move_us=800.0), part())
    assert done.moved_byte == (20 + 25 - 1) * TOKEN_BYTE
    assert served(done)["last_token_ps"].tolist() == [(300 + 44 + 5 * 11) * US]


def test_two_share_the_link_out():
    """Both prompts take 50 us, each further step of both 12: five tokens of each are there at 98. KV of 24 tokens each
    shares the link: both land at 148, and 25 steps follow."""
    requests = load([0, 0, 0, 0], [20, 20, 20, 20], [30, 1, 30, 1])
    done = operate(requests, called_back(100), part(2, router="round_robin"))
    r = served(done)
    assert (done.num_moved, done.moved_byte) == (2, 48 * TOKEN_BYTE)
    assert r["replica"].tolist() == [1, 1, 1, 1]
    assert (r["last_token_ps"][[0, 2]] == (148 + 25 * 12) * US).all()


def test_what_has_not_arrived_when_the_machine_is_gone_is_computed_again():
    """26 kB at 0.1 GB/s take 260 us of a notice of 100: the first 10 kB are moved for nothing."""
    done = operate(load([0], [20], [30]), called_back(100, notice_us=100.0, move_us=100.0), part(byte_per_s=1e8), 1e6)
    r = served(done)
    assert (done.num_moved, done.num_resent, r["num_preempted"][0]) == (0, 1, 1)
    assert done.moved_byte == pytest.approx(100e-6 * 1e8)
    assert r["last_token_ps"].tolist() == [(200 + 10 + 27 + 22 * 11) * US]  # prompt and seven tokens in one step


def test_kv_on_its_way_to_an_engine_that_fails_is_sent_whole_to_another():
    """Engine 1 fails 10 us after the KV has set out to it; the 26 kB begin anew, to engine 2."""
    rules = dataclasses.replace(called_back(100), event=(Event(100e-6, 0, "spot"), Event(110e-6, 1, "fail")))
    done = operate(load([0], [20], [30]), rules, part(3), 1e6)
    assert served(done)["last_token_ps"].tolist() == [(110 + 26 + 23 * 11) * US]
    assert done.moved_byte == pytest.approx((26 + 10) * TOKEN_BYTE)
    assert done.num_resent == 0


def test_kv_whose_receiver_is_called_back_too_turns_to_another():
    rules = called_back(100)
    rules = dataclasses.replace(rules, event=(*rules.event, Event(110e-6, 1, "spot")))
    done = operate(load([0], [20], [30]), rules, part(3), 1e6)
    assert served(done)["last_token_ps"].tolist() == [(110 + 26 + 23 * 11) * US]
    assert said(done, 1)[:2] == ["notice", "move"]


def test_a_pool_of_one_has_nobody_to_move_to():
    """It is the pool without moves, to the tick."""
    requests = load(np.arange(20) * 100, np.full(20, 20), np.full(20, 16))
    rules = called_back(700, notice_us=300.0, move_us=300.0)
    moves = operate(requests, rules, part(1), 1e6)
    stays = operate(requests, dataclasses.replace(rules, spot_move_s=0.0), part(1), 1e6)
    same(moves.result, stays.result)
    assert "no move: no other engine is up" in said(moves, 0)
    assert moves.moved_byte == 0


def test_fewer_tokens_are_computed_than_where_the_machine_takes_them_along():
    requests = load(np.arange(60) * 100, np.full(60, 40), np.full(60, 60))
    rules = called_back(2000, notice_us=200.0, move_us=200.0)
    tokens = [
        operate(requests, one, part(2), 1e6).result.counter["num_token"].sum()
        for one in (rules, dataclasses.replace(rules, spot_move_s=0.0))
    ]
    assert tokens[0] < tokens[1]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    policy=st.sampled_from([POLICY, "sarathi:max_token=48,max_seq=6", "vllm_v0:max_token=64,max_seq=4"]),
    rules=st.sampled_from([Rules(), Rules(own_cache=True, share_early=True)]),
    groups=st.sampled_from([(Group(),), (Group("window", 12), Group()), (Group(), Group("state", 0, 3))]),
    byte_per_s=st.sampled_from([1e7, 1e9, 1e12]),
    num=st.integers(1, 4),
)
def test_every_request_ends_once_whatever_befalls_the_engines(seed, policy, rules, groups, byte_per_s, num):
    random = np.random.default_rng(seed)
    many = 30
    requests = load(np.sort(random.integers(0, 4000, many)), random.integers(1, 24, many), random.integers(1, 40, many))
    kinds = random.choice(["spot", "spot", "fail"], 6)
    events = tuple(Event(float(random.integers(1, 5000)) * 1e-6, int(random.integers(num)), str(one)) for one in kinds)
    wanted = Operation(event=events, spot_notice_s=4e-4, spot_move_s=float(random.choice([1e-4, 4e-4])))
    if "spot" not in wanted.kinds:
        return
    done = operate(requests, wanted, part(num, policy=policy, byte_per_s=byte_per_s, rules=rules, groups=groups), 1e5)
    r = served(done)
    assert done.result.gap_count.sum() == (r["output_token"] - 1).sum()
    assert r["produced_token"].sum() == r["output_token"].sum()
    assert (r["first_token_ps"] <= r["last_token_ps"]).all()
    whole = r["num_preempted"].sum() == 0 and done.num_resent == 0
    assert done.moved_byte >= 0
    if whole:
        assert done.moved_byte % TOKEN_BYTE == 0
    if num == 1:
        assert done.moved_byte == done.num_moved == 0


def test_what_moves_are_refused():
    with pytest.raises(InputError, match=r"spot_move_s = 2\.0: out of range; allowed: 0 to 1"):
        called_back(100, notice_us=1e6, move_us=2e6)
    with pytest.raises(InputError, match="has no effect: nothing is lost by spot"):
        Operation(spot_move_s=1.0)
    with pytest.raises(InputError, match="the decode pool does not move KV"):
        PoolsOperation(decode=called_back(100))
    with pytest.raises(InputError, match="KV is moved in pages"):
        operate(load([0], [20], [30]), called_back(100), part(policy="orca:max_seq=4,max_token=64,reserve=max"))


def test_a_scenario_whose_machine_is_called_back():
    base = Scenario(
        model="llama-3.2-1b", system="dgx_h100", dp=2, requests="constant:rate=20,n=40,prompt=300,output=400"
    )
    rules = Operation(event=(Event(1.0, 0, "spot"),), spot_notice_s=0.1, spot_move_s=0.1, load_GBps=8.0)
    figure = simulate_operation(base, rules).figures.set_index("figure")["value"]
    assert figure["served"] == 40
    assert figure["moved_requests"] > 0
    # 16 layers of 8 heads of 64, keys and values of 16 bits: 32,768 bytes a token; of 300 to 700 tokens
    each = figure["moved_GB"] * 1e9 / figure["moved_requests"]
    assert 300 * 32_768 <= each <= 700 * 32_768


@pytest.mark.parametrize("seed", range(6))
def test_sessions_go_on_where_a_turn_was_moved_to(seed):
    """A turn begins when the one before it has ended, wherever that was."""
    requests = sessions(seed, 10, 4, 150, think_us=30)
    rules = called_back(400, 900, notice_us=300.0, move_us=200.0)
    done = operate(requests, rules, part(3, rules=Rules(own_cache=True, share_early=True)), 1e5)
    r = served(done)
    child = requests.parent >= 0
    parent = requests.parent[child]
    assert (r["arrival_ps"][child] == r["end_ps"][parent] + requests.think_ps[child]).all()
    assert "move" in said(done, 0)


def test_prefixes_and_tiers_stay_with_their_machines():
    """Turns that name their prefixes, over a tier that replicas share: everybody is served, with every token."""
    base = Scenario(model="llama-3.2-1b", system="dgx_h100", dp=3, router="least_pending",
                    requests="poisson:rate=12,n=90,turns=3,think_s=0.2,prompt=300,output=120",
                    kv_tiers="host:GiB=8,shared=0")  # fmt: skip
    events = (Event(1.0, 0, "spot"), Event(2.0, 1, "spot"))
    rules = Operation(event=events, spot_notice_s=0.3, spot_move_s=0.3, load_GBps=8.0)
    done = simulate_operation(base, rules)
    assert done.requests["served"].all()
    assert (done.requests["produced_token"] == done.requests["output_token"]).all()
    figure = done.figures.set_index("figure")["value"]
    assert figure["moved_requests"] > 0
    assert figure["cached_token"] > 0
