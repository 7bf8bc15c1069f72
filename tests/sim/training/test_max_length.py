"""The longest sequence: the next one does not fit; more memory and fewer bytes never shorten it."""

import pytest

from kernels.errors import InputError
from studies._max_length import Library, max_length, plan_byte
from workloads import models
from workloads.training import TrainPlan

PLAN = TrainPlan(recompute="full", grad_byte=2.0, optimizer_byte=0.0)


def test_the_next_length_does_not_fit() -> None:
    longest = max_length("qwen3-4b", "a100_sxm_80gb", PLAN, mem_byte=60e9)
    model = models.load("qwen3-4b")
    assert longest % 100 == 0
    assert plan_byte(model, TrainPlan(**{**vars(PLAN), "seq": longest})) <= 60e9
    assert plan_byte(model, TrainPlan(**{**vars(PLAN), "seq": longest + 100})) > 60e9


def test_more_memory_parts_and_frozen_weights_lengthen_it() -> None:
    base = max_length("qwen3-4b", "a100_sxm_80gb", PLAN)
    more = [
        max_length("qwen3-4b", "h200", PLAN),
        max_length("qwen3-4b", "a100_sxm_80gb", PLAN, Library(logit_token=100)),
        max_length("qwen3-4b", "a100_sxm_80gb", TrainPlan(**{**vars(PLAN), "lora_rank": 32})),
    ]
    assert min(more) > base


def test_what_never_fits_is_refused() -> None:
    with pytest.raises(InputError, match="do not fit"):
        max_length("qwen3-32b", "a100_sxm_40gb", PLAN)
