"""Max-min fairness against its definition, on random flow sets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.fairness import advance, max_min_rates, next_end, scratch

FLOWS = st.integers(1, 12).flatmap(
    lambda num_link: st.tuples(
        st.lists(st.integers(1, 50), min_size=num_link, max_size=num_link),
        st.lists(st.sets(st.integers(0, num_link - 1), min_size=1, max_size=5), min_size=1, max_size=40),
    )
)


def rates(capacity: list[int] | np.ndarray, flows: list[set[int]] | list[list[int]]) -> np.ndarray:
    route = np.full((len(flows), max(map(len, flows))), -1, np.int32)
    for row, links in zip(route, flows, strict=True):
        row[: len(links)] = sorted(links)
    rate = np.empty(len(flows))
    space = scratch(len(capacity))
    max_min_rates(route, np.arange(len(flows)), np.asarray(capacity, float), rate, space)
    assert all((array == 0).all() for array in space)  # ready for the next call
    return rate


@settings(max_examples=200, deadline=None)
@given(FLOWS)
def test_definition(case: tuple[list[int], list[set[int]]]) -> None:
    capacity, flows = case
    rate = rates(capacity, flows)
    load = [sum(r for r, links in zip(rate, flows, strict=True) if link in links) for link in range(len(capacity))]
    full = [value >= c * (1 - 1e-9) for value, c in zip(load, capacity, strict=True)]
    assert all(value <= c * (1 + 1e-9) for value, c in zip(load, capacity, strict=True))
    for r, links in zip(rate, flows, strict=True):
        # a bottleneck: a full link on which nobody has more; to grow, the flow would take from one with no more than it
        assert any(
            full[link] and all(r >= s * (1 - 1e-9) for s, other in zip(rate, flows, strict=True) if link in other)
            for link in links
        )


@settings(max_examples=100, deadline=None)
@given(FLOWS, st.randoms(use_true_random=False))
def test_order_and_units_do_not_matter(case: tuple[list[int], list[set[int]]], random) -> None:
    capacity, flows = case
    order = list(range(len(flows)))
    random.shuffle(order)
    rate = rates(capacity, flows)
    assert rates(capacity, [flows[i] for i in order]) == pytest.approx(rate[order])
    assert rates(np.array(capacity) * 1e9, flows) == pytest.approx(rate * 1e9)


def test_the_textbook_case() -> None:
    # a line of links of rate 1 with one flow over all and one over each, the last link of rate 2 with one more
    rate = rates([1, 1, 2], [[0, 1, 2], [0], [1], [2], [2]])
    assert rate == pytest.approx([0.5, 0.5, 0.5, 0.75, 0.75])


def test_equal_flows_are_one_level() -> None:
    # 1,000 pairs over links of their own and one shared: all stop at 1/1000 of the shared one together
    route = np.array([[0, 1 + i] for i in range(1000)], np.int32)
    rate = np.empty(1000)
    assert max_min_rates(route, np.arange(1000), np.ones(1001), rate, scratch(1001)) == 1
    assert rate == pytest.approx(np.full(1000, 1e-3))


def test_moving_on() -> None:
    route = np.array([[0, 1], [1, -1]], np.int32)
    flow, rate, left, moved = np.arange(2), np.array([2.0, 3.0]), np.array([10.0, 100.0]), np.zeros(2)
    assert next_end(flow, rate, left) == 5
    assert advance(route, flow, rate, left, 2.0, moved) == 0
    assert left.tolist() == [6.0, 94.0]
    assert advance(route, flow, rate, left, 3.0, moved) == 1
    assert left.tolist() == [0.0, 85.0]
    assert moved.tolist() == [10.0, 25.0]
