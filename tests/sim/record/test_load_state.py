"""The verdict on a queue against queues whose answer is known."""

import numpy as np
import pytest

from sim.record.load_state import BACKLOGGED, OVERLOADED, STABLE, load_state, mean_waiting


def served_in_turn(arrival_s: np.ndarray, service_s: float) -> np.ndarray:
    """When each request has its first token behind one server."""
    free, found = 0.0, []
    for when in arrival_s:
        free = max(free, when) + service_s
        found.append(free)
    return np.array(found)


def test_the_drift_of_a_fluid_is_the_share_that_is_not_served() -> None:
    arrival = np.arange(4000) * 1.0
    state, drift = load_state(arrival, served_in_turn(arrival, 1.25))  # capacity 0.8 of the load
    assert state == OVERLOADED
    assert drift == pytest.approx(0.2, abs=0.002)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("use", "expected"), [(0.3, STABLE), (0.6, STABLE), (0.95, BACKLOGGED), (1.2, OVERLOADED)])
def test_poisson_arrivals(seed: int, use: float, expected: str) -> None:
    arrival = np.cumsum(np.random.default_rng(seed).exponential(1.0, 20_000))
    state, drift = load_state(arrival, served_in_turn(arrival, use))
    assert state == expected
    assert (drift > 0.02) == (expected == OVERLOADED)


def test_littles_law() -> None:
    arrival = np.cumsum(np.random.default_rng(0).exponential(1.0, 5000))
    first = served_in_turn(arrival, 0.8)
    span = first.max() - arrival.min()
    assert mean_waiting(arrival, first, arrival.min(), first.max()) * span == pytest.approx((first - arrival).sum())


def test_requests_without_a_token_wait_for_ever() -> None:
    arrival = np.arange(1000.0)
    first = np.where(arrival % 2 == 0, arrival + 0.1, np.nan)
    state, drift = load_state(arrival, first)
    assert state == OVERLOADED
    assert drift == pytest.approx(0.5, abs=0.01)


def test_all_at_once_is_no_drift() -> None:
    assert load_state(np.zeros(50), np.arange(50.0)) == (STABLE, 0.0)
    assert load_state(np.zeros(0), np.zeros(0)) == (STABLE, 0.0)
