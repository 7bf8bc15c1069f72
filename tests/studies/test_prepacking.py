"""Rectangles of prompts: what packing keeps, and where it changes nothing."""

import numpy as np
import pytest

from studies import prepacking as p


def test_equal_prompts_are_the_same_rectangle_however_batched() -> None:
    even = np.full(128, 300)
    assert p.packed(even[:64]) == p.rectangle(p.FULL, even[:64]) == (64, 300)
    times = [p.mean_s(name, even) for name in (p.FULL, p.SORTED, p.PACKED, p.LIST)]
    assert times == pytest.approx([times[0]] * 4, rel=1e-9)


def test_rows_hold_every_token_and_never_more_than_the_longest_prompt() -> None:
    tokens = p.lengths(100.0, 1400.0, 3)
    assert tokens.max() == 1400
    assert tokens.mean() == pytest.approx(100.0, rel=0.15)
    for one in p.batches(p.FULL, tokens):
        rows, columns = p.packed(one)
        assert one.sum() <= rows * columns < 2 * one.sum() + one.max()
        assert columns == one.max()


def test_sorting_pads_least_among_batches_of_whole_prompts() -> None:
    tokens = p.lengths(100.0, 1400.0, 0)
    area = {
        name: sum(rows * columns for rows, columns in (p.rectangle(name, one) for one in p.batches(name, tokens)))
        for name in (p.FULL, p.SORTED, p.PACKED)
    }
    assert tokens.sum() <= area[p.PACKED] < area[p.SORTED] < area[p.FULL]
