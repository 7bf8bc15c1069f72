"""Split states and their traffic: one replica splits nothing."""

import pytest

from studies import efficient_layouts, global_balance, zero_speed


def test_one_replica_splits_nothing_and_more_free_memory() -> None:
    plain, split = (zero_speed.best("8B", 16, 16, zero) for zero in (0, 2))
    assert plain[1] == split[1] > 0
    assert plain[0] == pytest.approx(split[0])
    few, many = (zero_speed.best("60B", count, 16, 2) for count in (64, 384))
    assert few[2] is not None
    assert many[2] is not None
    states = [sum(one.memory[:3]) for one in (few[2], many[2])]
    assert states[0] > states[1] > 60e9 * 2 / 16  # never less than the weights


def test_a_sum_over_one_rank_is_free_and_even_loads_are_the_plain_step() -> None:
    name = "olmoe-1b-7b"
    assert global_balance.step(name, 64, True).step_s > global_balance.step(name, 64, False).step_s
    both = [global_balance.step(name, 8, wide) for wide in (False, True)]
    assert both[0].memory == pytest.approx(both[1].memory)
    assert global_balance.step(name, 8, True, 0.4).step_s > both[1].step_s


def test_a_layout_and_its_recomputed_form_have_the_same_flop_to_show() -> None:
    kept, again = (efficient_layouts.mfu("13B", 64, 2048, 2, 2, 1, False, name) for name in ("none", "full"))
    assert 3 / 4 < again / kept < 0.85  # a forward pass more of three, but for vocabulary, exchanges and updates
    # without tensor parallelism there is no sequence to split
    assert efficient_layouts.mfu("13B", 64, 2048, 1, 1, 1, True) == efficient_layouts.mfu(
        "13B", 64, 2048, 1, 1, 1, False
    )
