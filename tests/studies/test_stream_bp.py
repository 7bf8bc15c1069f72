"""StreamBP's lengths: the slopes by hand, what fails and why."""

from dataclasses import replace

import pytest

from studies import stream_bp
from studies._max_length import Library, plan_byte
from workloads import models


def test_the_backward_pass_alone_is_as_published() -> None:
    table = stream_bp.run(("backward",))
    judged = table[table["paper"].notna()]
    assert (judged["verdict"] == "reproduced").all()
    ratio = table.loc[table["claim"] == "longer, ratio", "simulated"].tolist()
    assert ratio == sorted(ratio, reverse=True)  # the larger the model, the less its logits weigh: 8B, 14B, 32B
    assert all(2.5 < value < 6.5 for value in ratio)


def test_memory_is_a_constant_and_a_slope_that_hand_arithmetic_gives() -> None:
    model = models.load("qwen3-8b")
    plan, token = stream_bp.plans(False, states=False)[stream_bp.STREAM]
    held = Library(stream_bp.LOGIT_BYTE["backward"], logit_token=token)
    byte = [plan_byte(model, replace(plan, seq=1000 * n), held) for n in (10, 20, 30)]
    assert byte[2] - byte[1] == pytest.approx(byte[1] - byte[0], rel=1e-3)  # chunks of 100 tokens divide the length
    h, inter, kv = 4096, 12288, 8 * 128
    layer = 2 * (4 * h + (2 * 32 + 2 * 8) * 128 + 4 * inter) + 4 * 32  # inputs, q k v o, wide tensors, row sums
    # an input a layer; two thirds of the rest of a layer and, of what went before, normed input, keys and values;
    # gradients of the residual stream and of a third of the widest operator's three tensors
    work = 2 * (2 * h + 3 * inter / 3)
    slope = 36 * 2 * h + (layer - 2 * h) * 2 / 3 + 2 * (h + 2 * kv) / 3 + work
    assert (byte[2] - byte[0]) / 20_000 == pytest.approx(slope, rel=1e-3)
    # checkpointing: the logits (14 B each) are larger than a layer, whose room they leave
    plan, _ = stream_bp.plans(False, states=False)[stream_bp.CHECKPOINT]
    two, one = (plan_byte(model, replace(plan, seq=n), Library(stream_bp.LOGIT_BYTE["backward"])) for n in (2000, 1000))
    more = two - one
    assert more / 1000 == pytest.approx(36 * 2 * h + 14 * 151936)


def test_bytes_of_a_logit_are_what_the_trainers_hold() -> None:
    # fp32 cross entropy: log-probabilities and two gradients, 4 B each, and the bf16 logits where the output is kept
    assert (stream_bp.LOGIT_BYTE["backward"], stream_bp.LOGIT_BYTE["SFT"]) == (14, 12)
    # bf16 log-probabilities row by row: of eight rows a row's own weighs an eighth
    assert stream_bp.LOGIT_BYTE["GRPO"] == 4.5
    # tokens of a prompt without logits: a model of none but prompt has no logit bytes
    model = models.load("qwen3-8b")
    plan = replace(stream_bp.plans(True, 8)[stream_bp.CHECKPOINT][0], seq=1000)
    half, whole, none = (plan_byte(model, plan, Library(4.5, prompt=prompt)) for prompt in (500, 0, 1000))
    assert whole - half == pytest.approx(8 * 500 * 4.5 * model.vocab)
    assert none < half


def test_keys_and_values_are_repeated_for_every_head() -> None:
    # 32 heads of 128 channels: keys, values and their gradients, 2 B each; checkpointing's peak is elsewhere
    assert stream_bp.expanded_byte("qwen3-8b", stream_bp.STREAM) == 4 * 2 * 32 * 128
    assert stream_bp.expanded_byte("qwen3-8b", stream_bp.CHECKPOINT) == 0
