"""A recurrent step: what is read again, what is not, and what is left at no work."""

from studies import flash_rnn


def test_a_resident_matrix_and_no_launch_cost_less() -> None:
    for head in (64, 256, 768):
        assert flash_rnn.resident_s(head) < flash_rnn.work_s(head)


def test_the_fit_is_its_own_published_number() -> None:
    for kind, published in flash_rnn.FORWARD.items():
        assert abs(flash_rnn.forward_ms(kind, flash_rnn.FIT) / published[flash_rnn.FIT] - 1) < 1e-9


def test_larger_heads_take_longer_where_work_counts() -> None:
    for kind in (flash_rnn.FUSED, flash_rnn.ALTERNATE):
        found = [flash_rnn.forward_ms(kind, head) for head in (64, 128, 256, 384, 768)]
        assert found == sorted(found)


def test_a_head_that_just_fits_fills_the_chip() -> None:
    side = flash_rnn.largest(flash_rnn.REGISTER_BYTE)
    assert abs(2 * flash_rnn.GATE * side**2 / (flash_rnn.REGISTER_BYTE * 132) - 1) < 1e-9
