"""The study of attention and experts on different machines: what its set-up holds, and what no plan can do."""

import pytest

from studies import mega_scale_infer as study


def test_a_plan_holds_its_batch_within_the_limit() -> None:
    one = study.apart(study.AMPERE, study.AMPERE, 3, 2, 3)
    token_per_s, batch = study.most(one)
    assert batch > 0
    assert token_per_s == pytest.approx(batch / study.step_s(one, batch))
    assert study.step_s(one, batch) <= study.LIMIT_S
    assert batch * study.KV <= one.setup.num_block * one.setup.store.block_token
    assert one.setup.num_device == 3 * 2 + 8 * 2


def test_more_microbatches_of_one_size_are_no_slower_and_no_faster_than_as_many_machines() -> None:
    rate = study.by_part(study.Plan(0.0, 3 * 512, 3, 2, 3))
    assert list(rate) == [1, 2, 3, 4]
    for num in (2, 3, 4):
        assert rate[num - 1] <= rate[num] * (1 + 1e-9)
        assert rate[num] <= num * rate[1]
