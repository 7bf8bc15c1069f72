"""Training that generates: parts add up, and an algorithm without its extra models is the plain one."""

import pytest

from studies import deep_surrogates, prompt_curriculum, re_max


def test_ppo_holds_and_trains_a_second_model_and_remax_answers_twice() -> None:
    ppo, remax = (re_max.parts(way, 4, 16) for way in (re_max.PPO, re_max.REMAX))
    assert remax["generation"] == pytest.approx(2 * ppo["generation"])
    assert ppo["training"] == pytest.approx(2 * remax["training"])
    more = re_max.need_byte(re_max.PPO, 4, 1, False) - re_max.need_byte(re_max.REMAX, 4, 1, False)
    # weights in 16 bits whole; a quarter of the gradients in 16 bits and of three values of 32; a bucket of gradients
    assert more == pytest.approx(6.74e9 * (2 + (2 + 12) / 4) + re_max.BUCKET_BYTE, rel=0.02)
    assert re_max.largest(re_max.REMAX, 4, True) > re_max.largest(re_max.REMAX, 4, False)


def test_a_queue_runs_at_the_slower_of_both_and_a_reservoir_at_the_trainers_rate() -> None:
    slow, fast = 0.2 / deep_surrogates.STEP_S, 20 * deep_surrogates.BATCH / deep_surrogates.STEP_S
    starved = deep_surrogates.stream(deep_surrogates.QUEUE, slow * deep_surrogates.BATCH, 300)
    assert starved.batch_per_s == pytest.approx(slow, rel=0.1)
    assert starved.fields <= 301 * deep_surrogates.BATCH
    fed = [
        deep_surrogates.stream(way, fast, 300).batch_per_s for way in (deep_surrogates.QUEUE, deep_surrogates.ONLINE)
    ]
    assert fed == pytest.approx([1 / deep_surrogates.STEP_S] * 2, rel=0.05)
    held = [count for _, count in deep_surrogates.stream(deep_surrogates.ONLINE, fast, 300).held]
    assert max(held) == deep_surrogates.CAPACITY


def test_one_answer_of_one_token_is_its_prefill_and_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(prompt_curriculum.ANSWERS, "MATH", (1, 1e-9))
    one = prompt_curriculum.generation_s("MATH", 1, 1)
    step = prompt_curriculum.curve(prompt_curriculum.PROMPT["MATH"] + 1)[0]
    assert one == pytest.approx(prompt_curriculum.value_s("MATH", 1) + step)
    # equal answers end together: as many steps, each as wide as all
    wide = prompt_curriculum.curve(prompt_curriculum.PROMPT["MATH"] + 1)[prompt_curriculum.GRID.index(64)]
    assert prompt_curriculum.generation_s("MATH", 64, 1) == pytest.approx(prompt_curriculum.value_s("MATH", 64) + wide)


def test_a_slow_host_updates_as_long_for_one_gpu_as_for_four() -> None:
    one, four = (re_max.training(num, 16, True, 1e9).step_s for num in (1, 4))
    assert four == pytest.approx(one, rel=0.05)
    assert re_max.training(4, 16, True, 2e9).step_s == pytest.approx(four / 2, rel=0.1)
