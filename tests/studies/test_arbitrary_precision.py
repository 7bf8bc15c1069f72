"""Products by bits, at the price of the unit that does them."""

import pytest

from studies import arbitrary_precision as study


def test_as_many_bit_products_as_the_rate_holds_and_4_bit_operands_are_the_4_bit_product() -> None:
    ops_bits = study.bits_s(4096, 4096, 4096, 2, 2)
    assert ops_bits <= study.plain_s(4096, 4096, 4096, "int4")  # the same multiplications, half the bytes


def test_work_of_large_products_grows_with_both_widths() -> None:
    one, four = (study.bits_s(8192, 8192, 8192, *bits) for bits in ((2, 2), (4, 4)))
    assert 2.5 < four / one < 4.2
    assert study.bits_s(8192, 8192, 8192, 1, 4) == pytest.approx(study.bits_s(8192, 8192, 8192, 4, 1))


def test_one_token_reads_its_weights() -> None:
    assert study.model_gain(1, 1, 2) > study.model_gain(1, 2, 2) > study.model_gain(1, 3, 4) > 1
