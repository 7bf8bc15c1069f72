"""Optimizers as operators: what they add to a step vanishes where they do nothing, and grows as its closed form."""

import pytest

from sim.training.estimate import known_site
from studies import mkor
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
