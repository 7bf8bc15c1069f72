"""Experts in a training step: one law for rows, copies and bytes, and where they are sent."""

from dataclasses import replace

import pytest

from hw_models import catalog, device
from kernels import optable as op
from kernels.errors import InputError
from kernels.moe_load import local_load
from kernels.train_plan import BODY
from sim.training.price import layer_seconds, site
from sim.training.stack import load_stack
from sim.training.step import train
from tests.sim.training.train_case import BASE, DEEPSEEK, LLAMA, MIXTRAL, prices
from workloads import models
from workloads.experts import distinct_node, distinct_rank
from workloads.models.tensors import num_param
from workloads.training import TrainPlan, check
from workloads.training_layers import lower_layer
from workloads.training_rows import FORWARD, INPUT_GRAD, group_shape


def test_zero_3_shares_experts_among_their_copies_alone() -> None:
    plan = replace(BASE, dp=16, ep=8, zero=3, batch=16)
    assert plan.expert_dp == 2
    memory = train(MIXTRAL, "dgx_h100", plan).memory.iloc[0]
    layer = prices(MIXTRAL, plan)[BODY]
    edge = MIXTRAL.vocab * MIXTRAL.hidden * 2
    share = (layer["dense"] * 32 + edge) / 16 + layer["expert"] * 32 / 2
    assert memory["weight"] == pytest.approx(plan.weight_byte * share)
    assert layer["expert"] * 8 * 32 == pytest.approx(num_param(MIXTRAL), rel=0.05)  # most of the model


def test_experts_across_tensor_parallel_groups() -> None:
    qwen = models.load("qwen3-235b-a22b")
    plan = TrainPlan(2, 8, 16, ep=32, batch=256, seq=4096, sequence_parallel=True, attention="flash3", fused_norm=True)
    check(qwen, plan)  # a published plan
    assert (plan.expert_tp, plan.expert_dp, group_shape(plan, "ep")) == (1, 1, (32, 1))
    assert replace(plan, ep=8).expert_tp == 2  # fits beside it
    layer = prices(qwen, plan)[BODY]
    assert layer["expert"] == 128 / 32 * 3 * qwen.hidden * 1536
    with pytest.raises(InputError, match="ep"):
        check(qwen, replace(plan, ep=64, dp=8))  # 16 ranks cannot hold 64


def test_one_law_for_rows_copies_and_bytes() -> None:
    plan = replace(BASE, dp=8, ep=8, batch=8)
    low = lower_layer(MIXTRAL, MIXTRAL.block[0], plan).ops
    up = low[(low["name"] == b"expert_up") & (low["phase"] == FORWARD)][0]
    assert up["m"] * up["batch"] == 4096 * 2  # every token's two choices, over as many devices as tokens come from
    sent = {b"alltoall": 2.0, b"deepep": distinct_rank(8, 2, 8)}
    for name, copies in sent.items():
        rows = lower_layer(MIXTRAL, MIXTRAL.block[0], replace(plan, dispatch=name.decode())).ops
        out = rows[(rows["name"] == b"ep_dispatch") & (rows["phase"] == FORWARD)][0]
        assert out["link_byte"] == pytest.approx(4096 * copies * MIXTRAL.hidden * 2)
    skewed = lower_layer(MIXTRAL, MIXTRAL.block[0], replace(plan, skew=0.5)).ops
    row = local_load(4096 * 8, 8, 2, 8, 0.5, 1.0)[0]  # as serving loads the fullest of eight devices
    assert row > 4096 * 2
    assert skewed[skewed["name"] == b"expert_up"][0]["m"] == round(row)


def moved(low: op.OpTable, name: bytes, phase: int) -> float:
    """Values of 16 bits that the rows of a name read and write."""
    mine = low[(low["name"] == name) & (low["phase"] == phase)]
    return float(op.mem_byte(mine).sum()) / 2


def test_rows_of_experts_are_laid_out_where_they_are() -> None:
    h, k = MIXTRAL.hidden, 2
    wide = replace(BASE, dp=4, ep=4, batch=4)  # two experts a device
    low = lower_layer(MIXTRAL, MIXTRAL.block[0], replace(wide, dispatch="alltoall")).ops
    for phase in (FORWARD, INPUT_GRAD):
        for name in (b"permute", b"unpermute"):  # a token once, its copies each
            assert moved(low, name, phase) == 4096 * h * (1 + k)
        for name in (b"sort", b"unsort"):  # copies from four devices, by local expert
            assert moved(low, name, phase) == 4096 * h * 2 * k
    one = lower_layer(MIXTRAL, MIXTRAL.block[0], replace(BASE, dp=8, ep=8, batch=8, dispatch="alltoall")).ops
    assert b"sort" not in one["name"].tolist()  # an expert a device
    deep = lower_layer(MIXTRAL, MIXTRAL.block[0], replace(wide, dispatch="deepep")).ops
    got = distinct_rank(8, k, 4)
    for name in (b"permute", b"unpermute"):
        assert moved(deep, name, FORWARD) == pytest.approx(4096 * h * (got + k))
    assert b"sort" not in deep["name"].tolist()


def test_tokens_that_are_sent_narrow_are_narrowed_once_before() -> None:
    plan = replace(BASE, dp=4, ep=4, batch=4, dispatch="deepep")
    wide, sent = (
        lower_layer(MIXTRAL, MIXTRAL.block[0], replace(plan, dispatch_byte=byte), "fp8").ops for byte in (0.0, 1.0)
    )
    forward = [[n for n, p in zip(low["name"].tolist(), low["phase"], strict=True) if p == FORWARD]
               for low in (wide, sent)]  # fmt: skip
    assert b"expert_up_quant" in forward[0]
    assert b"dispatch_quant" not in forward[0]
    assert b"expert_up_quant" not in forward[1]
    assert b"dispatch_quant" in forward[1]


def test_what_narrows_inputs_is_not_slowed_by_what_is_not_fused() -> None:
    system = catalog.system("dgx_h100", 8)
    stack = load_stack("llm-foundry")
    assert stack.factor["vector"] > 2
    where = site(system, stack, "flash2", "fp8")
    low, seconds = layer_seconds(LLAMA, LLAMA.block[0], BASE, where)
    cost = device.cost(low.ops, low.work, where.machine)["time_ps"] * 1e-12
    narrow = low.ops["kind"] == op.CONVERT
    assert narrow.any()
    assert seconds[narrow] == pytest.approx(cost[narrow])
    norm = low.ops["name"] == b"norm"
    assert seconds[norm] == pytest.approx(cost[norm] * stack.factor["vector"])


def test_routing_to_four_nodes_at_most_sends_a_byte_a_value() -> None:
    assert distinct_node(256, 8, 8) == pytest.approx(distinct_rank(256, 8, 8))
    assert 3 < distinct_node(256, 8, 8, 4) < 4 < distinct_node(256, 8, 8)
    plan = replace(BASE, dp=64, ep=64, batch=64, dispatch="deepep", node_limit=4, dispatch_byte=1.0)
    rows = lower_layer(DEEPSEEK, DEEPSEEK.block[-1], plan).ops
    there, back = (
        rows[(rows["name"] == name) & (rows["phase"] == FORWARD)][0] for name in (b"ep_dispatch", b"ep_combine")
    )
    assert there["link_byte"] == pytest.approx(4096 * distinct_node(256, 8, 8, 4) * DEEPSEEK.hidden)
    assert back["link_byte"] == 2 * there["link_byte"]


def test_deepseek_v3_on_2048_h800() -> None:
    # 2.788 M H800 hours, of which 2.664 M for 14.8 T tokens (DeepSeek-V3's report): 20.4 s a step of 15,360 sequences
    plan = TrainPlan(1, 16, 128, ep=64, batch=15_360, seq=4096, attention="flash3", zero=1, fused_norm=True,
                     dispatch="deepep", node_limit=4, dispatch_byte=1.0, ep_overlap=1.0, schedule="dualpipe",
                     recompute="norm+activation+mla_up_proj", mtp=1)  # fmt: skip
    found = train(DEEPSEEK, "hgx_h800", plan, stack="megatron-core", number_format="fp8_block").summary
    published = 2.664e6 * 3600 / 2048 / (14.8e12 / (15_360 * 4096))
    assert found["step_s"] == pytest.approx(published, rel=0.2)  # nothing was fitted on it
