"""Chunks under a budget of KV: where they are plain chunks, and how they grow."""

import pytest

from studies import finch as f


def test_a_budget_for_everything_and_no_question_are_plain_chunks() -> None:
    assert f.serve(f.FINCH, 4096, 0, budget=8192) == pytest.approx(f.serve(f.CHUNKED, 4096, 0), rel=1e-12)


def test_a_chunk_costs_as_much_wherever_it_stands() -> None:
    """Past the budget a step sees what is kept and its own chunk: first tokens lie on a line, plain chunks above it."""
    text = (4 * 496, 8 * 496, 12 * 496)
    kept = [f.serve(f.FINCH, token, 16).first_s for token in text]
    assert kept[2] - kept[1] == pytest.approx(kept[1] - kept[0], rel=1e-6)
    plain = [f.serve(f.CHUNKED, token, 0).first_s for token in text]
    assert plain[2] - plain[1] > plain[1] - plain[0]


def test_a_longer_question_costs_more_steps() -> None:
    assert f.serve(f.FINCH, 4096, 128).first_s > f.serve(f.FINCH, 4096, 16).first_s
