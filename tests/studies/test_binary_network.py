"""A network of single bits: what it multiplies, and what bits leave."""

import pytest

from studies import binary_network as study
from studies._kernels import BIT_RATE, bit_product, product


def test_it_multiplies_as_much_as_resnet_18() -> None:
    macs = sum(one.window * one.c_in * one.c_out * one.side**2 for one in study.layers())
    first = 147 * 64 * 112**2
    assert macs + first + 512_000 == pytest.approx(1.82e9, rel=0.01)


def test_as_many_bit_products_as_the_rate_are_the_unit_s_work() -> None:
    bits, four = bit_product(64, 64, 64, 2, 2)[0], product(64, 64, 64, fmt="int4")[0]
    assert bits["flop"] == four["flop"]
    assert bits["k"] == four["k"]
    assert bits["weight_byte"] == four["weight_byte"] / 2
    assert BIT_RATE == 4


def test_bits_never_move_more_than_16_bits_in_products() -> None:
    bits, half = (study.time_s(8, kind) for kind in (study.BITS, study.HALF))
    assert bits[study.PRODUCT] < half[study.PRODUCT]
    assert bits[study.FIRST] == half[study.FIRST]
