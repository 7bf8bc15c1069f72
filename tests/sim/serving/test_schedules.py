"""Small schedules worked out by hand, to the microsecond. A step takes 10 us and 1 us a computed token."""

import numpy as np
import pytest

from kernels.engine.records import LOG_COLUMNS, STATUSES
from sim.serving.limits import Limits
from tests.sim.serving.serving_case import US, flat_price, load, run

LIMITS = Limits(num_block=1000, block_token=4, max_context_token=256, watermark=0.0)


def times(result, *names):
    return [(result.request[f"{name}_ps"] // US).tolist() for name in names]


def steps(result, *names):
    """Rows of the log, times in microseconds."""
    scale = [US if name.endswith("_ps") else 1 for name in names]
    columns = [LOG_COLUMNS.index(name) for name in names]
    return [tuple(row) for row in (result.step[:, columns] // scale).tolist()]


def test_static_batches_begin_and_end_together():
    # A(4 prompt, 3 output) at 0 is alone: prefill 10+4 = 14, decodes 10+1: 25, 36. B(6, 2), C(2, 4) at 5 wait for 36:
    # prompts padded to 6 each: 10+12 -> 58; decode of two rows 10+2 -> 70, B is done, but stays: 82, 94.
    result = run(load([0, 5, 5], [4, 6, 2], [3, 2, 4]), flat_price(), "static:max_seq=4", LIMITS, record_steps=True)
    assert times(result, "start", "first_token", "last_token", "end") == [
        [0, 36, 36], [14, 58, 58], [36, 70, 94], [36, 94, 94],
    ]  # fmt: skip
    assert steps(result, "start_ps", "end_ps", "num_prefill", "num_decode", "num_idle", "pad_token") == [
        (0, 14, 1, 0, 0, 0), (14, 25, 0, 1, 0, 0), (25, 36, 0, 1, 0, 0),
        (36, 58, 2, 0, 0, 4), (58, 70, 0, 2, 0, 0), (70, 82, 0, 1, 1, 1), (82, 94, 0, 1, 1, 1),
    ]  # fmt: skip


def test_orca_joins_and_leaves_at_iterations():
    # A as above; B and C join the iteration at 14 with their whole prompts: 10 + 1 + 6 + 2 = 19 -> 33;
    # then A(3rd), B(2nd), C decode: 13 -> 46, A and B leave; C alone: 57, 68.
    result = run(load([0, 5, 5], [4, 6, 2], [3, 2, 4]), flat_price(), "orca:reserve=oracle", LIMITS, record_steps=True)
    assert times(result, "start", "first_token", "end") == [[0, 14, 14], [14, 33, 33], [46, 46, 68]]
    assert (result.step[:, LOG_COLUMNS.index("pad_token")] == 0).all()


def test_vllm_v0_prefills_before_it_decodes():
    # A prefills 0-14; B and C waited since 5 and go first: 10+8 -> 32, A waits; then all decode: 45 (A's second),
    # 45 ends B; A, C: 57 ends A; C: 68.
    result = run(load([0, 5, 5], [4, 6, 2], [3, 2, 4]), flat_price(), "vllm_v0", LIMITS, record_steps=True)
    assert times(result, "start", "first_token", "end") == [[0, 14, 14], [14, 32, 32], [57, 45, 68]]
    assert steps(result, "num_prefill", "num_decode") == [(1, 0), (2, 0), (0, 3), (0, 2), (0, 1)]


@pytest.mark.parametrize("policy", ["sarathi", "vllm_v1"])
def test_one_token_budget_cuts_prompts_into_what_decodes_leave(policy):
    # budget 5. A(4, 3) at 0 -> 14. At 14: A decodes (1), B gets 4 of 6: 15 -> 29. At 29: A's last (1), B's last 2, and
    # C's prompt of 2: 10+5 -> 44 ends A, B and C have a first token. B's and C's second: 10+2 -> 56 ends B. C: 67, 78.
    requests = load([0, 5, 5], [4, 6, 2], [3, 2, 4])
    result = run(requests, flat_price(), f"{policy}:max_token=5,max_seq=8", LIMITS, record_steps=True)
    assert times(result, "start", "first_token", "end") == [[0, 14, 29], [14, 44, 44], [44, 56, 78]]
    assert steps(result, "prefill_token", "num_decode") == [(4, 0), (4, 1), (4, 1), (0, 2), (0, 1), (0, 1)]


def test_preemption_by_recompute_and_by_swap():
    # 3 blocks of 4 tokens. A(4, 6) and B(4, 6) prefill together (8 tokens): 18, a block each. Their next token needs a
    # block each, one is free: A (first) takes it, B, the tail, is preempted. A decodes alone: 29 .. 73 (5 tokens).
    # Recompute: B prefills its prompt and first token, 5 tokens: 73-88, then 4 decodes of 11 -> 132.
    requests = load([0, 0], [4, 4], [6, 6])
    tight = {"num_block": 3, "block_token": 4, "max_context_token": 64, "watermark": 0.0}
    result = run(requests, flat_price(), "vllm_v1", Limits(**tight), record_steps=True)
    assert times(result, "first_token", "end") == [[18, 18], [73, 132]]
    assert result.counter["num_recompute"].tolist() == [1]
    # Swap: one block moves out beside A's step (7 us), 18-36, so A ends at 80; it comes back with B's second token:
    # 80 + 11 + 7 = 98, then 4 more: 142.
    price = flat_price()
    price.host_ps[-1] = 7 * US
    result = run(requests, price, "vllm_v1", Limits(**tight, preemption="swap", host_block=8), record_steps=True)
    assert times(result, "first_token", "end") == [[18, 18], [80, 142]]
    assert steps(result, "moved_block")[1:3] == [(1,), (0,)]
    assert result.counter["num_moved_block"].tolist() == [2]
    assert result.request["num_preempted"].tolist() == [0, 1]


def test_prefix_hits_are_not_computed_again():
    # Units of 8 tokens (2 blocks). A's prompt of 20 is units 0, 1 and 4 tokens of its own; B, later, shares both units
    # and computes 20 - 16 = 4: 10 + 4. C has exactly the two units: its last token must be computed, so one unit hits.
    requests = load(
        [0, 1000, 2000], [20, 20, 16], [1, 1, 1],
        unit_start=[0, 2, 4], unit_stop=[2, 4, 6], unit_id=[0, 1] * 3, unit_token=8,
    )  # fmt: skip
    result = run(requests, flat_price(), "vllm_v1", LIMITS)
    assert times(result, "end") == [[30, 1014, 2018]]
    assert result.request["cached_token"].tolist() == [0, 16, 8]
    off = Limits(num_block=1000, block_token=4, max_context_token=256, prefix_cache=False)
    assert times(run(requests, flat_price(), "vllm_v1", off), "end") == [[30, 1030, 2026]]


def test_least_recently_used_units_are_evicted_leaves_first():
    # 8 blocks of 4, units of a block. A(12, 1) leaves units 0, 1, 2 cached, 5 blocks free. B, the same prompt: 0 and 1
    # hit (the third would leave nothing to compute). C(28, 1) needs 7 blocks of its own: unit 2, a leaf, goes first,
    # then 1. D, A's prompt again, finds unit 0 alone.
    requests = load(
        [0, 1000, 2000, 3000], [12, 12, 28, 12], [1, 1, 1, 1],
        unit_start=[0, 3, 6, 6], unit_stop=[3, 6, 6, 9], unit_id=[0, 1, 2] * 3, unit_token=4,
    )  # fmt: skip
    result = run(
        requests, flat_price(), "vllm_v1", Limits(num_block=8, block_token=4, max_context_token=64, watermark=0.0)
    )
    assert result.request["cached_token"].tolist() == [0, 8, 0, 4]
    assert result.counter["num_evict"].tolist() == [2]


def test_pipeline_stages_overlap_two_microbatches():
    # Two stages of 10 + tokens us. Each lane holds one sequence (max_seq 1): A(2, 2) enters at 0: 12, 24. B(2, 2)
    # enters when stage 0 is free, at 12: 24, and stage 1 is free at 24: 36. A's decode: stage 0 at 24 -> 35, stage 1
    # at 36 -> 47. B's: stage 0 at 36 -> 47, stage 1 at 47 -> 58.
    result = run(load([0, 0], [2, 2], [2, 2]), flat_price(num_stage=2), "vllm_v1:max_seq=1", LIMITS)
    assert times(result, "first_token", "end") == [[24, 36], [47, 58]]
    assert (result.stage_busy_ps // US).tolist() == [[46, 46]]  # 12 + 12 + 11 + 11 each; of 58, so bubbles of 12


def test_order_of_the_queue():
    # one sequence at a time (10 + 1 us each); 0 begins at once, then by predicted length, or priority and arrival
    base = {"predicted_token": [5, 9, 2, 4], "priority": [0, 2, 2, 1]}
    requests = load([0, 1, 2, 3], [1] * 4, [1] * 4, **base)
    for order, ends in (("fcfs", [11, 22, 33, 44]), ("sjf", [11, 44, 22, 33]), ("priority", [11, 33, 44, 22])):
        result = run(requests, flat_price(), "vllm_v1:max_seq=1", LIMITS, order=order)
        assert times(result, "end") == [ends], order


def test_chained_requests_arrive_after_their_parent_and_think():
    # 0 ends at 11; 1 thinks 100 us: arrives 111, ends 122; 2 could come at 500 only
    requests = load([0, 0, 500], [1] * 3, [1] * 3, parent=[-1, 0, 1], think_ps=[0, 100 * US, 0])
    result = run(requests, flat_price(), "vllm_v1", LIMITS)
    assert times(result, "arrival", "end") == [[0, 111, 500], [11, 122, 511]]


def test_what_can_never_run_is_refused_with_why_and_frees_its_child():
    requests = load([0, 0, 0], [300, 90, 1], [1, 1, 1], parent=[-1, -1, 0])
    limits = Limits(num_block=20, block_token=4, max_context_token=256)
    result = run(requests, flat_price(), "vllm_v1", limits)
    assert result.request["reason"].tolist() == [1, 2, 0]  # longer than the context; more KV than there is
    assert [STATUSES[k] for k in result.request["status"]] == ["refused", "refused", "finished"]
    assert result.counter["num_refused"].tolist() == [2]
    assert np.all(result.request["end_ps"] >= 0)
