"""Queries that visit partitions one by one and together."""

import pytest

from studies import hqi


def test_one_query_gains_nothing() -> None:
    assert hqi.batch_s(hqi.BATCHED, 1, 1) == pytest.approx(hqi.batch_s(hqi.ALONE, 1, 1))


def test_one_value_is_no_attribute() -> None:
    assert hqi.batch_s(hqi.BOTH, 64, 1) == pytest.approx(hqi.batch_s(hqi.BATCHED, 64, 1))


def test_every_query_makes_its_visits() -> None:
    found = hqi.visits(100)
    assert found.pair == 100 * hqi.PROBE == found.each.sum()


def test_distances_of_a_batch_cost_no_more_than_one_by_one() -> None:
    one, many = hqi.distance_s(1, 1000), hqi.distance_s(64, 1000)
    assert one < many < 64 * one
