"""Order statistics against drawn times and closed forms; the dynamic rule against every static number."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.errors import InputError
from studies._backup import (
    Descent,
    Phase,
    best_static,
    best_wait,
    exponential_order_s,
    pareto_order_s,
    sampled_order_s,
    time_to_target_s,
)


def test_closed_forms_are_the_means_of_sorted_draws() -> None:
    rng = np.random.default_rng(1)
    exponential = 0.5 + rng.exponential(2.0, (40_000, 8))
    assert sampled_order_s(exponential) == pytest.approx(exponential_order_s(8, 2.0, 0.5), rel=0.02)
    # least 1, shape 3: the largest of 8 has spread 2, so that 40,000 draws are 0.5 % off
    pareto = 1 + rng.pareto(3.0, (40_000, 8))
    assert sampled_order_s(pareto) == pytest.approx(pareto_order_s(8, 1.0, 3.0), rel=0.02)
    # by hand: two of shape 2 and least 1 have least 4/3 (again Pareto, shape 4) and mean 2 each: 4 - 4/3
    assert pareto_order_s(2, 1.0, 2.0) == pytest.approx([4 / 3, 8 / 3])
    # n equal means: order statistics add up to n times the mean
    assert pareto_order_s(16, 1.0, 1.5).sum() == pytest.approx(16 * 3.0)
    assert exponential_order_s(16, 1.0).sum() == pytest.approx(16.0)


def test_far_from_the_floor_few_workers_are_waited_for_and_near_it_all() -> None:
    order, descent = exponential_order_s(16, 1.0), Descent(0.02, 0.05, 0.9 * 0.02 * 0.05 * 16)
    # no noise: gain does not depend on k, the fastest worker's time is least
    assert best_wait(Descent(0.02, 0.05, 0.0), 1.0, order) == 1
    _, history = time_to_target_s(descent, [Phase(np.inf, order)])
    waits = [step[2] for step in history]
    assert waits == sorted(waits)  # the gap only shrinks
    assert waits[0] < 4
    assert waits[-1] > 14


def test_a_static_number_whose_noise_is_too_large_never_arrives() -> None:
    descent = Descent(0.02, 0.05, 0.02 * 0.05 * 8)  # the floor of 8 workers is the target
    phases = [Phase(np.inf, exponential_order_s(16, 1.0))]
    assert np.isinf(time_to_target_s(descent, phases, 4)[0])
    assert np.isfinite(time_to_target_s(descent, phases, 16)[0])
    # without noise: log(target) / log(1 - shrink) steps of the kth fastest each
    steps = int(np.ceil(np.log(0.02) / np.log(0.95)))
    assert time_to_target_s(Descent(0.02, 0.05, 0.0), phases, 1)[0] == pytest.approx(steps / 16)


@settings(max_examples=25, deadline=None)
@given(floor=st.floats(0.05, 0.99), shape=st.floats(1.1, 5.0), shift=st.floats(0.0, 3.0))
def test_the_dynamic_rule_is_not_slower_than_the_best_static(floor: float, shape: float, shift: float) -> None:
    descent = Descent(0.02, 0.05, floor * 0.02 * 0.05 * 16)
    for order in (shift + pareto_order_s(16, 1.0, shape), exponential_order_s(16, 1.0, shift)):
        phases = [Phase(np.inf, order)]
        # a greedy rule: a share of one step may be lost at the very end
        assert time_to_target_s(descent, phases)[0] <= best_static(descent, phases)[1] * 1.02 + order[-1]


def test_bad_inputs_are_refused() -> None:
    with pytest.raises(InputError, match="no mean"):
        pareto_order_s(4, 1.0, 1.0)
    with pytest.raises(InputError, match="wait"):
        time_to_target_s(Descent(0.1, 0.1, 0.0), [Phase(np.inf, np.ones(4))], 5)
