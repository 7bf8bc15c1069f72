"""Pools sized until a load keeps its objectives: more never keep it worse, and what is found is the edge."""

import functools

from studies._provision import QUANTILES, SLOWDOWN, Split, alone, kept, most, split_keeps


def test_the_largest_that_keeps_is_the_edge() -> None:
    asked: list[int] = []

    def keeps(value: int) -> bool:
        asked.append(value)
        return value <= 37

    assert most(keeps, 1, 100) == 37
    assert len(asked) <= 7  # of a hundred
    assert most(lambda value: False, 5, 9) == 4


def test_a_request_alone_keeps_every_objective_and_a_slower_one_does_not() -> None:
    base = alone("coding", 20)
    assert kept(base, "coding")
    slow = base.copy()
    slow["e2e_s"] *= 1.01 * SLOWDOWN["e2e_s"][-1]
    assert not kept(slow, "coding")
    assert len(QUANTILES) == len(SLOWDOWN["ttft_s"])


def test_pools_that_keep_a_rate_keep_half_of_it_and_fail_at_twenty_times() -> None:
    split = Split("dgx_h100", 6, "dgx_h100", 2)
    keeps = functools.partial(split_keeps, split, "coding", second=5)
    assert keeps(rate=8)
    assert keeps(rate=4)
    assert not keeps(rate=160)
