"""Hybrid data parallelism: every sequence once, memory held, ranks never double-booked, its parts never hurt."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.errors import InputError
from sim.training.group_cost import GroupCost, group_seconds
from sim.training.hybrid_data import RankPlan, fewest, hybrid_step, offloaded, pack, static_step

DEGREE = np.array([1.0, 2.0, 4.0, 8.0])
COST = GroupCost(
    (1, 2, 4, 8), np.full(4, 0.1), 0.01 / DEGREE, 2e-5 / DEGREE, np.where(DEGREE == 1, 0, 0.2),
    np.where(DEGREE == 1, 0, 0.01), 1e-5 / DEGREE, 1000 * DEGREE, 100.0 / DEGREE, 0.0, 0.0,
)  # fmt: skip


def check(plan: RankPlan, length: list[int], limit: float = 1.0) -> None:
    assert sorted(index for piece in plan.piece for index in piece.sequence) == list(range(len(length)))
    busy = np.zeros(len(plan.rank_s))
    for piece, first in zip(plan.piece, plan.first_rank, strict=True):
        token = sum(length[index] for index in piece.sequence)
        assert token * (1 - piece.offload) <= COST.capacity[piece.at] * (1 + 1e-9)
        assert first % COST.degree[piece.at] == 0
        busy[first : first + COST.degree[piece.at]] += piece.seconds
    assert (busy <= plan.rank_s + 1e-9).all()  # ranks may wait for one another, never run two pieces at once
    assert plan.seconds == pytest.approx(plan.rank_s.max())


@settings(max_examples=30, deadline=None)
@given(length=st.lists(st.integers(1, 8000), min_size=1, max_size=30), host=st.sampled_from([0.0, 1e3, 1e6]))
def test_a_step_trains_every_sequence_once_within_memory(length: list[int], host: float) -> None:
    balanced, dealt = (hybrid_step(COST, length, 8, balance=balance) for balance in (True, False))
    check(balanced, length)
    check(dealt, length)
    helped = hybrid_step(COST, length, 8, host_byte_per_s=host)
    check(helped, length)
    assert helped.seconds <= balanced.seconds
    check(static_step(COST, length, 8, 8000), length)


def test_a_sequence_takes_the_ranks_that_hold_it() -> None:
    assert [fewest(COST, value) for value in (1, 1000, 1001, 8000)] == [0, 0, 1, 3]
    with pytest.raises(InputError, match="nowhere"):
        fewest(COST, 8001)
    # half of 2000 tokens of 100 B go to the host, 100 kB, under 2/7 of one rank's time for them
    forward_s = 2 / 7 * group_seconds(COST, 0, [2000])
    assert offloaded(COST, 0, 2000, 1.01 * 1e5 / forward_s) == pytest.approx(0.5)
    assert offloaded(COST, 0, 2000, 0.99 * 1e5 / forward_s) is None


def test_short_sequences_pass_nothing_round_a_ring() -> None:
    length = [900] * 8
    hybrid, mesh = hybrid_step(COST, length, 8), static_step(COST, length, 8, 8000)
    # a rank each against all together on eight: the same scores, and the ring besides
    assert hybrid.seconds == pytest.approx(group_seconds(COST, 0, [900]))
    assert mesh.seconds == pytest.approx(group_seconds(COST, 3, length))
    assert mesh.seconds > hybrid.seconds
    assert hybrid.idle == pytest.approx(0)


def test_packs_hold_what_they_may() -> None:
    length = np.random.default_rng(0).integers(1, 500, 200)
    packs = pack(length, range(200), 1000.0)
    assert max(length[one].sum() for one in packs) <= 1000
    # first fit, longest first, needs at most 11/9 of the best and one more
    assert len(packs) <= 11 / 9 * np.ceil(length.sum() / 1000) + 1
