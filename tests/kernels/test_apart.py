"""The law of microbatches that take turns on two machines, against a schedule played out in plain Python."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.engine.apart import period_ps

TIME = st.floats(0.0, 100.0)
TIMES = st.tuples(TIME, TIME, TIME, TIME)  # attention, feed-forward, there, back


def took(num: int, num_layer: int, times: tuple[float, float, float, float]) -> float:
    """By the law."""
    layer, more = period_ps(num, *times)
    return num_layer * layer + more


def played(num: int, num_layer: int, times: tuple[float, float, float, float]) -> float:
    """Each of the four works on one microbatch at a time, in their order."""
    near, far, there, back = times
    free, ready = [0.0] * 4, [0.0] * num
    for _ in range(num_layer):
        for i in range(num):
            for at, time in enumerate((near, there, far, back)):
                free[at] = ready[i] = max(free[at], ready[i]) + time
    return max(ready)


@given(st.integers(1, 8), st.integers(1, 40), TIMES)
def test_the_law_is_the_schedule(num, num_layer, times):
    assert took(num, num_layer, times) == pytest.approx(played(num, num_layer, times), rel=1e-12, abs=1e-9)


@given(st.integers(1, 8), st.integers(1, 40), TIMES)
def test_nothing_is_faster_than_its_slowest_part_or_slower_than_one_after_another(num, num_layer, times):
    bound = num_layer * num * max(times)
    assert bound * (1 - 1e-12) <= took(num, num_layer, times) <= num * num_layer * sum(times) * (1 + 1e-12) + 1e-9


@given(st.integers(1, 8), st.integers(1, 40), TIMES, st.floats(0, 10), st.integers(0, 3))
def test_a_slower_part_never_helps(num, num_layer, times, more, which):
    slower = tuple(time + more * (at == which) for at, time in enumerate(times))
    assert took(num, num_layer, slower) >= took(num, num_layer, times) * (1 - 1e-12)


@given(st.integers(2, 8), TIME)
def test_balanced_sides_without_links_work_all_the_time(num, time):
    # of a hundred layers all but the first half of the first: both sides are busy, a layer takes one side's time
    assert took(num, 100, (time, time, 0.0, 0.0)) == pytest.approx(100 * num * time + time)
