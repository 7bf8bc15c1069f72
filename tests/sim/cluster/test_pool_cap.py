"""A cap on concurrency over pools: who holds a place gives it up when it has left the last pool."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sim.cluster.test_meetings import both, part, pools, sessions
from tests.sim.cluster.test_pool_laws import trace
from tests.sim.serving.serving_case import run
from workloads.requests import capped


def semaphore(arrival_ps, end_ps, cap):
    """When the i-th is sent: when it has arrived, and `i + 1 - cap` others have ended."""
    sent, num = arrival_ps.copy(), max(0, len(arrival_ps) - cap)
    sent[cap:] = np.maximum(arrival_ps[cap:], np.sort(end_ps)[:num])
    return sent


@given(
    seed=st.integers(0, 10**6), cap=st.integers(1, 70), gap_us=st.sampled_from([1, 40]),
    latency_s=st.sampled_from([0.0, 3e-5]),
)  # fmt: skip
@settings(max_examples=15, deadline=None)
def test_a_cap_is_a_semaphore_by_heap_and_by_clock(seed, cap, gap_us, latency_s):
    load = capped(trace(60, gap_us, seed), cap)
    request = both(load, pools, latency_s=latency_s).request
    assert (request["produced_token"] == load.output_token).all()
    np.testing.assert_array_equal(request["arrival_ps"], semaphore(load.arrival_ps, request["end_ps"], cap))


@given(st.integers(0, 10**6), st.integers(1, 6))
@settings(max_examples=8, deadline=None)
def test_sessions_hold_their_place_to_the_last_turn(seed, cap):
    load = capped(sessions(seed, 8, 3, gap_us=20, think_us=30), cap)
    request = both(load, pools).request
    root = np.arange(len(load))
    for i in np.flatnonzero(load.parent >= 0):
        root[i] = root[load.parent[i]]
    first = np.unique(root)
    end_ps = np.array([request["end_ps"][root == r].max() for r in first])
    np.testing.assert_array_equal(request["arrival_ps"][first], semaphore(load.arrival_ps[first], end_ps, cap))


def test_who_is_too_long_for_the_second_pool_gives_its_place_up():
    load = trace(40, 1)
    long = load.prompt_token + load.output_token > 64
    assert 0 < long.sum() < 40
    request = both(capped(load, 2), lambda: pools(max_context_token=64)).request
    assert (request["produced_token"] == np.where(long, 0, load.output_token)).all()
    np.testing.assert_array_equal(request["arrival_ps"], semaphore(load.arrival_ps, request["end_ps"], 2))


def test_one_mixed_pool_is_the_replica_with_its_gate():
    load, mixed = capped(trace(60, 1), 5), part("mixed", 1)
    alone = run(load, mixed.price, "vllm_v1:max_token=64,max_seq=8", mixed.limits)
    pool = both(load, lambda: [part("mixed", 1)]).request
    np.testing.assert_array_equal(pool["end_ps"], alone.request["end_ps"])
