"""One prompt for many questions."""

import pytest

from studies import batch_prompt as study


@pytest.mark.parametrize("task", list(study.TASKS))
@pytest.mark.parametrize("call", study.CALLS)
def test_tokens_are_the_published_share(task: str, call: float) -> None:
    share, question = study.TASKS[task]
    one, many = study.loads(32_000, share, call, question).values()
    tokens = [load.num * (load.shared + load.own) for load in (one, many)]
    assert tokens[1] / tokens[0] == pytest.approx(share, rel=0.01)


def test_an_instruction_that_nobody_shares_gains_nothing_from_a_cache() -> None:
    load = study.Load(1, 1000, 100, 8)
    assert study.serve_s(load, cached=True) == study.serve_s(load, cached=False)


def test_a_cache_never_costs_time() -> None:
    load = study.Load(16, 1000, 100, 8)
    assert study.serve_s(load, cached=True) < study.serve_s(load, cached=False)
