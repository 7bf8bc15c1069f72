"""Arrival processes: rates, burstiness, stages, chains."""

import math

import numpy as np
import pytest

from workloads.arrivals import chains, gaps, renewal, staged, within


@pytest.mark.parametrize("cv", [0.0, 0.5, 1.0, 3.0])
def test_gaps_have_mean_1_and_the_variation_asked_for(cv: float) -> None:
    num = 200_000
    values = gaps(np.random.default_rng(1), num, cv)
    assert abs(values.mean() - 1) <= 5 * cv / math.sqrt(num)
    # variance of the sample variance of a gamma: (kurtosis - 1) var^2 / n, kurtosis 3 + 6 cv^2
    assert abs(values.var() - cv**2) <= 5 * cv**2 * math.sqrt((2 + 6 * cv**2) / num)


def test_poisson_counts_are_poisson() -> None:
    """In windows of 10 s at 3 a second the counts have mean and variance 30."""
    arrival_s = renewal(np.random.default_rng(2), 150_000, 3.0, 1.0)
    counts = np.histogram(arrival_s, np.arange(0, 45_000, 10.0))[0]
    assert abs(counts.mean() - 30) < 5 * math.sqrt(30 / len(counts))
    assert abs(counts.var() / 30 - 1) < 5 * math.sqrt(2 / len(counts))


def test_constant_rate() -> None:
    assert np.allclose(renewal(np.random.default_rng(0), 4, 4.0, 0.0), [0, 0.25, 0.5, 0.75])
    assert len(within(np.random.default_rng(0), 10.0, 4.0, 0.0)) == 40  # 10 s at 4 a second, the first at 0


def test_stages_have_their_own_rates_and_a_pause_is_empty() -> None:
    stages = [(50.0, 100.0), (0.0, 1000.0), (5.0, 200.0)]
    arrival_s = staged(np.random.default_rng(3), stages, 1.0)
    assert (np.diff(arrival_s) >= 0).all()
    counts = np.histogram(arrival_s, [0, 100, 1100, 1300])[0]
    assert abs(counts[0] - 5000) < 5 * math.sqrt(5000)  # a Poisson count: variance = mean
    assert counts[1] == 0
    assert abs(counts[2] - 1000) < 5 * math.sqrt(1000)
    assert counts.sum() == len(arrival_s)


def test_a_stage_that_lasts_is_a_plain_process() -> None:
    one = staged(np.random.default_rng(4), [(2.0, 500.0)], 1.0)
    assert np.allclose(one, renewal(np.random.default_rng(4), len(one), 2.0, 1.0))


def test_chains_wait_for_each_other() -> None:
    rng = np.random.default_rng(5)
    num_turn = rng.integers(1, 6, 200)
    think_s = rng.random(int(num_turn.sum()))
    first_s = np.sort(rng.random(200) * 100)
    arrival_s, parent, order = chains(first_s, num_turn, think_s)
    assert (np.diff(arrival_s) >= 0).all()
    assert sorted(order) == list(range(len(order)))
    child = np.flatnonzero(parent >= 0)
    assert len(child) == len(order) - 200  # all but the first turns
    assert (parent[child] < child).all()
    assert (order[parent[child]] == order[child] - 1).all()  # the turn before
    assert np.allclose(arrival_s[child] - arrival_s[parent[child]], think_s[order[child]])
