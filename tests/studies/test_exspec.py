"""Alignment of batches whose drafts hold unequally."""

import pytest

from studies import exspec


def test_one_sequence_is_never_aligned_and_both_ways_are_one() -> None:
    alone = exspec.serve("all", 1, 0.2, 24)
    assert alone == exspec.serve("pool", 1, 0.2, 24)
    assert alone.align == 0.0


def test_stages_at_the_batch_of_the_log_are_the_log() -> None:
    one = exspec.stages(exspec.LOG_BATCH)
    assert one == pytest.approx([exspec.DRAFT_S / 1469, exspec.VERIFY_S / 1469, exspec.ALIGN_S / 1469])
    assert exspec.stages(16).align_s == pytest.approx(4 * one.align_s)


def test_the_chain_has_the_share_of_the_log() -> None:
    accept = exspec.chain_accept(exspec.HELD)
    assert sum(accept**n for n in range(1, 6)) / 5 == pytest.approx(exspec.HELD)


def test_a_pool_aligns_less_than_a_batch_in_every_round() -> None:
    assert exspec.serve("pool", 4, 0.2, 96).align < exspec.serve("all", 4, 0.2, 96).align
