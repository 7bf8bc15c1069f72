"""Policies after failures: the healthy step in closed form, bounds, orders."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.errors import InputError
from studies._fault_policies import POLICIES, TICK, Cluster, alive_peers, makespan, reroute, survive


@pytest.mark.parametrize(("stages", "microbatches"), [(1, 4), (4, 4), (4, 8), (8, 32)])
def test_the_healthy_step_is_1f1b(stages: int, microbatches: int) -> None:
    cluster = Cluster(2, stages, microbatches, stages)
    # (m + p - 1)(F + B), F of one tick a layer and B of two
    assert makespan(cluster, [1.0] * stages, {}, split=False) == (microbatches + stages - 1) * 3 * TICK


@settings(max_examples=25, deadline=None)
@given(
    dp=st.integers(2, 4), pp=st.integers(2, 5), rounds=st.integers(1, 4), seed=st.integers(0, 100),
    clock=st.sampled_from([1.0, 1.2]),
)  # fmt: skip
def test_no_answer_does_more_than_its_workers_can(dp: int, pp: int, rounds: int, seed: int, clock: float) -> None:
    cluster, failed = Cluster(dp, pp, rounds * pp, 4 * pp), [(seed % dp, seed % pp)]
    for policy in POLICIES:
        found = survive(cluster, failed, policy, max_clock=clock)
        # bubbles may be filled, workers are not more than are left: work over time, at most all of it busy
        busy = cluster.num_microbatch * dp * 4 * pp * 3 * TICK * (found.throughput * found.step)
        step = found.step * makespan(cluster, [4.0] * pp, {}, split=False)
        assert busy <= step * (dp * pp - 1) * (clock if policy == "rebalance" else 1.0) * (1 + 1e-9)
        assert sum(found.layer) == 4 * pp
    assert survive(cluster, failed, "drop_replica").throughput == pytest.approx((dp - 1) / dp)
    assert survive(cluster, failed, "reroute").throughput >= (dp - 1) / dp - 1e-9  # the others are never slower


def test_with_many_microbatches_rerouting_is_bound_by_the_stage_that_does_more() -> None:
    # 3 replicas, 2 of them do the third's 64 microbatches: 1.5 times the work of that stage, its bubbles filled
    cluster = Cluster(3, 4, 64, 8)
    found = survive(cluster, [(0, 1)], "reroute")
    assert 1.5 * 64 / 67 <= found.step <= 1.5
    moved = reroute(cluster, [(0, 1)])
    assert sorted(moved) == [(0, 1, b) for b in range(64)]
    assert [list(moved.values()).count(r) for r in (1, 2)] == [32, 32]


def test_layers_leave_the_stage_that_lost_a_worker() -> None:
    found = survive(Cluster(4, 4, 16, 32), [(2, 1)], "rebalance", max_clock=1.0)
    # 3 of 4 workers: 6 layers there are 8 layers' time, the other 26 on three stages: 9 at most
    assert found.layer[1] == min(found.layer) < 8
    # no clock: the slowest stage has 9 instead of 8
    assert found.step == pytest.approx(9 / 8, rel=0.05)
    assert survive(Cluster(4, 4, 16, 32), [(2, 1)], "rebalance", max_clock=1.2).step < found.step


def test_what_nobody_survives_is_refused() -> None:
    cluster = Cluster(2, 2, 4, 4)
    assert alive_peers(cluster, [(0, 1)]) == [2, 1]
    with pytest.raises(InputError, match="no replica"):
        survive(cluster, [(0, 1), (1, 1)], "reroute")
    with pytest.raises(InputError, match="no such worker"):
        survive(cluster, [(2, 0)], "reroute")
    with pytest.raises(InputError, match="policy"):
        survive(cluster, [(0, 0)], "hope")
