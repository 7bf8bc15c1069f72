"""A training step on operator rows: identities, hand arithmetic, what was wrong once."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hw_models import catalog, device
from hw_models.clock import lasting_clock, limited
from kernels import optable as op
from kernels.errors import InputError
from kernels.train_plan import BODY
from sim.training.price import plan_record, site
from sim.training.stack import load_stack, names, stack_record
from sim.training.stages import spread
from sim.training.step import train
from sim.training.traffic import units
from tests.sim.training.train_case import BASE, BIG, DEEPSEEK, GPT, LLAMA, prices
from workloads import models
from workloads.models.tensors import num_param
from workloads.training import TrainPlan, check
from workloads.training_flop import model_flop
from workloads.training_layers import lower_last, lower_layer
from workloads.training_rows import FORWARD, INPUT_GRAD, WEIGHT_GRAD


def test_a_layer_has_the_flops_of_its_products_three_times_and_of_its_scores_seven_halves() -> None:
    low = lower_layer(LLAMA, LLAMA.block[0], BASE).ops
    gemm = {phase: float(low["flop"][(low["kind"] == op.GEMM) & (low["phase"] == phase)].sum())
            for phase in (FORWARD, INPUT_GRAD, WEIGHT_GRAD)}  # fmt: skip
    h, inter = LLAMA.hidden, LLAMA.block[0].ffn.inter
    assert gemm[FORWARD] == 2 * 4096 * h * (h + 2 * 1024 + h + 3 * inter)
    assert gemm[INPUT_GRAD] == gemm[WEIGHT_GRAD] == gemm[FORWARD]
    scores = 4096 * 4097 / 2 * 32
    attend, back = (float(low["flop"][low["kind"] == kind].sum()) for kind in (op.ATTN_PREFILL, op.ATTN_BACKWARD))
    assert (attend, back) == (scores * 2 * 2 * 128, scores * 2 * 5 * 128)  # two products, five


@pytest.mark.parametrize("stack", names())
@pytest.mark.parametrize("system", ["dgx_h100", "dgx_a100", "hgx_b200", "mi300x", "rtx_4090"])
def test_no_stack_is_faster_than_light(stack: str, system: str) -> None:
    plan = replace(BASE, tp=2, dp=4, zero=1, batch=8)
    light, real = (prices(GPT, plan, system, name) for name in ("sol", stack))
    for name in ("forward_s", "input_grad_s", "weight_grad_s", "tp_s", "tp_back_s"):
        assert (real[name] >= light[name] * (1 - 1e-9)).all()
    record = stack_record(load_stack(stack), catalog.system(system, 8))
    assert record["compute"] >= 1
    assert record["vector"] >= 1
    assert 0 < record["clock"] <= 1
    where = site(catalog.system(system, 8), load_stack(stack), "flash2")
    low = lower_layer(GPT, GPT.block[0], plan)
    cost = device.cost(low.ops, low.work, where.machine)
    byte, flop = op.mem_byte(low.ops), low.ops["flop"]
    own = ~np.isin(low.ops["kind"], (op.ALL_REDUCE, op.ALL_GATHER, op.REDUCE_SCATTER))
    peak = where.machine.peak_flop_per_s[low.ops["fmt"]]
    multiply = own & np.isin(low.ops["kind"], (op.GEMM, op.ATTN_PREFILL, op.ATTN_BACKWARD))
    assert (cost["time_ps"][multiply] * 1e-12 >= flop[multiply] / peak[multiply] * (1 - 1e-6)).all()
    large = own & (byte > 1e9)  # what no cache holds
    assert (cost["time_ps"][large] * 1e-12 >= byte[large] / where.system.device.mem_byte_per_s * (1 - 1e-6)).all()


def test_an_unknown_kind_is_an_error_and_every_known_one_has_a_price() -> None:
    machine = device.machine(catalog.system("h100_sxm"), "calibrated")
    ops, work = op.empty(op.NUM_KIND, 1)
    ops["kind"], ops["fmt"], ops["kv_fmt"] = np.arange(op.NUM_KIND), 2, 2
    for name in ("m", "n", "k", "num_head", "num_kv_head", "head_dim", "v_head_dim", "num_expert", "topk"):
        ops[name] = 8
    ops["act_byte"] = ops["write_byte"] = ops["weight_byte"] = ops["flop"] = ops["link_byte"] = 1e6
    ops["group_size"], ops["work_stop"] = 2, 1
    work["query_len"] = work["kv_len"] = 128
    work["causal"] = 1
    assert (device.cost(ops, work, machine)["time_ps"] > 0).all()
    ops["kind"][3] = op.NUM_KIND
    with pytest.raises(InputError, match=f"kind = {op.NUM_KIND}"):
        device.cost(ops, work, machine)


def test_a_product_costs_the_same_whoever_asks() -> None:
    from workloads.formats import parse
    from workloads.lowering import lower_dense
    from workloads.placement import make

    served = lower_dense(LLAMA, parse("bf16"), make(LLAMA), 0, 4096)
    trained = lower_layer(LLAMA, LLAMA.block[0], BASE).ops
    machine = device.machine(catalog.system("h100_sxm"), "calibrated")
    where = site(catalog.system("h100_sxm"), load_stack("megatron-core"), "flash3")
    _, work = op.empty(0, 1)
    for ours, theirs in (
        ("qkv", b"qkv_proj"),
        ("attn_out", b"o_proj"),
        ("mlp_up", b"mlp_up"),
        ("mlp_down", b"mlp_down"),
    ):
        one = served[served["name"] == theirs][:1].copy()
        one["count"] = 1
        other = trained[(trained["name"] == ours.encode()) & (trained["phase"] == FORWARD)][:1]
        assert device.cost(one, work, machine)["time_ps"][0] == device.cost(other, work, where.machine)["time_ps"][0]


def test_layers_that_do_not_divide_are_not_rounded_up_in_every_chunk() -> None:
    # 126 layers on 16 ranks: 7 chunks of 1 or 2 layers, 4 chunks of 1 or 2; the work is the same
    assert sum(spread(126, 112, 16)) == sum(spread(126, 64, 16)) == 126
    ranks = [sum(spread(126, 112, 16)[rank::16]) for rank in range(16)]
    assert max(ranks) - min(ranks) <= 1
    plan = TrainPlan(8, 16, 2, batch=64, seq=8192, interleave=7, sequence_parallel=True, attention="flash3",
                     fused_norm=True, tp_overlap=0.7)  # fmt: skip
    seven, four = (train(BIG, "dgx_h100", replace(plan, interleave=v)) for v in (7, 4))
    assert seven.stage["layer"].sum() == four.stage["layer"].sum() == 126
    assert seven.stage["weight_grad_s"].sum() == pytest.approx(four.stage["weight_grad_s"].sum())
    assert seven.summary["step_s"] < 1.15 * four.summary["step_s"]


def test_embedding_and_head_may_be_chunks_of_their_own() -> None:
    # 126 layers in 128 slots, as Llama 3 405B was trained: the ends of the pipeline hold no layer
    plan = TrainPlan(8, 16, 2, batch=64, seq=8192, interleave=8, sequence_parallel=True, attention="flash3",
                     fused_norm=True, tp_overlap=0.7)  # fmt: skip
    found = train(BIG, "dgx_h100", plan)
    layers = found.stage["layer"].tolist()
    assert (layers[0], layers[-1], set(layers[1:-1])) == (0, 0, {1})
    assert found.summary["step_s"] < train(BIG, "dgx_h100", replace(plan, interleave=4)).summary["step_s"]
    with pytest.raises(InputError, match="more chunks"):
        check(BIG, replace(plan, interleave=9))


def test_an_explicit_layout_is_priced_as_it_is() -> None:
    # Llama 3's own: a layer less on the first and on the last stage, for the embedding and the head
    plan = replace(BASE, pp=4, batch=16, layout=(7, 9, 9, 7))
    found = train(LLAMA, "dgx_h100", plan)
    assert found.stage["layer"].tolist() == [7, 9, 9, 7]
    one = prices(LLAMA, plan)[BODY]["weight_grad_s"]
    assert found.stage["weight_grad_s"].to_numpy()[1:3] == pytest.approx(9 * one)
    even = train(LLAMA, "dgx_h100", replace(plan, layout=()))
    assert found.summary["pipeline_s"] != even.summary["pipeline_s"]
    for layout, match in (((8, 8, 8), "a number of layers"), ((8, 8, 8, 9), "add up")):
        with pytest.raises(InputError, match=match):
            check(LLAMA, replace(plan, layout=layout))


@pytest.mark.parametrize(("tied", "vocabularies"), [(True, 1), (False, 2)])
def test_the_vocabulary_is_in_gradients_and_update_as_often_as_it_is_there(tied: bool, vocabularies: int) -> None:
    model = replace(LLAMA, tied=tied)
    plan = replace(BASE, dp=4, zero=1)
    where = site(catalog.system("dgx_h100", 4), load_stack("sol"), "flash2")
    found = train(model, "dgx_h100", plan, stack="sol").summary
    value = prices(model, plan)[BODY]["dense"] * 32 + vocabularies * LLAMA.vocab * LLAMA.hidden
    # a quarter of the states is read and written; gradients are read twice and zeroed where they are whole
    byte = value / 4 * (2 * 12 + 4 + 2) + value * (4 + 4)
    assert found["optimizer_s"] == pytest.approx(byte / where.system.device.mem_byte_per_s, rel=1e-3)


def test_units_of_traffic_hold_the_ends() -> None:
    plan = replace(BASE, dp=4, zero=1)
    record = plan_record(LLAMA, plan)
    ends = np.zeros(1, prices(LLAMA, plan).dtype)
    ends["trained"] = 100.0
    one = units(record, prices(LLAMA, plan)[:1], ends)["reduce"][0][0]
    assert one.byte == (prices(LLAMA, plan)[BODY]["trained"] + 100) * plan.grad_byte


def test_one_head_a_device_is_not_the_latent() -> None:
    one, two = (lower_layer(DEEPSEEK, DEEPSEEK.block[0], replace(BASE, tp=tp, batch=1)) for tp in (128, 64))
    where = site(catalog.system("h100_sxm"), load_stack("sol"))
    # 4,096 keys of one head: 192 and 128 values of 2 bytes each, as many FLOPs as bytes are light
    attend = [low.ops[low.ops["kind"] == op.ATTN_PREFILL] for low in (one, two)]
    assert attend[1]["kv_byte"][0] == 2 * attend[0]["kv_byte"][0]
    times = [
        device.cost(ops, low.work, where.machine)["time_ps"][0] for ops, low in zip(attend, (one, two), strict=True)
    ]
    assert times[1] == pytest.approx(2 * times[0], rel=0.01)


@pytest.mark.parametrize("seq", [65_536, 262_144, 1_048_576])
@pytest.mark.parametrize("ulysses", [True, False])
def test_context_parallelism_divides_the_scores_at_any_length(seq: int, ulysses: bool) -> None:
    plan = replace(BASE, seq=seq, batch=1, cp=8, ulysses=ulysses)
    alone, shared = (
        lower_layer(LLAMA, LLAMA.block[0], replace(plan, cp=1, ulysses=False)),
        lower_layer(LLAMA, LLAMA.block[0], plan),
    )
    flop = [float(low.ops["flop"][low.ops["kind"] == op.ATTN_PREFILL].sum()) for low in (alone, shared)]
    assert flop[1] == pytest.approx(flop[0] / 8, rel=1e-3)
    link = shared.ops[np.char.startswith(shared.ops["name"], b"cp_")]
    keys = seq / 8 * 8 * 256 * 2  # of a rank: 8 heads of keys and values
    if ulysses:  # queries, keys, values and results change hands
        assert link["link_byte"][link["phase"] == FORWARD].sum() == pytest.approx(seq / 8 * (32 + 8) * 256 * 2)
    else:  # those of the seven others pass by; backward their gradients too
        assert link["link_byte"][link["phase"] == FORWARD].sum() == pytest.approx(7 * keys)
        assert link["link_byte"][link["phase"] == INPUT_GRAD].sum() == pytest.approx(14 * keys)


def test_a_ring_is_hidden_where_sequences_are_long() -> None:
    # sixteen ranks on two nodes: a hop of the ring leaves the node
    short, long = (prices(LLAMA, replace(BASE, seq=seq, batch=1, cp=16))[BODY] for seq in (8192, 1_048_576))
    assert long["cp_s"] == 0  # attention grows with the square
    assert short["cp_s"] > 0


def test_a_power_limit_lowers_the_clock_of_what_computes() -> None:
    h100 = catalog.device("h100_sxm")
    assert lasting_clock(limited(h100, 500)) == pytest.approx(((500 - 70) / (h100.boost_w - 70)) ** (1 / 3))
    full, capped = (train(LLAMA, "dgx_h100", BASE, power_limit_w=watt).summary["step_s"] for watt in (0.0, 500.0))
    # products and attention slow by the cube root of the power above idle, the rest does not
    assert full < capped < full * ((700 - 70) / (500 - 70)) ** (1 / 3)
    with pytest.raises(InputError, match="power_limit_W"):
        train(LLAMA, "dgx_h100", BASE, power_limit_w=30.0)


def test_a_machine_that_nobody_calibrated_says_so() -> None:
    said = {
        name: train(LLAMA, name, replace(BASE, dp=8, batch=8)).summary for name in ("mi300x", "tpu_v5e", "dgx_h100")
    }
    assert said["mi300x"]["calibrated_on"] == "h100_sxm"
    assert "inherited from h100_sxm" in said["mi300x"]["inherited"]
    assert "speed of light" in said["tpu_v5e"]["inherited"]
    assert "own calibration" in said["dgx_h100"]["inherited"]
    assert {row["stack"] for row in said.values()} == {"megatron-core"}  # today's software


def test_model_flops_are_six_a_parameter_and_attention() -> None:
    plan = replace(BASE, batch=1)
    dense = num_param(LLAMA) - LLAMA.vocab * LLAMA.hidden  # a token reads one row of the embedding
    scores = 12 * 32 * LLAMA.hidden * 4096
    assert model_flop(LLAMA, plan) == pytest.approx(4096 * (6 * dense + scores), rel=1e-3)
    assert model_flop(LLAMA, plan) - model_flop(LLAMA, plan, causal=True) == pytest.approx(4096 * scores / 2)


def test_the_loss_reads_and_writes_what_it_keeps() -> None:
    fused, eager = (lower_last(LLAMA, replace(BASE, fused_loss=on)).ops for on in (True, False))
    moved = [float(op.mem_byte(rows)[rows["kind"] == op.LOSS].sum()) for rows in (fused, eager)]
    assert moved[0] == 3 * 2 * 4096 * LLAMA.vocab  # read, read again, gradient written
    assert moved[1] > 4 * moved[0]


def test_an_optimizer_is_its_state_bytes_and_its_products() -> None:
    from workloads.optimizers import OPTIMIZERS, products

    adam, muon, rare = (
        train(GPT, "dgx_h100", replace(BASE, optimizer=name, optimizer_byte=OPTIMIZERS[name].state_byte, refresh=every),
              stack="sol")
        for name, every in (("adam", 1), ("muon", 1), ("muon", 4))
    )  # fmt: skip
    h = GPT.hidden
    flop = sum(5 * 2 * m * n * k for shape in ((3 * h, h), (h, h), (4 * h, h), (h, 4 * h))
               for m, n, k in products("muon", *shape)) * 40  # fmt: skip
    value = num_param(GPT)
    own = {name: found.summary["optimizer_s"] for name, found in (("adam", adam), ("muon", muon), ("rare", rare))}
    saved = value * 2 * 4 / 3.352e12  # a moment of 4 bytes less to read and write
    assert own["muon"] - own["adam"] == pytest.approx(flop / 989.4e12 - saved, rel=0.02)
    assert own["muon"] - own["rare"] == pytest.approx(0.75 * flop / 989.4e12, rel=0.01)
    assert adam.memory["optimizer"][0] / muon.memory["optimizer"][0] == pytest.approx(1.5)


def test_mfu_is_of_the_datasheet_whatever_the_limit() -> None:
    found = train(LLAMA, "dgx_h100", BASE, power_limit_w=500.0).summary
    assert found["mfu"] == pytest.approx(model_flop(LLAMA, BASE) / (found["step_s"] * 989.4e12))


CLOSED: list[tuple[str, dict[str, Any]]] = [
    ("gpt3-13b", {}), ("gpt3-13b", {"pp": 1, "dp": 16, "zero": 3}), ("gpt3-13b", {"pp": 1, "dp": 16, "zero": 0}),
    ("gpt3-13b", {"interleave": 5, "schedule": "interleaved-1f1b"}), ("gpt3-13b", {"schedule": "zb-h1"}),
    ("gpt3-13b", {"recompute": "full"}),
    ("llama-3.1-70b", {"tp": 4, "interleave": 5, "schedule": "interleaved-1f1b", "batch": 128}),
    ("llama-3.1-405b", {"pp": 16, "dp": 2, "interleave": 4, "schedule": "interleaved-1f1b"}),
    *[("llama-3.1-405b", {"pp": 16, "dp": 2, "interleave": v, "batch": batch, "schedule": "interleaved-1f1b"})
      for v in (3, 5, 7) for batch in (64, 256)],
]  # fmt: skip


@pytest.mark.parametrize(("name", "change"), CLOSED)
def test_the_closed_form_of_a_search_is_near_the_replay(name: str, change: dict[str, Any]) -> None:
    from sim.training.estimate import estimate

    plan = replace(BASE, tp=8, pp=4, dp=4, batch=64, zero=1, sequence_parallel=True)
    plan = replace(plan, **change)
    model = models.load(name)
    found = train(model, "dgx_h100", plan, stack="megatron-core").summary
    where = site(catalog.system("dgx_h100", plan.num_device), load_stack("megatron-core"), plan.attention)
    near = estimate(model, plan, where)
    assert near.step_s == pytest.approx(found["step_s"], rel=0.05)
    assert near.peak_byte == pytest.approx(found["memory_byte"], rel=0.05)


@pytest.mark.parametrize("schedule", ["zb-h1", "zb-h2"])
@pytest.mark.parametrize("num", [1, 2, 4, 8])
def test_a_schedule_fills_no_bubble_with_microbatches_that_it_has_not(schedule: str, num: int) -> None:
    from sim.training.estimate import estimate

    plan = replace(BASE, tp=8, pp=4, batch=num, seq=2048, schedule=schedule)
    found = train(GPT, "dgx_h100", plan, stack="megatron-core").summary
    where = site(catalog.system("dgx_h100", 32), load_stack("megatron-core"), plan.attention)
    near = estimate(GPT, plan, where)
    assert near.step_s == pytest.approx(found["step_s"], rel=0.12)  # passes are not equal
