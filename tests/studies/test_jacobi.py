"""Sweeps over all steps, and one step at a time."""

import numpy as np
import pytest

from studies import jacobi


def test_as_many_sweeps_as_steps_are_the_exact_gradient() -> None:
    assert jacobi.gradient_error(0, jacobi.STEP - 1) < 1e-12


def test_no_sweep_is_no_gradient() -> None:
    assert jacobi.gradient_error(0, 0) == pytest.approx(1.0)


def test_a_network_without_dependences_is_solved_at_once() -> None:
    assert jacobi.made_sweeps(8, 0.0, 0) == 2  # the second sweep sees that nothing moves


def test_a_sample_never_takes_more_sweeps_than_pixels() -> None:
    assert jacobi.made_sweeps(6, 5.0, 0) <= 36


def test_sweeps_reach_step_k_in_k_sweeps() -> None:
    weight, slope = jacobi.slopes(1)
    source = np.random.default_rng(2).normal(size=(jacobi.STEP, jacobi.HIDDEN))
    exact, near = jacobi.backward(weight, slope, source), jacobi.sweep(weight, slope, source, 5)
    assert np.allclose(near[-6:], exact[-6:])
