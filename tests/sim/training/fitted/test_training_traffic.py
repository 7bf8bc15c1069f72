"""Data-parallel traffic in a training step: what is exposed, what memory the rate limiter costs, who gains by it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hw_models import catalog
from kernels import training as t
from kernels.errors import InputError
from kernels.training_step import RESULT, plan_step
from sim.training.fitted.stack import hardware_vector, load
from sim.training.fitted.step import train
from sim.training.fitted.traffic import transfer_byte
from workloads import models
from workloads.training import TrainPlan, check, model_vector, plan_vector

GPT = models.load("gpt3-13b")
FSDP = TrainPlan(dp=16, batch=32, micro_batch=1, zero=3, dp_traffic="scheduled")


def summary(plan: TrainPlan, stack: str = "megatron-a100") -> dict[str, Any]:
    return train(GPT, "dgx_a100", plan, stack=stack).summary


def closed(plan: TrainPlan) -> float:
    hw, fit = hardware_vector(catalog.system("dgx_a100", plan.num_device)), load("megatron-a100").fit
    out = np.zeros(len(RESULT))
    vector = model_vector(GPT, plan.seq, plan.dropout)
    return plan_step(vector, plan_vector(plan), hw, fit, np.zeros((4, len(t.STAGE))), out)


def test_the_rate_limiter_trades_memory_for_exposure() -> None:
    found = [summary(replace(FSDP, gather_limit=limit)) for limit in (1, 2, 4, 0)]
    exposed = [s["exposed_dp_s"] for s in found]
    held = [s["mem_buffer_byte"] for s in found]
    assert exposed[0] > exposed[1] >= exposed[2] >= exposed[3]
    layer = t.layer_value(model_vector(GPT, 2048), plan_vector(FSDP))[0] * 2
    # one, two, four or all 40 layers in bf16
    assert np.diff(held) == pytest.approx([layer, 2 * layer, 36 * layer])


def test_ddp_hides_its_reduction_under_the_last_backward_pass() -> None:
    ddp = replace(FSDP, zero=0, grad_byte=2.0)
    s = summary(ddp)
    # nothing is gathered; all layers but the one that ends last may be hidden, so no less than that is seen
    assert s["dp_s"] / GPT.num_layer <= s["exposed_dp_s"] * 1.2 < s["dp_s"]
    assert summary(replace(ddp, dp_traffic="fitted"))["exposed_dp_s"] == pytest.approx(s["dp_s"], rel=0.1)


@pytest.mark.parametrize(
    "change",
    [{}, {"gather_limit": 1}, {"zero": 0}, {"zero": 1}, {"zero": 2}, {"pp": 4, "dp": 4},
     {"pp": 4, "dp": 4, "keep_gathered": True},
     {"pp": 4, "dp": 4, "schedule": "breadth-first", "interleave": 5, "keep_gathered": True},
     {"pp": 4, "dp": 4, "schedule": "interleaved-1f1b", "interleave": 5, "keep_gathered": True},
     {"pp": 4, "dp": 4, "schedule": "breadth-first", "interleave": 5, "zero": 1}],
)  # fmt: skip
def test_the_closed_form_of_the_search_is_near(change: dict[str, Any]) -> None:
    plan = replace(FSDP, **change)
    assert closed(plan) == pytest.approx(summary(plan)["step_s"], rel=0.05)


def test_breadth_first_needs_less_traffic_than_depth_first() -> None:
    # FSDP over 8 replicas: a gather and a scatter a chunk and batch against one every operation (Lamy-Poirier 2023)
    base = TrainPlan(tp=2, pp=4, dp=8, batch=64, zero=3, interleave=5, dp_traffic="scheduled", keep_gathered=True)
    wide, deep = (summary(replace(base, schedule=name)) for name in ("breadth-first", "interleaved-1f1b"))
    assert wide["dp_s"] < deep["dp_s"] / 3
    assert wide["exposed_dp_s"] < deep["exposed_dp_s"] / 2
    # it holds a chunk of two layers and one more
    layer = t.layer_value(model_vector(GPT, 2048), plan_vector(base))[0] * 2
    plain = summary(replace(base, schedule="breadth-first", keep_gathered=False))
    assert wide["mem_buffer_byte"] - plain["mem_buffer_byte"] == pytest.approx(layer + 2 * layer * 2)


def test_an_overlapped_pair_gathers_the_layers_of_both() -> None:
    # DualPipe: two stages of 10 layers a rank; a pair needs 2 x 10 gathered, the rate limiter would let 2
    plan = TrainPlan(tp=2, pp=4, dp=4, batch=32, zero=3, dp_traffic="scheduled", schedule="dualpipe")
    few, all_of_them = (summary(replace(plan, gather_limit=limit)) for limit in (2, 20))
    assert few["step_s"] == all_of_them["step_s"]
    layer = t.layer_value(model_vector(GPT, 2048), plan_vector(plan))[0] * 2
    plain = summary(replace(plan, schedule="1f1b"))
    assert few["mem_buffer_byte"] - plain["mem_buffer_byte"] == pytest.approx(18 * layer)
    assert few["exposed_dp_s"] > 0


def test_one_replica_has_no_traffic() -> None:
    plan = TrainPlan(tp=8, batch=8, dp_traffic="scheduled")
    assert summary(plan)["exposed_dp_s"] == 0


@pytest.mark.parametrize(
    ("change", "field"),
    [({"gather_limit": -1}, "gather_limit"), ({"dp_traffic": "shceduled"}, "dp_traffic"),
     ({"keep_gathered": True, "zero": 1}, "keep_gathered")],
)  # fmt: skip
def test_bad_options(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError, match=field):
        summary(replace(FSDP, **change))


def test_adapters_alone_are_reduced_and_frozen_weights_still_gathered() -> None:
    model = models.load("llama-2-7b")
    vector = model_vector(model, 2048)
    for zero in (0, 2, 3):
        plan = plan_vector(TrainPlan(dp=4, batch=4, zero=zero, lora_rank=16))
        byte = transfer_byte(vector, plan, 1)
        h, inter = model.hidden, model.block[0].ffn.inter
        adapter = 16 * (4 * 2 * h + 3 * (h + inter))  # query, key, value, output; gate, up, down
        # gradients of 4 B (twice as many bytes where they are reduced to everybody), adapters of 2 B
        assert byte["reduce"][0][0][2] == (2 if zero == 0 else 1) * 4 * adapter
        gathered = byte["gather"][0][0][2] / 2
        assert gathered == adapter if zero < 3 else gathered > t.layer_value(vector, plan)[0]
    with pytest.raises(InputError, match="latent"):
        check(models.load("deepseek-v2-lite"), TrainPlan(lora_rank=8))
