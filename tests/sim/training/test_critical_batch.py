"""Steps and examples to a target: the hyperbola, its limits, and the noise scale of known gradients."""

import pathlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.errors import InputError
from sim.training.critical_batch import (
    Hyperbola,
    StepTable,
    examples_to_target,
    noise_scale,
    read_steps,
    steps_to_target,
)

SIZE = st.floats(1, 1e7)


@given(SIZE, SIZE, SIZE)
def test_the_hyperbola(batch: float, min_step: float, critical: float) -> None:
    steps, examples = (f(batch, min_step, critical) for f in (steps_to_target, examples_to_target))
    least = min_step * critical
    if 1e-5 < critical / batch < 1e5:  # beyond, the differences round away
        assert (steps / min_step - 1) * (examples / least - 1) == pytest.approx(1, rel=1e-6)
    assert steps >= min_step
    assert examples >= least * (1 - 1e-12)


@given(SIZE, st.floats(1e-3, 1e3), st.floats(1e-3, 1e6))
def test_noise_scale_is_recovered(small: float, gradient2: float, trace: float) -> None:
    large = 64 * small
    norms = [gradient2 + trace / size for size in (small, large)]
    if trace / small > 1e-6 * gradient2:
        assert noise_scale(small, norms[0], large, norms[1]) == pytest.approx(trace / gradient2, rel=1e-4)


def test_noise_scale_of_random_gradients() -> None:
    # 1,000 values with mean 0.1 and variance 1: |G|^2 = 10, trace 1,000, noise scale 100
    rng = np.random.default_rng(5)
    norm2 = [
        np.mean([(rng.normal(0.1, 1 / np.sqrt(size), 1000) ** 2).sum() for _ in range(400)]) for size in (10, 1000)
    ]
    assert noise_scale(10, norm2[0], 1000, norm2[1]) == pytest.approx(100, rel=0.02)


def test_a_table_of_a_hyperbola_is_near_it_and_ends_where_it_ends(tmp_path: pathlib.Path) -> None:
    curve = Hyperbola(1000, 512)
    batch = np.geomspace(64, 4096, 25)
    (tmp_path / "steps.csv").write_text("batch,step\n" + "\n".join(f"{b},{curve.at(b)}" for b in batch))
    table = read_steps(tmp_path / "steps.csv")
    for size in (64, 100, 777, 4096):
        assert table.at(size) == pytest.approx(curve.at(size), rel=1e-3)
    with pytest.raises(InputError, match="beyond the table"):
        table.at(8192)
    (tmp_path / "bad.csv").write_text("batch,step\n8,0\n")
    with pytest.raises(InputError, match="above 0"):
        read_steps(tmp_path / "bad.csv")
    # the time of a run is steps times the time of a step, whichever form the curve has
    assert StepTable(np.array([1.0, 2.0]), np.array([10.0, 10.0])).at(1.5) == pytest.approx(10)


def test_bad_values() -> None:
    with pytest.raises(InputError, match="batch = 0"):
        steps_to_target(0, 1, 1)
    with pytest.raises(InputError, match="the larger of two"):
        noise_scale(10, 1, 10, 1)
    with pytest.raises(InputError, match="norms that no gradient has"):
        noise_scale(10, 1, 100, 2)
