"""Cases where plans of several lanes, or of several moments, met wrongly once: each with what is right."""

import pytest

from sim.serving.limits import Limits
from sim.serving.rules import Group, Rules
from tests.sim.serving.serving_case import attention_price, load, run, same
from tests.sim.serving.test_run_ahead import served

PRICE = {stage: attention_price(512, 8, stage, window=40) for stage in (1, 3)}


def both(requests, stage, policy, limits, **options):
    """The run ahead, equal to the one a step at a time, with every request served, or refused where it never fits."""
    ahead, step = (run(requests, PRICE[stage], policy, limits, engine=e, **options) for e in ("run-ahead", "stepping"))
    same(ahead, step)
    served(ahead)


def test_a_held_batch_keeps_a_lane_of_its_own():
    """Beside one running list for all stages it was planned again while its step was in flight."""
    limits = Limits(num_block=400, block_token=4, max_context_token=160, rules=Rules(pooled=True))
    both(load([0, 0, 25, 26], [46, 26, 48, 24], [40, 7, 56, 22]), 3, "static:max_token=400,max_seq=3", limits)


def test_what_one_lane_leaves_undone_ends_what_stands_in_the_others():
    """A sequence that waits for blocks stands before those of another lane, whose plan may not be repeated."""
    limits = Limits(num_block=45, block_token=4, max_context_token=160, prefix_cache=False, rules=Rules(pooled=True))
    requests = load([0] * 8, [76, 57, 46, 25, 28, 4, 7, 2], [11, 48, 39, 54, 30, 36, 58, 44])
    both(requests, 3, "vllm_v1:max_token=64,max_seq=8,max_chunk=16", limits)


@pytest.mark.parametrize("admit_whole", [False, True])
def test_a_plan_that_preempted_and_schedules_nothing_is_made_again(admit_whole):
    """It may have made room; the engine slept for ever. Whole prompts need no more than their longest step."""
    limits = Limits(
        num_block=45, block_token=4, max_context_token=160, prefix_cache=False, plan_ahead=1,
        rules=Rules(end_late=True, by_admission=True, admit_whole=admit_whole), groups=(Group("window", 20), Group()),
    )  # fmt: skip
    requests = load(
        [67, 113, 231, 241, 243, 299, 349, 390], [26, 36, 85, 2, 71, 12, 28, 84], [1, 47, 42, 17, 35, 41, 44, 50],
        priority=[2, 1, 2, 0, 1, 0, 2, 0], parent=[-1, -1, -1, -1, 2, 3, -1, 5],
        think_ps=[80980644, 27501587, 80739804, 91740292, 60445557, 2706408, 4610017, 88508987],
    )  # fmt: skip
    both(requests, 1, "vllm_v1:max_token=32,max_seq=5", limits, order="priority")
