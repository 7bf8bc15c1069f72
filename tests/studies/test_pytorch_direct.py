"""Rows out of host memory."""

import pytest

from studies import pytorch_direct as study


def test_rows_of_whole_lines_move_nothing_else() -> None:
    assert study.lines(128, 500, shifted=False) == study.lines(128, 500, shifted=True) == 4.0


def test_unshifted_rows_touch_up_to_two_lines_a_request() -> None:
    for width in (100, 293, 602):
        need = 4 * width / study.LINE
        shifted, plain = (study.lines(width, 2000, shifted=value) for value in (True, False))
        assert need <= shifted <= need + 2
        assert shifted <= plain <= 2 * (need + 1)


def test_a_gather_for_nothing_leaves_the_link() -> None:
    byte = 4.0 * 128 * study.ROWS
    assert study.rows_s(study.COPY, 128, 100, 1e12) == pytest.approx(byte / study.link_byte_per_s())
    assert study.rows_s(study.SHIFTED, 128, 100, 8.0) == pytest.approx(byte / study.link_byte_per_s())


def test_gathering_beside_the_step_hides_at_most_the_gathering() -> None:
    both, one = (study.epoch_s(kind, 602, 100, 12.0, 0.03, 100) for kind in (study.COPY, study.BESIDE))
    gather = 100 * 4.0 * 602 * study.ROWS / 12e9
    assert both - gather <= one < both
