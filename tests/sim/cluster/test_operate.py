"""A pool in operation: plain where nothing happens, start times by hand, nothing lost when engines are."""

import numpy as np
import pytest

from kernels.engine.records import FINISHED, LEAVING, SEQUENCE_FIELDS
from kernels.errors import InputError
from sim.cluster.operate import Operator
from sim.cluster.operated_pool import FRESH
from sim.cluster.operation import Event, Operation, from_table
from sim.cluster.pool import PoolPart
from sim.cluster.simulate_operation import most_up, simulate_operation
from sim.cluster.storage import Storage
from sim.run.scenario import Scenario
from sim.run.simulate import simulate
from sim.serving.limits import Limits, Options
from sim.serving.plugin import find
from sim.serving.rules import Group, Rules
from tests.sim.serving.serving_case import US, flat_price, load, run, same

GB = 1e9
POLICY = "vllm_v1:max_token=64,max_seq=4"


def part(num=2, policy=POLICY, router="least_outstanding", price=None, **more):
    limits = Limits(num_block=200, block_token=4, max_context_token=200, num_replica=num, **more)
    price = price or flat_price()
    return PoolPart("mixed", "mixed", price, find("policy", policy), find("router", router), limits)


def operate(requests, operation, pool=None, weight=GB, **options):
    """A gigabyte of weights at 1 GB/s where nothing else is said."""
    return Operator(requests, pool or part(), operation, weight, GB, Options(**options)).run()


def steady(num=40, gap_us=200, output=12):
    return load(np.arange(num) * gap_us, np.full(num, 20), np.full(num, output))


def served(result):
    r = result.result.request
    assert np.isin(r["status"], (FINISHED, LEAVING)).all()
    assert (r["produced_token"] == r["output_token"]).all()
    return r


@pytest.mark.parametrize("router", ["round_robin", "least_outstanding", "power_of_two"])
@pytest.mark.parametrize("engine", ["auto", "stepping"])
def test_where_nothing_happens_it_is_the_plain_fleet(router, engine):
    requests, pool = steady(), part(3, router=router)
    plain = run(requests, flat_price(), POLICY, pool.limits, router=router)
    same(plain, operate(requests, Operation(), pool, engine=engine).result)
    looked = operate(requests, Operation(scaler="fixed:num=3", min_engine=3, interval_s=1e-3), pool, engine=engine)
    same(plain, looked.result)  # who only looks changes nothing


def test_an_engine_is_up_when_its_weights_are_read_and_it_is_warm():
    # 3 GB at 1 GB/s and 2 s of warming up; from a store of 2 GB/s for all, the second of two waits for the first
    rules = {"start_engine": 1, "warm_s": 2.0, "event": (Event(1.0, 1, "start"), Event(1.0, 2, "start"))}
    requests = steady(4, 10_000_000)  # one in ten seconds
    for storage, up in ((0.0, [6.0, 6.0]), (0.5, [9.0, 15.0])):
        done = operate(requests, Operation(storage_GBps=storage, **rules), part(3), 3 * GB)
        assert [time_s for time_s, _, what in done.event if what == "up"] == up
    assert done.load_s == 3.0
    assert done.paid_s[0] == pytest.approx(30, rel=0.01)  # until the last answer
    assert done.paid_s[1] == pytest.approx(29, rel=0.01)  # loading is paid


def test_scaling_follows_the_load_and_drains_without_losing_anybody():
    burst = load(np.r_[np.arange(200) * 25, 1e6 + np.arange(5) * 1e5], np.full(205, 40), np.full(205, 20))
    rules = Operation(scaler="outstanding:target=4,down_s=0.05", interval_s=1e-3)
    done = operate(burst, rules, part(4), weight=1e6)  # a millisecond
    served(done)
    what = [word for _, _, word in done.event]
    assert what.count("load") == what.count("drain") >= 3
    assert done.num_resent == 0
    assert done.paid_s[0] > 1.4 > 10 * done.paid_s[1:].max()  # the others were there for the burst alone
    fewer = operate(burst, Operation(start_engine=1), part(4), weight=1e6)
    ttft = [np.mean(one.result.request["first_token_ps"] - one.result.request["arrival_ps"]) for one in (done, fewer)]
    assert ttft[0] < ttft[1]


@pytest.mark.parametrize("policy", [POLICY, "sarathi:max_token=48,max_seq=6", "vllm_v0:max_token=64,max_seq=4"])
@pytest.mark.parametrize(
    ("rules", "groups"),
    [
        (Rules(), (Group(),)),
        (Rules(own_cache=True, share_early=True), (Group(),)),
        (Rules(share_early=True, keep_duplicate=True, find_state=True), (Group(), Group("align", 1, 2))),
    ],
)
def test_what_a_failed_engine_had_is_computed_again(policy, rules, groups):
    requests = steady(60, 100, 16)
    pool = part(2, policy, rules=rules, groups=groups)
    done = operate(requests, Operation(event=(Event(2e-3, 0, "fail"), Event(4e-3, 1, "fail"))), pool, weight=1e6)
    r = served(done)
    assert done.num_resent > 0
    assert (r["num_preempted"] > 0).sum() <= done.num_resent
    assert [word for _, _, word in done.event if word != "up"] == ["fail", "load", "fail", "load"]
    plain = run(requests, flat_price(), policy, pool.limits, router="least_outstanding")
    assert done.result.counter["num_token"].sum() > plain.counter["num_token"].sum()
    assert r["end_ps"].sum() > plain.request["end_ps"].sum()


def test_of_one_engine_that_fails_everybody_waits_for_the_next():
    requests = load([0, 1_000], [20, 20], [30, 30])
    done = operate(requests, Operation(event=(Event(200e-6, 0, "fail"),), repair_s=1.0), part(1), weight=GB)
    r = served(done)
    # 16 tokens were there: one after the prompt (10 + 20 us), then one every 11 us. A second for a machine and one for
    # the weights later a step computes the prompt and these again, and the second prompt; 13 steps of both follow
    up_us = 2_000_200
    assert r["start_ps"].tolist() == [0, up_us * US]
    assert r["last_token_ps"][0] == (up_us + 10 + 36 + 20 + 13 * 12) * US
    assert r["last_token_ps"][1] == (up_us + 10 + 36 + 20 + 13 * 12 + 16 * 11) * US
    assert done.paid_s[0] == pytest.approx(200e-6 + r["end_ps"].max() / (US * 1e6) - 1.0002, rel=1e-9)


def test_a_machine_that_is_called_back_takes_nothing_new_and_ends_what_it_can():
    requests = steady(40, 200, 10)  # an answer takes some 150 us
    rules = Operation(event=(Event(2e-3, 0, "spot"),), spot_notice_s=2e-3, spot_replace_s=1e-3)
    done = operate(requests, rules, weight=1e6)
    r = served(done)
    assert done.num_resent == 0
    began = r["arrival_ps"][r["replica"] == 0]
    assert not (
        (began > 2_000 * US) & (began < 6_000 * US)
    ).any()  # 2 ms of notice, 1 ms without a machine, 1 ms to load
    assert (began > 6_000 * US).any()


def test_a_machine_that_fails_while_it_is_called_back_is_replaced_whatever_the_scaler_sees():
    """The one engine is called back at 2 ms; the scaler looks while none takes anything new; it fails at 4.5 ms, and is
    up again a millisecond later."""
    requests = steady(40, 200, 10)
    rules = Operation(event=(Event(2e-3, 0, "spot"), Event(4.5e-3, 0, "fail")), spot_notice_s=1.0, interval_s=1e-3,
                      scaler="outstanding:target=50")  # fmt: skip
    done = operate(requests, rules, part(1), weight=1e6)
    served(done)
    assert [what for _, _, what in done.event] == ["notice", "fail", "load", "up"]
    assert done.event[-1][0] == pytest.approx(5.5e-3)


def test_a_new_engine_has_an_empty_cache_but_for_what_lies_in_a_shared_tier():
    stop = np.arange(1, 31) * 5
    requests = load(np.arange(30) * 1_000, np.full(30, 21), np.full(30, 2), unit_start=stop - 5, unit_stop=stop,
                    unit_id=np.tile(np.arange(5), 30), unit_token=4)  # fmt: skip
    plain = run(requests, flat_price(), POLICY, part(1).limits)
    assert plain.counter["num_hit_token"].sum() == 29 * 20
    rules = Operation(event=(Event(10.5e-3, 0, "fail"),))
    lost = operate(requests, rules, part(1), weight=1e5)
    assert lost.result.counter["num_hit_token"].sum() == 28 * 20


def test_failures_are_drawn_by_the_seed():
    requests = steady(100, 1_000, 8)
    rules = Operation(mtbf_h=0.03 / 3600, repair_s=1e-3)  # an engine fails every 30 ms
    one, again, other = (operate(requests, rules, weight=1e6, seed=seed) for seed in (1, 1, 2))
    served(one)
    assert one.event == again.event != other.event
    same(one.result, again.result)
    failures = [what for _, _, what in one.event].count("fail")
    assert 1 <= failures <= 20


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"mtbf": 3}, "unknown field"), ({"scaler": 3}, "another type"), ({"interval_s": 0.0}, "out of range"),
        ({"repair_s": 5.0}, "nothing is lost"), ({"min_engine": 2}, "without a scaler"),
        ({"event": [{"at_s": 1, "kind": "fail"}]}, "not an event"),
        ({"event": [{"at_s": 1.0, "engine": 0, "kind": "burn"}]}, "no such event"),
        ({"warm_s": 20.0}, "warm_s = 20.0: has no effect: no engine is ever started; allowed: 0"),
        ({"storage_GBps": 2.0}, "storage_GBps = 2.0: has no effect: no engine is ever started"),
        ({"load_GBps": 2.0, "event": [{"at_s": 1.0, "engine": 0, "kind": "drain"}]}, "no engine is ever started"),
        ({"interval_s": 5.0, "mtbf_h": 3.0}, "interval_s = 5.0: has no effect: nothing is scaled or drained"),
    ],
)  # fmt: skip
def test_what_a_table_cannot_say(table, said):
    with pytest.raises(InputError, match=said):
        from_table(table)


def test_what_an_operation_cannot_do():
    for rules, said in (
        (Operation(event=(Event(0, 9, "fail"),)), "no such engine"),
        (Operation(scaler="fixd"), "no such scaler"),
        (Operation(event=(Event(0, 0, "drain"), Event(0, 1, "drain"))), "leaves no engine"),
        (Operation(scaler="fixed", min_engine=3), "more than dp"),
    ):
        with pytest.raises(InputError, match=said):
            operate(steady(), rules)


def test_a_scenario_in_operation():
    base = Scenario(model="llama-3.2-1b", system="dgx_h100", dp=3, router="least_outstanding",
                    requests="poisson:rate=30,n=150,prompt=300,output=40")  # fmt: skip
    plain, done = simulate(base), simulate_operation(base)
    assert done.requests["e2e_s"].sum() + 1e-9 >= 0
    np.testing.assert_array_equal(plain.result.request["end_ps"], done.result.result.request["end_ps"])
    scaled = simulate_operation(base, Operation(scaler="outstanding:target=4", interval_s=0.2, load_GBps=8.0))
    figure = scaled.figures.set_index("figure")["value"]
    assert figure["served"] == 150
    assert figure["load_s"] == pytest.approx(2 * 1.236e9 / 8e9, rel=0.01)  # 1.236 billion weights of 16 bits
    assert figure["engine_hours"] < done.figures.set_index("figure")["value"]["engine_hours"]
    with pytest.raises(InputError, match="says nothing of its disks"):
        simulate_operation(base, Operation(scaler="fixed"))


def test_a_request_that_is_sent_again_keeps_nothing_of_the_engine_that_failed():
    """Every field of a sequence is the load's, what its client has seen, or new."""
    kept = {
        "accepted", "adapter", "arrival_ps", "cached", "child", "draft_pass", "draft_width", "drafted", "encode_nj",
        "encode_ps", "end_ps", "first_ps", "key", "last_ps", "note", "num_unit", "output", "part", "preempted",
        "program", "prompt", "reason", "run_from", "seen", "sibling", "start_ps", "step_ps", "target", "think_ps",
        "unit_start", "verified",
    }  # fmt: skip
    assert {name for name, _, _ in SEQUENCE_FIELDS} - set(FRESH) == kept


def test_the_shared_storage_gives_in_order_of_time():
    """Who asks later for an earlier time does not wait for a machine that is not there yet."""
    storage = Storage(10)
    assert [storage.read_by(k, there_ps) for k, there_ps in enumerate((210, 20, 20, 205, 0))] == [220, 30, 40, 230, 10]
    storage.stop(1, 25)  # half read: the store is free from then on
    storage.stop(2, 25)
    assert [storage.read_by(k, 0) for k in (1, 2)] == [20, 35]


def test_the_most_engines_at_once_are_those_that_were_up_at_first_and_those_that_came():
    rules = Operation(start_engine=2, event=(Event(1e-3, 2, "start"), Event(5e-3, 0, "drain"), Event(8e-3, 0, "start")))
    done = operate(steady(60, 300), rules, part(4), weight=1e6)
    assert most_up(done.event, done.paid_s) == 3
    assert most_up([], np.array([1.0, 1.0, 0.0])) == 2


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 2.0, True, "2"])
def test_a_number_of_engines_is_a_whole_number(value):
    with pytest.raises(InputError, match="min_engine"):
        from_table({"scaler": "fixed:num=1", "min_engine": value})
