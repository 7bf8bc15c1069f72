"""Training that generates: parts add up, and an algorithm without its extra models is the plain one."""

import pytest

from studies import re_max


def test_ppo_holds_and_trains_a_second_model_and_remax_answers_twice() -> None:
    ppo, remax = (re_max.parts(way, 4, 16) for way in (re_max.PPO, re_max.REMAX))
    assert remax["generation"] == pytest.approx(2 * ppo["generation"])
    assert ppo["training"] == pytest.approx(2 * remax["training"])
    more = re_max.need_byte(re_max.PPO, 4, 1, False) - re_max.need_byte(re_max.REMAX, 4, 1, False)
    # weights in 16 bits whole; a quarter of the gradients in 16 bits and of three values of 32
    assert more == pytest.approx(6.74e9 * (2 + (2 + 12) / 4), rel=0.02)
    assert re_max.largest(re_max.REMAX, 4, True) > re_max.largest(re_max.REMAX, 4, False)
