"""Slots of a recurrent batch: padded, sorted, refilled."""

import numpy as np

from studies import e_batch


def test_equal_lengths_leave_nothing_to_refill() -> None:
    same = np.full(256, 100)
    found = e_batch.policies(same, 64)
    assert len(set(found.values())) == 1
    assert found[e_batch.PADDED].useful == 64 * found[e_batch.PADDED].step


def test_steps_are_between_all_work_and_padding() -> None:
    length = e_batch.lengths(1024, 0.9)
    found = e_batch.policies(length, 64)
    for one in found.values():
        assert one.useful == length.sum()
        assert 64 * one.step >= one.useful
    assert found[e_batch.EBATCH].step <= length.sum() / 64 + length.max()
    assert found[e_batch.SORTED].step <= found[e_batch.PADDED].step


def test_one_slot_takes_all_in_turn() -> None:
    length = e_batch.lengths(100, 0.5)
    assert e_batch.refilled(length, 1, 10**6).step == e_batch.padded(length, 1).step == length.sum()
