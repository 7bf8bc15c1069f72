"""Rectangles of prompts: what packing keeps, and where it changes nothing."""

import numpy as np
import pytest

from studies import prepacking as p


def test_equal_prompts_are_the_same_rectangle_however_batched() -> None:
    even = np.full(128, 300)
    assert p.packed(even[:64]) == (64, 299)
    assert p.rectangle(p.FULL, even[:64]) == (64, 300)
    times = [p.mean_s(name, even) for name in (p.FULL, p.SORTED, p.LIST)]
    assert times == pytest.approx([times[0]] * 3, rel=1e-9)


def test_rows_hold_every_token_but_the_last_of_each_prompt_and_never_more_than_the_longest() -> None:
    for one in p.batches(p.orders(1)[p.PACKED][0]):
        rows, columns = p.packed(one)
        assert one.sum() - len(one) <= rows * columns < 2 * one.sum() + one.max()
        assert columns < one.max()


def test_the_emptiest_row_takes_the_next_prompt() -> None:
    # 5 | 4 opens a row, 3 too; 1 joins the 3: rows of 5, 4 and 4, of 1, 1 and 2 prompts
    assert p.packed(np.array([5, 4, 3, 1])) == (3, 4)


def test_every_way_computes_the_same_questions_and_sorting_pads_least_among_whole_prompts() -> None:
    order = p.orders(2)
    assert {name: sorted(each[-1]) == sorted(order[p.FULL][0]) for name, each in order.items()} == dict.fromkeys(
        order, True
    )
    area = {
        name: sum(rows * columns for rows, columns in (p.rectangle(name, one) for one in p.batches(order[name][0])))
        for name in (p.FULL, p.SORTED, p.PACKED)
    }
    assert area[p.PACKED] < area[p.SORTED] < area[p.FULL]
