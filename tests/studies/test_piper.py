"""Cores that share a vocabulary, and a stream that does not."""

import pytest

from studies import piper


def test_without_a_lock_cores_add_up() -> None:
    one = piper.Work(1e-6, 0.0)
    assert piper.cores_rate(one, 16, 32) == pytest.approx(16e6)


def test_the_lock_is_the_most() -> None:
    one = piper.Work(1e-6, 5e-7)
    assert piper.cores_rate(one, 1, 32) == pytest.approx(1 / 1.5e-6)
    assert 0.9 / 5e-7 < piper.cores_rate(one, 64, 32) <= 1 / 5e-7


def test_text_is_never_faster() -> None:
    assert piper.stream_rate(text=True) <= piper.stream_rate(text=False)
    assert piper.work(1e-8, text=True).free_s > piper.work(1e-8, text=False).free_s
