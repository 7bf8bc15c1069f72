"""Layers gathered and scattered on one communicator: bounds of the step, what prefetch hides, what is held."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.training.sharded import sharded_step

SECOND = st.integers(1, 9).map(float)


@settings(max_examples=25, deadline=None)
@given(layers=st.integers(2, 5), f=SECOND, b=SECOND, g=SECOND, s=SECOND)
def test_no_step_beats_its_streams_and_prefetch_never_hurts(
    layers: int, f: float, b: float, g: float, s: float
) -> None:
    near = sharded_step(layers, f, b, g, s)
    late = sharded_step(layers, f, b, g, s, backward_prefetch=False)
    compute, link = layers * (f + b), layers * (2 * g + s)
    # the first gather and the last scatter are always seen
    assert max(compute + g + s, link) <= near.times.total_s + 1e-9 <= late.times.total_s + 2e-9
    assert late.times.total_s <= compute + link + 1e-9
    # without prefetch nothing of the backward pass overlaps
    assert late.times.total_s >= layers * (b + g + s) + layers * f + g - 1e-9
    assert near.times.compute_s == pytest.approx(compute)
    assert near.times.link_s == pytest.approx(link)


@settings(max_examples=15, deadline=None)
@given(layers=st.integers(2, 6), f=SECOND, g=SECOND)
def test_the_limiter_bounds_what_is_gathered(layers: int, f: float, g: float) -> None:
    steps = [sharded_step(layers, f, 2 * f, g, g, limit=limit) for limit in (1, 2, 3, 0)]
    for step, limit in zip(steps, (1, 2, 3), strict=False):
        assert step.most_gathered <= limit
    times = [step.times.total_s for step in steps]
    assert times == sorted(times, reverse=True)


def test_one_layer_at_a_time_is_the_sum() -> None:
    # no layer is gathered before the one before it is freed: 3 x (1 + 2) and 3 x (1 + 4), scatters under gathers or not
    step = sharded_step(3, 2.0, 4.0, 1.0, 1.0, limit=1, backward_prefetch=False)
    assert step.times.total_s == 3 * (1 + 2) + 3 * (1 + 4 + 1)
