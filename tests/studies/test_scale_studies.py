"""What parts of the studies of scale must hold: chains of prompts, a fitted machine, places on a cluster."""

import pytest

from studies import kv_runahead, palm


@pytest.mark.parametrize("num", [2, 4, 8])
def test_balanced_parts_are_the_whole_prompt_and_take_no_longer_than_even_ones(num: int) -> None:
    one = kv_runahead.Prompt("falcon-7b", 300e9)
    parts = kv_runahead.balanced(one, 8192, num)
    assert sum(parts) == 8192
    assert len(parts) == num
    assert min(parts) >= 64
    assert parts[0] > parts[-1]
    assert one.chain_s(parts) <= one.chain_s([8192 // num] * num)


def test_a_chain_of_one_is_the_prompt_alone_and_gathers_nothing() -> None:
    one = kv_runahead.Prompt("llama-2-7b", 10e9)
    whole = one.num_layer * one.layer_s(2048, 2048)
    assert one.chain_s([2048]) == pytest.approx(whole)
    assert one.gathered_s(2048, 1) == pytest.approx(whole)


def test_a_search_never_ends_behind_its_starts() -> None:
    one = kv_runahead.Prompt("llama-2-7b", 10e9)
    parts, best = kv_runahead.search(one, 4096, 4, 2)
    assert sum(parts) == 4096
    assert best <= min(one.chain_s([1024] * 4), one.chain_s(kv_runahead.balanced(one, 4096, 4)))


def test_a_machine_at_the_speed_of_light_adds_nothing_and_none_is_fitted_below_it() -> None:
    cost = palm.layer("stay", "decode", 64, 2)
    assert cost.step_s(3, palm.Machine()) == pytest.approx(3 * sum(cost))
    chip = palm.fitted()
    assert chip.product >= 1 - 1e-9
    assert chip.collective >= 1 - 1e-9
    assert chip.fixed_s >= 0
    assert cost.step_s(3, chip) > cost.step_s(3, palm.Machine())
