"""What events do to engines that are drained, called back, loading, or waiting for a machine: times by hand."""

import numpy as np
import pytest

from kernels.engine.snapshot import PLACE
from sim.cluster.operate import Operator
from sim.cluster.operated_pool import OperatedPool
from sim.cluster.operation import Operation, PoolsOperation
from sim.cluster.simulate_operation import most_up
from sim.serving.limits import Options
from sim.serving.rules import Group, Rules
from tests.sim.cluster import test_operate as one_pool
from tests.sim.cluster.test_operate_pools import ENGINES, check_laws, events, operate, part
from tests.sim.serving.serving_case import US, load

TRACE = load(np.arange(40) * 100, np.full(40, 20), np.full(40, 16))


def words(done, role, k):
    return [what for _, of, engine, what in done.event if (of, engine) == (role, k)]


def times(done, role, what):
    return [(k, time_s) for time_s, of, k, word in done.event if (of, word) == (role, what)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("each", "said", "lost_us"),
    [
        ([(150, 0, "drain"), (200, 0, "spot")], ["drain", "notice", "gone"], 1100),
        ([(150, 0, "spot"), (200, 0, "drain")], ["notice", "drain", "gone"], 1050),
        ([(150, 0, "drain"), (200, 0, "spot"), (300, 0, "fail")], ["drain", "notice", "fail"], 300),
        ([(150, 0, "drain"), (300, 0, "fail")], ["drain", "fail"], 300),
    ],
)
def test_no_machine_comes_in_place_of_one_that_was_drained(engine, each, said, lost_us):
    rules = Operation(event=events(*each), **({"spot_notice_s": 0.9e-3} if "notice" in said else {}))
    done = operate(TRACE, PoolsOperation(decode=rules), engine=engine)
    assert words(done, "decode", 0) == said
    assert done.paid_s["decode"][0] == pytest.approx(lost_us * 1e-6)
    check_laws(TRACE, done)


@pytest.mark.parametrize("engine", ENGINES)
def test_one_that_is_called_back_and_then_fails_is_replaced(engine):
    rules = Operation(event=events((150, 0, "spot"), (300, 0, "fail")), spot_notice_s=0.9e-3)
    done = operate(TRACE, PoolsOperation(decode=rules), engine=engine)
    assert words(done, "decode", 0) == ["notice", "fail", "load", "up"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_pool_takes_the_machine_that_it_has_left_itself(engine):
    rules = Operation(start_engine=2, interval_s=1e-3, event=events((100, 2, "start"), (200, 0, "drain")))
    done = operate(TRACE, PoolsOperation(prefill=rules, machines=4), [part("prefill", 3), part("decode", 2)],
                   engine=engine)  # fmt: skip
    assert words(done, "prefill", 2) == ["wait", "load", "up"]
    (_, off_s), = times(done, "prefill", "off")  # fmt: skip
    assert times(done, "prefill", "load") == [(2, off_s)]
    assert times(done, "prefill", "up") == [(2, pytest.approx(off_s + 1e-3))]
    check_laws(TRACE, done)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("scaler", ["", "fixed:num=1", "fixed:num=2"])
def test_a_machine_goes_to_the_engine_that_an_event_named(engine, scaler):
    """Two machines are left, and one engine of the other pool waits by name, whatever its scaler sees meanwhile: a
    scaler that wants one more has it with this one, until it looks again."""
    looks = {"scaler": scaler, "interval_s": 1e-3} if scaler else {}
    rules = PoolsOperation(
        Operation(interval_s=1e-3, event=events((1100, 1, "drain"), (1105, 2, "drain"))),
        Operation(start_engine=1, event=events((100, 2, "start")), **looks), machines=4,
    )  # fmt: skip
    done = operate(TRACE, rules, [part("prefill", 3), part("decode", 3)], engine=engine)
    off_s = min(time_s for _, time_s in times(done, "prefill", "off"))
    assert times(done, "decode", "load") == [(2, off_s)]
    check_laws(TRACE, done)


def test_a_start_that_waits_for_a_machine_can_be_withdrawn():
    rules = PoolsOperation(
        Operation(interval_s=1e-3, event=events((300, 1, "drain"))),
        Operation(start_engine=1, event=events((100, 1, "start"), (150, 1, "start"), (200, 1, "drain"))), machines=3,
    )  # fmt: skip
    done = operate(TRACE, rules)
    assert words(done, "decode", 1) == ["wait", "no effect: engine was waiting for a machine", "withdrawn"]
    assert done.paid_s["decode"][1] == 0.0


@pytest.mark.parametrize("what", ["fail", "spot"])
def test_a_machine_that_comes_in_place_of_a_lost_one_has_no_weights(what):
    """One that was drained is lost at 300 us, or called back then for as long: another is there 100 us later."""
    costs = {"repair_s": 1e-4} if what == "fail" else {"spot_notice_s": 3e-4, "spot_replace_s": 1e-4}
    rules = PoolsOperation(
        Operation(interval_s=1.0, event=events((210, 0, "drain"), (300, 0, what)), **costs),
        Operation(start_engine=1, event=events((100, 1, "start"))), machines=3,
    )  # fmt: skip
    done = operate(TRACE, rules, alike=True)
    there_s = 400e-6 if what == "fail" else 700e-6
    assert times(done, "decode", "load") == [(1, pytest.approx(there_s))]
    assert times(done, "decode", "up") == [(1, pytest.approx(there_s + 1e-3))]


def test_a_machine_that_is_called_back_is_not_passed_on():
    """Drained and called back, it is seen empty at 1.21 ms; its notice ends at 2.3 ms, when another is there."""
    rules = PoolsOperation(
        Operation(interval_s=1e-3, event=events((210, 0, "drain"), (300, 0, "spot")), spot_notice_s=2e-3),
        Operation(start_engine=1, event=events((100, 1, "start"))), machines=3,
    )  # fmt: skip
    done = operate(TRACE, rules, alike=True)
    assert words(done, "prefill", 0) == ["drain", "notice", "off"]
    assert times(done, "decode", "load") == [(1, pytest.approx(2.3e-3))]


@pytest.mark.parametrize(
    ("each", "said"),
    [
        ([(100, 1, "start")], ["no effect: engine was up"]),
        ([(20, 0, "drain"), (30, 0, "start"), (40, 0, "drain")],
         ["drain", "no effect: engine was draining", "no effect: engine was draining"]),
        ([(100, 1, "spot"), (200, 1, "spot")], ["notice", "no effect: engine was called back", "gone", "load", "up"]),
        ([(100, 2, "fail"), (200, 2, "spot"), (300, 2, "drain")], ["no effect: engine was off"] * 3),
        ([(100, 2, "start"), (200, 2, "spot"), (300, 2, "drain"), (400, 2, "start")],
         ["load", *["no effect: engine was loading"] * 3, "up"]),
        ([(100, 1, "fail"), (200, 1, "fail")],
         ["fail", "load", "no effect: engine was waiting for a machine", "up"]),
    ],
)  # fmt: skip
def test_an_event_that_finds_nothing_to_do_says_so(each, said):
    k, kinds = each[0][1], {kind for _, _, kind in each}
    costs = {"repair_s": 2e-4} if kinds == {"fail"} else {"spot_notice_s": 5e-4} if kinds == {"spot"} else {}
    done = one_pool.operate(
        one_pool.steady(), Operation(start_engine=2, event=events(*each), **costs), one_pool.part(3), weight=1e6
    )
    assert [what for _, engine, what in done.event if engine == k] == said
    assert most_up(done.event, done.paid_s) == 2 + (said[-1] == "up" and k == 2)


@pytest.mark.parametrize(("storage_GBps", "up_s"), [(0.0, 6.0), (0.5, 9.0)])
def test_an_engine_that_fails_while_it_loads_loads_anew(storage_GBps, up_s):
    """3 GB at 1 GB/s, or from a store of 0.5, from 1 s on; lost at 2 s, and a machine is there at 3 s."""
    each = events((1e6, 1, "start"), (2e6, 1, "fail"))
    rules = Operation(start_engine=1, event=each, repair_s=1.0, storage_GBps=storage_GBps)
    done = one_pool.operate(one_pool.steady(4, 10_000_000), rules, weight=3e9)
    said = [(what, time_s) for time_s, k, what in done.event if k == 1]
    assert said == [("load", 1.0), ("fail", 2.0), ("load", 2.0), ("up", up_s)]
    assert done.paid_s[1] == pytest.approx(done.paid_s[0] - 1 - 1)  # not before its start, nor without a machine


@pytest.mark.parametrize("engine", ENGINES)
def test_a_failure_while_it_loads_is_a_longer_repair(engine):
    """Of one engine: lost at 200 us, and again at 0.5 s, or with its next machine there at 0.5 s only. Who waits for it
    waits as long, and it works as much."""
    runs = []
    for rules in (
        Operation(event=events((200, 0, "fail"), (500_000, 0, "fail"))),
        Operation(event=events((200, 0, "fail")), repair_s=0.4998),
    ):
        operator = Operator(load([0, 1_000], [20, 20], [30, 30]), one_pool.part(1), rules, 1e9, 1e9,
                            Options(engine=engine))  # fmt: skip
        done = operator.run()
        runs.append((done.result.request, operator.pool.world.lane["busy_ps"].copy(), done.result.counter))
    one, other = runs
    for name in ("start_ps", "first_token_ps", "last_token_ps", "end_ps", "produced_token"):
        np.testing.assert_array_equal(one[0][name], other[0][name], err_msg=name)
    np.testing.assert_array_equal(one[1], other[1])
    for name in ("num_token", "num_step", "num_output_token"):
        np.testing.assert_array_equal(one[2][name], other[2][name], err_msg=name)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_hand_over_waits_for_an_engine_that_fails_while_it_loads(engine):
    """Lost at 10 us and, while its weights are read, at 500 us: it is up at 1500 us."""
    rules = Operation(event=events((10, 0, "fail"), (500, 0, "fail")))
    done = operate(load([0], [50], [3]), PoolsOperation(decode=rules), [part("prefill", 1), part("decode", 1)],
                   engine=engine)  # fmt: skip
    r = done.result.request
    assert r["end_ps"].tolist() == [(1500 + 50 + 2 * 11) * US]
    assert r["transfer_ps"].tolist() == [(1500 - 500 + 50) * US]  # it is sent anew at 500 us
    assert done.result.moved_byte == pytest.approx(50_000)  # nothing had left


def test_of_an_engine_that_is_lost_nobody_holds_a_state(monkeypatch):
    """Who finished on it before gave theirs back as they left; those that are there lose them with it."""
    take_down, seen = OperatedPool.take_down, []

    def taken(self, k):
        w = self.world
        held = int((w.unit_id[PLACE] != 0).sum())
        rows = np.flatnonzero(w.seq["replica"] == k)
        gone = take_down(self, k)
        for i in rows:
            start = int(w.seq["unit_start"][i])
            assert not w.unit_id[PLACE, start : start + int(w.seq["num_unit"][i])].any()
        seen.append((len(rows), len(gone), held))
        return gone

    monkeypatch.setattr(OperatedPool, "take_down", taken)
    num = 60
    stop = np.arange(1, num + 1) * 5
    requests = load(np.arange(num) * 50, np.full(num, 21), np.full(num, 16), unit_start=stop - 5, unit_stop=stop,
                    unit_id=np.tile(np.arange(10), num // 2), unit_token=4)  # fmt: skip
    rules = Rules(share_early=True, keep_duplicate=True, find_state=True)
    pool = one_pool.part(2, rules=rules, groups=(Group(), Group("align", 1, 2)))
    each = events((1_000, 0, "fail"), (2_000, 1, "fail"), (3_000, 0, "fail"))
    one_pool.served(one_pool.operate(requests, Operation(event=each), pool, weight=1e5))
    assert all(num_row > num_gone > 0 and held > 0 for num_row, num_gone, held in seen)
