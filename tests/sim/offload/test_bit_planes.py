"""Experts of nested bits: what moves is what is asked for and not held, and nobody waits for more than that."""

import numpy as np
import pytest

from kernels.errors import InputError
from sim.offload.bit_planes import hold, replay, waiting

BYTE = np.array([2e6, 1e6, 1e6])
TIME = {"dense_s": 1e-3, "task_s": 1e-4}


def rows_of(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(0.7, (4, 3, 6, 3)).astype(np.int64)


def test_bytes_moved_are_bytes_asked_for_less_those_held() -> None:
    rows = rows_of()
    asked = float(((waiting(rows) > 0) * BYTE).sum())
    nothing = np.zeros(rows.shape[1:], bool)
    for order in ("hottest", "number"):
        assert replay(rows, BYTE, nothing, 1e9, order, **TIME).byte == pytest.approx(asked)
    held = hold(rows, BYTE, 15e6)
    kept = float(((waiting(rows) > 0) & held[None]).sum(axis=(0, 1, 2)) @ BYTE)
    assert replay(rows, BYTE, held, 1e9, "hottest", **TIME).byte == pytest.approx(asked - kept)


def test_what_is_held_fits_and_has_the_planes_below_it() -> None:
    held = hold(rows_of(), BYTE, 17e6)
    assert 0 < float((held * BYTE).sum()) <= 17e6
    assert (held[..., 1:] <= held[..., :-1]).all()


def test_with_everything_held_or_a_link_without_end_only_computation_is_left() -> None:
    rows = rows_of()
    computed = 12 * TIME["dense_s"] + int((rows > 0).sum()) * TIME["task_s"]
    everything = hold(rows, BYTE, 1e12)
    assert replay(rows, BYTE, everything, 1.0, "number", **TIME).second == pytest.approx(computed)
    nothing = np.zeros_like(everything)
    assert replay(rows, BYTE, nothing, 1e30, "hottest", **TIME).second == pytest.approx(computed)


def test_a_layer_is_never_sooner_than_its_bytes_and_its_computation() -> None:
    rows = rows_of()[:1, :1]
    nothing = np.zeros(rows.shape[1:], bool)
    for order in ("hottest", "number"):
        done = replay(rows, BYTE, nothing, 1e9, order, **TIME)
        tasks = int((rows > 0).sum()) * TIME["task_s"]
        assert done.second >= max(done.byte / 1e9, TIME["dense_s"] + tasks)
        assert done.second <= done.byte / 1e9 + TIME["dense_s"] + tasks


def test_an_order_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="order"):
        replay(rows_of(), BYTE, np.zeros((3, 6, 3), bool), 1e9, "random", **TIME)
