"""Split states and their traffic: one replica splits nothing."""

import pytest

from studies import zero_speed


def test_one_replica_splits_nothing_and_more_free_memory() -> None:
    plain, split = (zero_speed.best("8B", 16, 16, zero) for zero in (0, 2))
    assert plain[1] == split[1] > 0
    assert plain[0] == pytest.approx(split[0])
    few, many = (zero_speed.best("60B", count, 16, 2) for count in (64, 384))
    assert few[2] is not None
    assert many[2] is not None
    states = [sum(one.memory[:3]) for one in (few[2], many[2])]
    assert states[0] > states[1] > 60e9 * 2 / 16  # never less than the weights
