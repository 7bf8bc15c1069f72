"""Optimizers as operators: what they add to a step vanishes where they do nothing, and grows as its closed form."""

import pytest

from sim.training.estimate import known_site
from studies import eight_bit_optimizers, mkor, nor_muon, soap
from studies._second_order import Product, exchange_s, matrices, products_s
from workloads.models.tensors import num_param

WHERE = known_site("dgx_a100", 64, "megatron-2021", "unfused", "bf16")


def test_the_matrices_are_the_models_but_for_vocabulary_norms_and_biases() -> None:
    model = mkor.bert(1024)
    weight = sum(rows * columns * count for rows, columns, count in matrices(model))
    assert weight == 24 * 12 * 1024**2
    assert weight + (30522 + 512) * 1024 == pytest.approx(num_param(model), rel=0.002)


def test_nothing_multiplied_and_nobody_to_tell_takes_no_time() -> None:
    assert products_s(WHERE, [], "bf16") == products_s(WHERE, [Product(64, 64, 64, 0)], "bf16") == 0
    assert exchange_s(WHERE, 0, 0.0, 64) == 0
    alone = mkor.mkor(mkor.bert(1024), WHERE, 4096, 1)
    assert alone.exchange_s == alone.inverse_s * 0 == mkor.kaisa(mkor.bert(1024), WHERE, 0.1, 4096, 1).exchange_s
    seldom = mkor.steps_s("dgx_a100", 10**9, 0.1)
    model = mkor.bert(1024)
    products = mkor.precondition_s(model, WHERE, 1, 1, "bf16")
    assert seldom[mkor.MKOR] - seldom[mkor.LAMB] == pytest.approx(products, rel=1e-3)


def test_inverses_grow_with_the_cube_and_rank_1_updates_with_the_square() -> None:
    small, large = (mkor.bert(width, 1) for width in (4096, 16384))
    cubes = [mkor.kaisa(model, WHERE, 0.1, 4096).inverse_s for model in (small, large)]
    squares = [mkor.mkor(model, WHERE, 4096).inverse_s for model in (small, large)]
    assert cubes[1] / cubes[0] == pytest.approx(64, rel=0.1)
    assert squares[1] / squares[0] == pytest.approx(16)


def test_soap_that_never_refreshes_is_products_and_passes() -> None:
    where, model = known_site("dgx_h100", 8, "pytorch-fsdp", "flash2"), soap.SIZES["360M"]
    never = [soap.update_s(model, where, name, 10**9, "tf32", 0.05) for name in (soap.SOAP, soap.SHAMPOO)]
    m, n, count = matrices(model)[0]
    assert (m, n, count) == (1024, 1024, 24)
    rotation = products_s(where, [Product(a, b, k, c) for a, b, c in matrices(model) for k in (a, b)], "tf32")
    assert never[0] - never[1] == pytest.approx(rotation, rel=1e-6)  # into the basis, and back
    often = [soap.update_s(model, where, soap.SOAP, every, "tf32", 0.05) for every in (1, 2, 4)]
    assert often[0] - often[1] == pytest.approx(2 * (often[1] - often[2]), rel=1e-6)


def test_one_rank_orthogonalises_everything_once() -> None:
    assert nor_muon.update_s(nor_muon.ADAM, 8) == 0
    assert nor_muon.over(nor_muon.ADAM, 8, 2**20) == 1
    once, every = (nor_muon.update_s(way, 1) for way in (nor_muon.ONCE, nor_muon.ALL))
    assert once == every  # with nobody to gather from
    assert nor_muon.update_s(nor_muon.ONCE, 64) < nor_muon.update_s(nor_muon.ALL, 64)


def test_states_in_8_bits_are_a_quarter_and_a_scale_a_block() -> None:
    name = "RoBERTa-base"
    wide, narrow = (eight_bit_optimizers.step(name, bits, 0.0).memory for bits in ("32-bit", "8-bit"))
    assert (wide[:2] == narrow[:2]).all()  # weights and gradients
    assert narrow[2] / wide[2] == pytest.approx(1 / 4 + 1 / 2048)
    assert eight_bit_optimizers.need_byte(name, "8-bit", 1e9) - eight_bit_optimizers.need_byte(name, "8-bit", 0) == 1e9
