"""Meetings of pools by the compiled heap and by SimPy's clock: the same to the tick, sessions and refusals included."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.engine import records as at
from kernels.events import KIND, NUMBER, TIME, drop, drop_first, events, put
from sim.cluster import rows
from sim.cluster.pool import PoolPart
from sim.cluster.world import serve_pools
from sim.serving.limits import Limits, Options
from sim.serving.plugin import find
from tests.sim.serving.serving_case import US, flat_price, load, run, same

RATE = 1e9  # bytes a second: a token a microsecond


def part(role, num, router="least_token", rate=RATE, **limits):
    return PoolPart(
        role, role, flat_price(max_token=512, max_seq=16), find("policy", "vllm_v1:max_token=64,max_seq=8"),
        find("router", router),
        Limits(**{"num_block": 90, "block_token": 4, "max_context_token": 256, "num_replica": num, **limits}),
        kv_token_byte=1000.0, link_byte_per_s=rate, num_layer=4,
    )  # fmt: skip


def pools(router="least_token", **decode):
    return [part("prefill", 2, router), part("decode", 3, router, rate=0.7e9, **decode)]


def sessions(seed, num_session, num_turn, gap_us, think_us=0, **columns):
    """Turns whose prompts hold what was said before; units of eight tokens name it."""
    random = np.random.default_rng(seed)
    arrival, prompt, output, parent, units = [], [], [], [], []
    for session in range(num_session):
        begun, said = int(random.integers(0, gap_us * num_session + 1)), 0
        for turn in range(num_turn):
            said += int(random.integers(1, 30))
            more = int(random.integers(1, 12))
            arrival.append(begun)
            prompt.append(said)
            output.append(more)
            parent.append(-1 if turn == 0 else len(parent) - 1)
            said += more
            units.append([1000 * session + k for k in range(said // 8)])
    order = np.argsort(arrival, kind="stable")
    place = np.empty(len(order), int)
    place[order] = np.arange(len(order))
    linked = [-1 if parent[k] < 0 else int(place[parent[k]]) for k in order]
    return load(
        np.array(arrival)[order], np.array(prompt)[order], np.array(output)[order], parent=linked,
        think_ps=np.full(len(order), think_us * US), **columns,
    )  # fmt: skip


def both(trace, make, transfer="whole", latency_s=0.0, **options):
    """The same load by heap and by clock."""
    ahead = serve_pools(trace, make(), transfer, latency_s, Options(**options))
    clock = serve_pools(trace, make(), transfer, latency_s, Options(engine="stepping", **options))
    for name, values in ahead.request.items():
        np.testing.assert_array_equal(values, clock.request[name], err_msg=name)
    for name, pool in ahead.pool.items():
        here = pool.request["status"] != at.FUTURE
        np.testing.assert_array_equal(pool.request["status"], clock.pool[name].request["status"])
        for column, values in pool.request.items():  # rows of requests that never came to a pool say nothing
            np.testing.assert_array_equal(values[here], clock.pool[name].request[column][here], err_msg=column)
        for counter, values in pool.counter.items():
            if counter != "num_plan":
                np.testing.assert_array_equal(values, clock.pool[name].counter[counter], err_msg=counter)
        np.testing.assert_array_equal(pool.kv_token_ps, clock.pool[name].kv_token_ps)
        np.testing.assert_array_equal(pool.stage_busy_ps, clock.pool[name].stage_busy_ps)
    assert ahead.moved_byte == clock.moved_byte
    return ahead


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 999), gap_us=st.sampled_from([0, 10, 60, 400]), transfer=st.sampled_from(["whole", "layered"]),
    latency_us=st.sampled_from([0, 3]), order=st.sampled_from(["fcfs", "sjf", "priority"]),
    router=st.sampled_from(["least_token", "random", "round_robin"]),
)  # fmt: skip
def test_the_heap_is_the_clock(seed, gap_us, transfer, latency_us, order, router):
    random = np.random.default_rng(seed)
    num = 24
    trace = load(
        np.sort(random.integers(0, gap_us * num + 1, num)), random.integers(1, 90, num), random.integers(1, 40, num),
        priority=random.integers(0, 3, num),
    )  # fmt: skip
    both(trace, lambda: pools(router), transfer, latency_us * 1e-6, order=order)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 999), gap_us=st.sampled_from([0, 30, 300]), think_us=st.sampled_from([0, 7]),
    latency_us=st.sampled_from([0, 3]), long=st.sampled_from([256, 40]),
)  # fmt: skip
def test_sessions_over_pools_by_heap_and_by_clock(seed, gap_us, think_us, latency_us, long):
    trace = sessions(seed, 6, 3, gap_us, think_us)
    found = both(trace, lambda: pools(max_context_token=long), latency_s=latency_us * 1e-6)
    r = found.request
    child = trace.parent >= 0
    before = trace.parent[child]
    assert (r["end_ps"] >= 0).all()  # whoever is refused still lets the next turn come
    assert (r["arrival_ps"][child] == r["end_ps"][before] + think_us * US).all()
    served = r["status"] == at.FINISHED
    assert (r["produced_token"][served] == trace.output_token[served]).all()
    if long == 256:
        assert served.all()
    assert (r["status"] == at.REFUSED).sum() == (trace.prompt_token + trace.output_token > long).sum()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 999), num=st.sampled_from([1, 3]), gap_us=st.sampled_from([0, 30, 300]))
def test_sessions_on_one_pool_are_the_single_engine(seed, num, gap_us):
    trace = sessions(seed, 5, 3, gap_us, 5)
    one = part("mixed", num)
    alone = run(trace, one.price, "vllm_v1:max_token=64,max_seq=8", one.limits, "least_token")
    same(serve_pools(trace, [one]).pool["mixed"], alone)
    by_clock = serve_pools(trace, [one], options=Options(engine="stepping"))
    same(by_clock.pool["mixed"], alone)


def test_the_next_turn_arrives_after_the_last_token_of_the_decode_pool():
    # 10 us a step and 1 us a token: 30 us prefill, 20 us on the link, two decodes of 11 us; then 5 us of thought
    trace = load([0, 0], [20, 40], [3, 1], parent=[-1, 0], think_ps=[0, 5 * US])
    found = serve_pools(trace, [part("prefill", 1), part("decode", 1)])
    assert found.request["end_ps"].tolist() == [72 * US, (77 + 50) * US]
    assert found.request["arrival_ps"].tolist() == [0, 77 * US]


def test_the_prefill_pool_finds_the_prefix_of_the_turn_before():
    # the first prompt's four blocks are named: the second computes the 24 tokens behind them
    units = {"unit_start": [0, 0], "unit_stop": [4, 10], "unit_id": np.arange(10), "unit_token": 4}
    trace = load([0, 0], [16, 40], [3, 2], parent=[-1, 0], think_ps=[0, 0], **units)
    found = both(trace, lambda: [part("prefill", 1), part("decode", 1)])
    prefill = found.pool["prefill"]
    assert prefill.request["cached_token"].tolist() == [0, 16]
    assert int(prefill.counter["num_token"].sum()) == 16 + 24
    assert found.moved_byte == 1000 * (16 + 40)  # the decode pool keeps none of it: all of the prompt is moved


def test_requests_of_one_token_and_requests_too_long_never_reach_the_links():
    trace = load([0, 1, 2], [20, 30, 100], [1, 4, 90])
    found = both(trace, lambda: pools(max_context_token=100))
    assert found.request["status"].tolist() == [at.FINISHED, at.FINISHED, at.REFUSED]
    assert found.request["transfer_ps"][[0, 2]].tolist() == [-1, -1]
    assert found.moved_byte == 30_000
    assert int(found.pool["prefill"].counter["num_token"].sum()) == 50


def test_rows_that_have_left_are_dropped_and_their_columns_kept(monkeypatch):
    random = np.random.default_rng(5)
    trace = load(np.sort(random.integers(0, 30_000, 300)), random.integers(1, 90, 300), random.integers(1, 40, 300))
    whole = serve_pools(trace, pools())
    for module in ("rows", "ahead"):
        monkeypatch.setattr(f"sim.cluster.{module}.STRETCH", 64)
    monkeypatch.setattr("sim.cluster.ahead.BUDGET_MEETING", 100)
    dropped = []
    monkeypatch.setattr("sim.cluster.rows.drop", lambda part: dropped.append(part.fill(0)))
    parts = serve_pools(trace, pools())
    assert len(dropped) >= 4
    for name, values in whole.request.items():
        np.testing.assert_array_equal(values, parts.request[name], err_msg=name)
    for name, pool in whole.pool.items():
        for column, values in pool.request.items():
            np.testing.assert_array_equal(values, parts.pool[name].request[column], err_msg=column)


def test_pages_that_are_dropped_read_as_zeros():
    array = np.ones(1 << 16)
    rows.drop(array)
    assert array[0] in (0.0, 1.0)
    assert array.sum() <= 1024 or not rows._advise()


@pytest.mark.parametrize("seed", range(3))
def test_events_come_in_the_order_of_time_rank_and_entry(seed):
    random = np.random.default_rng(seed)
    heap, count = events(256), np.zeros(2, np.int64)
    rows = [(int(random.integers(9)), int(random.integers(3)), 0, k) for k in range(200)]
    for row in rows:
        put(heap, count, *row)
    found = []
    while count[0]:
        found.append(int(heap[0, NUMBER]))
        assert heap[0, KIND] == 0
        assert heap[0, TIME] == rows[found[-1]][0]
        drop_first(heap, count)
    assert found == [row[3] for row in sorted(rows, key=lambda row: (row[0], row[1], row[3]))]


@pytest.mark.parametrize("seed", range(3))
def test_events_that_are_taken_out_do_not_come_and_the_others_do_in_order(seed):
    random = np.random.default_rng(seed)
    heap, count = events(256), np.zeros(2, np.int64)
    rows = [(int(random.integers(30)), 1, 0, k) for k in range(120)]
    for row in rows:
        put(heap, count, *row)
    out = set(random.choice(120, 50, replace=False).tolist())
    for k in out:
        drop(heap, count, int(np.flatnonzero(heap[: count[0], NUMBER] == k)[0]))
    found = []
    while count[0]:
        found.append(int(heap[0, NUMBER]))
        drop_first(heap, count)
    assert found == [row[3] for row in sorted(rows) if row[3] not in out]


def test_events_of_rank_zero_come_by_number():
    heap, count = events(8), np.zeros(2, np.int64)
    for row in ((5, 1, 0, 1), (5, 0, 0, 9), (5, 0, 0, 2)):
        put(heap, count, *row)
    found = []
    while count[0]:
        found.append(int(heap[0, NUMBER]))
        drop_first(heap, count)
    assert found == [2, 9, 1]
