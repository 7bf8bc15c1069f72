"""Clocks that fill bubbles or make up for more work: by hand."""

import pytest

from kernels.errors import InputError
from sim.faults.dvfs import fill_bubbles, make_up


def test_clocks_that_fill_bubbles() -> None:
    frame = fill_bubbles([10.0, 5.0, 0.0, 8.0], 10.0, min_clock=0.5, idle_w=50.0, dynamic_w=400.0)
    assert frame["clock"].tolist() == [1.0, 0.5, 0.5, 0.8]
    assert frame["busy_s"].tolist() == pytest.approx([10, 10, 0, 10])
    # half the clock: an eighth of the power for twice the time is a quarter of the energy
    assert frame["saved_j"].tolist() == pytest.approx([0, 0.75 * 400 * 5, 0, 400 * 8 * (1 - 0.64)])
    memory_bound = fill_bubbles([8.0], 10.0, compute_share=0.5)
    assert memory_bound["busy_s"].tolist() == pytest.approx([10.0])  # 0.5 / c + 0.5 = 1.25
    assert memory_bound["clock"].tolist() == pytest.approx([0.5 / 0.75])
    up = make_up([1.0, 1.1, 1.5], max_clock=1.2)
    assert up["clock"].tolist() == pytest.approx([1.0, 1.1, 1.2])
    assert up["time"].tolist() == pytest.approx([1.0, 1.0, 1.25])


def test_bad_clocks() -> None:
    for call, message in (
        (lambda: fill_bubbles([2.0], 1.0), "busy_s"),
        (lambda: fill_bubbles([1.0], 1.0, compute_share=0.0), "compute_share"),
        (lambda: make_up([1.0], max_clock=0.9), "max_clock"),
    ):
        with pytest.raises(InputError, match=message):
            call()
