"""Layers that all tokens skip alike, and windows of guesses."""

import itertools

import pytest

from studies import fast_cot, unified_skipping
from studies._steps import arrays, decode_s


def test_nothing_skipped_is_the_whole_model() -> None:
    plain = decode_s("llama-2-7b", arrays("a100_sxm_80gb"), 8, unified_skipping.CONTEXT, fmt="fp16")
    assert unified_skipping.unified_s(1.0, 8) == plain
    assert unified_skipping.exits_s(1.0, 8) == pytest.approx(plain, rel=1e-9)


@pytest.mark.parametrize("target", [1.25, 1.5, 2.0, 3.0])
def test_kept_layers_lie_at_an_even_stride_from_end_to_end(target: float) -> None:
    layers = unified_skipping.kept(32, target)
    assert (layers[0], layers[-1], len(layers)) == (0, 31, round(32 / target))
    gaps = {b - a for a, b in itertools.pairwise(layers)}
    assert max(gaps) - min(gaps) <= 1


def test_one_sequence_that_exits_alone_pays_for_its_own_layers() -> None:
    """Without company the mean of exits is the mean of steps: close to the step of the mean."""
    assert unified_skipping.exits_s(2.0, 1, 200) == pytest.approx(unified_skipping.unified_s(2.0, 1), rel=0.1)
    assert unified_skipping.exits_s(2.0, 16) > unified_skipping.unified_s(2.0, 16)


def test_no_window_is_plain_and_guesses_that_never_hold_cost() -> None:
    plain = fast_cot.one("a100_sxm_80gb", 1, 0, 0.0)
    assert (plain.verified, plain.drafted) == (1.0, 0.0)
    second, iteration = fast_cot.saved("a100_sxm_80gb", 1, 8, 0.0)
    assert iteration == 0.0
    assert second < 0
    second, iteration = fast_cot.saved("a100_sxm_80gb", 1, 8, 0.3)
    assert 0 < second < iteration
