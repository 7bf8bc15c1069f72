"""The summary of a training step against closed forms at the speed of light."""

from dataclasses import replace

import pytest

from sim.training.fitted.step import TrainResult, train
from workloads import models
from workloads.models.spec import ModelSpec
from workloads.training import TrainPlan

PEAK = 989.4e12  # bf16 of an H100 SXM, dense (datasheet)


def light(model: str | ModelSpec, plan: TrainPlan) -> TrainResult:
    return train(model, "dgx_h100", plan, stack="sol")


def test_hops_of_gpipe_are_exposed_while_it_fills_and_drains() -> None:
    # (m + p - 1)(F + B) + 2 (p - 1) c: no stage waits for a hop in between
    found = light("gpt3-13b", TrainPlan(pp=4, batch=16, schedule="gpipe")).summary
    assert found["hop_s"] > 0
    assert found["exposed_pp_s"] == pytest.approx(2 * 3 * found["hop_s"], rel=1e-6)  # hops are whole picoseconds
    assert light("gpt3-13b", TrainPlan(batch=16)).summary["exposed_pp_s"] == 0


@pytest.mark.parametrize("seq", [2048, 65_536])
def test_no_plan_is_faster_than_light(seq: int) -> None:
    found = light("llama-3-8b", TrainPlan(batch=2, seq=seq)).summary
    assert 0.5 < found["mfu_causal"] < 1  # the mask halves what attention computes
    assert found["mfu"] > found["mfu_causal"]  # published figures count what the mask hides


def test_sliding_windows_skip_scores() -> None:
    seq, model = 32_768, models.load("gemma-3-27b")  # windows of 1,024 in five of six layers
    wide = replace(model, block=tuple(
        replace(block, attention=replace(block.attention, window=0)) for block in model.block))  # fmt: skip
    plan = TrainPlan(seq=seq)
    with_windows, without = (light(spec, plan).summary for spec in (model, wide))
    attentions = [model.block[i].attention for i in model.layer]
    # two products forward and five backward of the scores that a window leaves out
    left_out = sum((seq - a.window) ** 2 / 2 for a in attentions if a.window)
    flop = 7 * attentions[0].num_head * 2 * attentions[0].head_dim * left_out
    assert without["step_s"] - with_windows["step_s"] == pytest.approx(flop / PEAK, rel=1e-3)
    assert with_windows["mfu_causal"] < 1


def test_no_device_has_less_than_a_head_of_keys_and_values() -> None:
    model = models.load("llama-3-70b")  # 64 heads, 8 of keys and values
    eight, sixteen = (light(model, TrainPlan(tp=tp)).summary["mem_weight_byte"] for tp in (8, 16))
    norms = 80 * 4 * 8192 * 2  # as counted on every device: four vectors a layer
    repeated = 80 * 8192 * 2 * 128 * 2  # keys and values of one head, 80 layers: as much on a sixteenth as on an eighth
    assert sixteen - norms - repeated == pytest.approx((eight - norms - repeated) / 2)
