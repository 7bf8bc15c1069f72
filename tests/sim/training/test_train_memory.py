"""Memory of a training plan against hand arithmetic and published formulas."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kernels.errors import InputError
from kernels.train_plan import LAST, M_LOGIT, MEMORY, STACK_DTYPE, in_flight, plan_memory
from sim.training.estimate import rank_memory
from sim.training.price import byte_piece, logit_byte, plan_record
from workloads import models
from workloads.kept_activations import kept_byte, kept_tensors, passing_byte, work_byte
from workloads.models.tensors import num_param
from workloads.training import TrainPlan, check
from workloads.training_values import trained_layer

GPT = models.load("gpt3-175b")
BARE = np.zeros(1, STACK_DTYPE)[0]
BASE = TrainPlan(fused_norm=True)


def memory(plan: TrainPlan, model: Any = GPT) -> dict[str, float]:
    return dict(zip(MEMORY, rank_memory(model, plan, BARE).tolist(), strict=True))


@pytest.mark.parametrize(("attention", "per_score"), [("fused_softmax", 5), ("flash2", 0)])
@pytest.mark.parametrize("tp", [1, 8])
def test_activations_of_a_gpt_layer_are_those_of_the_published_formula(attention: str, per_score: int, tp: int) -> None:
    # Korthikanti et al. 2022: s b h (10 + 24 / t + 5 a s / (h t)) with tensor parallelism alone,
    # s b h (34 + 5 a s / h) / t with sequence parallelism too; flash keeps a 4-byte row sum a score row instead
    s, b, h, a = 2048, 2, 12288, 96
    for split, first in ((False, 10 + 24 / tp), (True, 34 / tp)):
        plan = replace(BASE, tp=tp, micro_batch=b, seq=s, sequence_parallel=split, attention=attention, dropout=True)
        kept = kept_byte(h, GPT.block[0], plan).kept
        scores = per_score * a * s * s * b / tp if per_score else 4 * s * b * a / tp
        assert kept == pytest.approx(s * b * h * first + scores)


def test_full_recomputation_keeps_a_layers_input() -> None:
    plan = replace(BASE, tp=8, sequence_parallel=True, recompute="full")
    assert kept_byte(GPT.hidden, GPT.block[0], plan).kept == 2048 * 12288 * 2 / 8


@pytest.mark.parametrize(("zero", "byte"), [(0, 16.0), (1, 4 + 12 / 64), (2, 2 + 14 / 64), (3, 16 / 64)])
def test_zero_stages_by_hand(zero: int, byte: float) -> None:
    # Rajbhandari et al. 2020, table 1: 2 + 2 + 12 bytes a parameter over 64 ranks: 120, 31.4, 16.6, 1.9 GB for 7.5 B
    m = memory(replace(BASE, dp=64, batch=64, zero=zero, grad_byte=2.0))
    assert m["weight"] + m["grad"] + m["optimizer"] == pytest.approx(byte * num_param(GPT), rel=1e-3)


@pytest.mark.parametrize(("name", "billion"), [("gpt3-175b", 175), ("deepseek-v2", 235.7), ("deepseek-v3", 671.0)])
def test_values_of_layers_and_ends_are_the_models(name: str, billion: float) -> None:
    model = models.load(name)
    piece = byte_piece(model, TrainPlan())
    value = float(piece["dense"][0] + piece["expert"][0]) * model.num_layer + piece["dense"][1]
    value += 0.0 if model.tied else float(piece["dense"][LAST])
    assert value == pytest.approx(num_param(model), rel=1e-3)
    assert value == pytest.approx(billion * 1e9, rel=0.01)


@pytest.mark.parametrize("more", [TrainPlan(tp=2), TrainPlan(pp=2), TrainPlan(dp=2)])
def test_more_devices_never_need_more_memory_each(more: TrainPlan) -> None:
    base = replace(BASE, batch=8, zero=1)
    assert memory(replace(base, tp=more.tp, pp=more.pp, dp=more.dp))["total"] <= memory(base)["total"]


def test_no_device_has_less_than_a_head_of_keys_and_values() -> None:
    model = models.load("llama-3-70b")  # 64 heads, 8 of keys and values
    eight, sixteen = (memory(replace(BASE, tp=tp), model)["weight"] for tp in (8, 16))
    norms = (80 * 2 + 1) * 8192 * 2  # on every device
    repeated = 80 * 8192 * 2 * 128 * 2  # keys and values of one head, 80 layers: as much on a sixteenth as on an eighth
    assert sixteen - norms - repeated == pytest.approx((eight - norms - repeated) / 2, rel=1e-3)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("gpipe", 32), ("1f1b", 8), ("zb-h1", 8), ("zb-h2", 15), ("zb-v", 8), ("breadth-first", 32)],
)
def test_microbatches_in_flight_on_the_first_rank(schedule: str, expected: int) -> None:
    assert in_flight(plan_record(GPT, TrainPlan(pp=8, batch=32, schedule=schedule)), 0.0) == expected


def test_activations_that_leave_cost_no_memory_but_two_layers_on_their_way() -> None:
    kept, gone = (memory(replace(BASE, tp=8, pp=8, batch=64, act_offload=share)) for share in (0.0, 1.0))
    layer = kept_byte(GPT.hidden, GPT.block[0], replace(BASE, tp=8)).kept
    assert gone["buffer"] - kept["buffer"] == pytest.approx(2 * layer)
    assert gone["activation"] == work_byte(GPT.hidden, GPT.block[0], replace(BASE, tp=8))


def test_logits_in_parts_are_divided_by_them_and_leave_their_room() -> None:
    base = replace(BASE, tp=8, seq=8192, recompute="full")
    whole, parts = memory(base), memory(replace(base, logit_chunk=8))
    assert whole["logit"] == 8192 * GPT.vocab * 4 / 8 == 8 * parts["logit"]
    # the recomputed layer takes the room of the logits once they are gone: the larger of the two counts
    kept = kept_byte(GPT.hidden, GPT.block[0], base)
    layer, stored = kept.passing + work_byte(GPT.hidden, GPT.block[0], base), kept.kept * GPT.num_layer
    for row in (whole, parts):
        assert row["logit"] + row["activation"] == pytest.approx(stored + max(layer, row["logit"]))
    held = memory(replace(base, hold_logits=True))
    assert held["logit"] + held["activation"] == pytest.approx(stored + layer + held["logit"])


def test_a_chunked_backward_pass_never_holds_less_than_the_forward_pass() -> None:
    block, whole = GPT.block[0], kept_byte(GPT.hidden, GPT.block[0], replace(BASE, tp=8, seq=8192)).kept
    held = [
        passing_byte(GPT.hidden, block, replace(BASE, tp=8, seq=8192, recompute="full", backward_chunk=n), whole)
        for n in (1, 2, 4, 8192)
    ]
    assert held == sorted(held, reverse=True)
    assert held[0] == held[1] == whole  # two parts at once: halves save nothing
    # with one token at a time the forward pass is what is left: residual stream, normed input and both sides of the
    # activation function (a plain one: one up-projection)
    assert held[-1] == pytest.approx(8192 * 2 * (2 * GPT.hidden + 2 * block.ffn.inter / 8))


def test_all_tokens_of_a_split_part_are_there_while_it_runs_backward() -> None:
    plan = replace(BASE, tp=8, recompute="full")
    split, whole = (work_byte(GPT.hidden, GPT.block[0], replace(plan, sequence_parallel=on)) for on in (True, False))
    stream = 2048 * GPT.hidden * 2
    # gradients of the residual stream are an eighth; gathered input and its unscattered gradient are whole
    assert split - whole == pytest.approx((2 + 2 / 8 - 2) * stream)


def test_adapters_are_counted_by_hand_and_alone_have_gradients_and_states() -> None:
    full, lora = (memory(replace(BASE, lora_rank=rank)) for rank in (0, 16))
    h, layers = GPT.hidden, GPT.num_layer
    # query, key, value and output: h + h each; up and down: h + 4h each; rank 16
    adapter = layers * 16 * (4 * 2 * h + 2 * 5 * h)
    assert lora["grad"] == 4 * adapter
    assert lora["optimizer"] == 12 * adapter
    assert lora["weight"] - full["weight"] == pytest.approx(2 * adapter)
    assert lora["activation"] == full["activation"]  # inputs are kept for the adapters' gradients
    with pytest.raises(InputError, match="latent"):
        check(models.load("deepseek-v2-lite"), TrainPlan(lora_rank=8))


def test_experts_are_split_over_expert_ranks() -> None:
    mixtral = models.load("mixtral-8x7b")
    alone, spread = (trained_layer(mixtral, mixtral.block[0], TrainPlan(ep=n, dp=n, batch=8)) for n in (1, 8))
    assert spread[:2] == (alone[0], alone[1] / 8)


def test_latent_attention_keeps_every_head_and_the_latents() -> None:
    model = models.load("deepseek-v3")
    block, plan = model.block[0], TrainPlan(tp=8, seq=4096, fused_norm=True)
    a = block.attention
    mine = {one.name: one.byte for one in kept_tensors(model.hidden, block, plan) if one.part == "attention"}
    assert mine["query"] == mine["key"] == 4096 * a.num_head / 8 * a.head_dim * 2
    assert mine["value"] == mine["result of attention"] == 4096 * a.num_head / 8 * a.v_head_dim * 2
    # kept as they leave the projection, and normed
    assert mine["latents"] == 4096 * (2 * (a.q_rank + a.kv_rank) + a.rope_dim) * 2
    assert mine["row sums of attention"] == 4 * 4096 * a.num_head / 8


def test_the_result_of_attention_is_saved_twice_and_is_one_tensor() -> None:
    for name, twice in (("gpt3-13b", 1), ("llama-2-7b", 2)):  # a gated part's input is read by both projections
        model = models.load(name)
        kept = kept_tensors(model.hidden, model.block[0], replace(BASE, tp=4))
        up = [one for one in kept if one.name == "input of the up projections"]
        result = [one for one in kept if one.name == "result of attention"]
        assert result[0].num_saved - 1 + up[0].num_saved - 1 == twice


def test_gathered_logits_and_a_reserve_are_what_they_say() -> None:
    stack, plan = BARE.copy(), replace(BASE, tp=8, recompute="full")
    stack["reserve_byte"] = 3e9
    assert rank_memory(GPT, plan, stack)[-1] - memory(plan)["total"] == pytest.approx(3e9)
    out = np.zeros(len(MEMORY))
    gathered = replace(plan, gather_logits=True)
    plan_memory(plan_record(GPT, gathered), byte_piece(GPT, gathered), BARE, 0.0, out)
    assert out[M_LOGIT] == logit_byte(GPT, gathered) > logit_byte(GPT, plan)
