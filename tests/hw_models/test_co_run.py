"""Kernels side by side: bounds that any exchange keeps, and hand arithmetic on the published one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw_models.co_run import beside_s, exchange
from kernels.errors import InputError

SECOND = st.floats(0.0, 10.0)


@given(SECOND, SECOND, SECOND)
def test_never_below_the_longest_nor_above_the_sum(compute: float, memory: float, network: float) -> None:
    found = beside_s(compute, memory, network)
    assert found >= max(compute, memory, network) * (1 - 1e-9) - 1e-12
    assert found <= (compute + memory + network) * (1 + 1e-9) + 1e-12


@given(SECOND, SECOND, SECOND, st.floats(0.1, 1000.0))
def test_work_twice_as_long_takes_twice_as_long(compute: float, memory: float, network: float, factor: float) -> None:
    scaled = beside_s(factor * compute, factor * memory, factor * network)
    assert scaled == pytest.approx(factor * beside_s(compute, memory, network), rel=1e-6, abs=1e-9)


def test_a_long_product_gives_away_the_cheapest_share() -> None:
    # attention costs 0.4 of the product's rate for 1/0.8 of its own time, a collective 0.2 for 1/0.5: 0.5 s and 0.4 s
    assert beside_s(10.0, 1.0, 0.0) == pytest.approx(10.5)
    assert beside_s(10.0, 0.0, 1.0) == pytest.approx(10.4)
    assert beside_s(10.0, 1.0, 1.0) == pytest.approx(10.9)


@pytest.mark.parametrize("kind", ["memory", "network"])
def test_an_exchange_rises_from_nothing_to_all(kind: str) -> None:
    share, rate = exchange(kind)
    assert share[0] == rate[0] == 0
    assert share[-1] == rate[-1] == 1
    assert (share[1:] > share[:-1]).all()
    assert (rate[1:] >= rate[:-1]).all()
    assert (rate >= share).all()  # a kernel that another resource binds reaches more than its share


def test_negative_work_is_an_error() -> None:
    with pytest.raises(InputError, match="memory_s"):
        beside_s(1.0, -1.0)
    with pytest.raises(InputError, match="unknown"):
        exchange("disk")
