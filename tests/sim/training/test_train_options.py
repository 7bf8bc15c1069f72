"""Options of a training plan: each changes what it should, by hand arithmetic."""

from dataclasses import replace
from typing import Any

import pytest

from hw_models import catalog
from kernels.errors import InputError
from sim.cli import main
from sim.training.price import site
from sim.training.stack import load_stack
from sim.training.step import train
from workloads import models
from workloads.compression import NAMES, hook
from workloads.kept_activations import kept_byte
from workloads.models.tensors import num_param
from workloads.training import TrainPlan

GPT = models.load("gpt3-13b")
DDP = TrainPlan(tp=8, dp=4, batch=32, grad_byte=4.0, attention="flash2", fused_norm=True)
HOST = 32e9 / 2  # bytes a second, a direction: PCIe 4 x16, whose way up two devices of a switch share
MEM = 2.039e12  # of the device


def summary(plan: TrainPlan, model: str = "gpt3-13b", stack: str = "sol") -> dict[str, Any]:
    return train(model, "dgx_a100", plan, stack=stack).summary


def test_a_hook_sends_less_and_costs_passes() -> None:
    plain, half = summary(DDP), summary(replace(DDP, compression="fp16"))
    # half of the bytes; the latency of the same collective stays
    assert half["dp_s"] / plain["dp_s"] == pytest.approx(0.5, abs=0.02)
    # three passes over fp32 gradients (read 4, write 2; read 2, write 4)
    assert half["optimizer_s"] - plain["optimizer_s"] == pytest.approx(3 * 4 * num_param(GPT) / 8 / MEM, rel=0.03)


def test_what_everybody_gathers_grows_with_everybody() -> None:
    # top 1 % with places is 2 % of the bytes; gathered by n it is n times that against twice the bytes of an
    # all-reduce: 4 replicas gain 25 times, 128 replicas lose
    few, many = (
        summary(replace(DDP, dp=dp, batch=dp, compression="topk"))["dp_s"]
        / summary(replace(DDP, dp=dp, batch=dp))["dp_s"]
        for dp in (4, 128)
    )
    assert few == pytest.approx(0.02 * 4 / 2, rel=0.15)
    assert many == pytest.approx(0.02 * 128 / 2, rel=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_hooks_send_no_more_than_the_gradients(name: str) -> None:
    assert 0 < hook(name, 4096, 4.0).ratio <= 1


def test_a_slow_loader_is_the_step() -> None:
    # 8 sequences a replica of 1 GB each at 0.5 GB/s
    slow = summary(replace(DDP, sample_byte=1e9, loader_byte_per_s=0.5e9))
    assert slow["step_s"] == pytest.approx(16)
    assert slow["exposed_data_s"] == pytest.approx(16 - summary(DDP)["step_s"])
    assert summary(replace(DDP, sample_byte=1e6))["step_s"] == summary(DDP)["step_s"]  # under the step before


def test_drives_are_slower_than_the_host_link_and_never_faster() -> None:
    base = replace(DDP, act_offload=1.0)
    host = summary(base)["step_s"]
    assert summary(replace(base, offload_write_byte_per_s=1e15, offload_read_byte_per_s=1e15))["step_s"] == host
    slow = summary(replace(base, offload_write_byte_per_s=1e9))["step_s"]
    layer = kept_byte(GPT.hidden, GPT.block[0], base).kept
    assert slow >= 8 * 40 * layer / 1e9  # 8 microbatches, 40 layers, out at 1 GB/s
    assert slow > host


def test_states_and_weights_in_host_memory() -> None:
    plain, away = summary(DDP), summary(replace(DDP, weight_offload=1.0, optimizer_offload=0.5))
    assert away["mem_weight_byte"] == 0
    assert away["mem_optimizer_byte"] == pytest.approx(plain["mem_optimizer_byte"] / 2)
    # half of twelve bytes a value come and go at once
    assert away["optimizer_s"] == pytest.approx(6 * num_param(GPT) / 8 / HOST, rel=0.05)
    assert away["step_s"] > plain["step_s"]


def test_states_that_the_host_updates_send_gradients_and_fetch_weights() -> None:
    system = catalog.system("dgx_a100", 32)
    found = summary(replace(DDP, optimizer_offload=1.0, host_update=True))
    value, host = num_param(GPT) / 8, system.node.host_mem_byte_per_s / 8
    # 4 bytes of gradient out and 2 of weight back; 12 of states read and written, gradient read and weight written
    assert found["optimizer_s"] == pytest.approx(value * ((4 + 2) / HOST + (2 * 12 + 4 + 2) / host), rel=0.03)
    half = summary(replace(DDP, optimizer_offload=0.5, host_update=True))
    assert half["optimizer_s"] == pytest.approx(found["optimizer_s"] / 2, rel=0.03)  # the device's half is done sooner
    assert found["mem_optimizer_byte"] == 0


def test_the_balancing_loss_of_the_whole_batch_is_an_all_reduce_of_a_number_an_expert() -> None:
    base = TrainPlan(tp=1, dp=8, ep=8, batch=8, seq=1024, attention="flash2", fused_norm=True)
    plain, wide = (
        train("mixtral-8x7b", "dgx_a100", replace(base, global_balance=on), stack="megatron-core")
        for on in (False, True)
    )
    # 32 layers, one microbatch: 8 floats among 8 devices, latency alone
    extra = (wide.stage["ep_s"] - plain.stage["ep_s"]).sum()
    assert 32 * 5e-6 < extra < 32 * 100e-6


def test_gradients_that_are_added_apart_are_read_and_written_once_more() -> None:
    # 16-bit gradients are written, then read and added to those of 32 bits: 2 + 2 + 4 + 4 bytes for 4 + 4
    base = replace(DDP, dp=1, batch=8)
    fused, apart = (summary(replace(base, fused_accumulation=on), stack="sol") for on in (True, False))
    value = (num_param(GPT) - GPT.vocab * GPT.hidden - 2048 * GPT.hidden) / 8
    longest = 8 * value * (2 + 4 + 4) / MEM
    # where products are bound by the cores their own writes cost nothing
    assert 0.9 * longest < apart["step_s"] - fused["step_s"] < 1.1 * longest
    assert summary(replace(DDP, zero=2))["step_s"] == summary(replace(DDP, zero=2, fused_accumulation=False))["step_s"]


def test_stages_that_wait_for_their_transfers_wait_for_each() -> None:
    base = TrainPlan(8, 8, batch=64, attention="flash2", fused_norm=True, schedule="gpipe")
    beside, waiting = (summary(replace(base, blocking_hop=on)) for on in (False, True))
    # (m + p - 1)(F + B) with a hop in either pass
    assert waiting["pipeline_s"] - beside["pipeline_s"] == pytest.approx(2 * (64 + 7) * beside["hop_s"], rel=1e-6)


def test_half_a_batch_hides_the_others_communication() -> None:
    base = TrainPlan(8, 8, 1, batch=64, attention="flash2", fused_norm=True)
    exposed, half, hidden = (
        summary(replace(base, tp_overlap=share), stack="megatron-2022") for share in (0.0, 0.5, 1.0)
    )
    assert half["exposed_tp_s"] == pytest.approx(exposed["exposed_tp_s"] / 2, rel=0.05)  # the ends hide nothing
    assert hidden["step_s"] < half["step_s"] < exposed["step_s"]


def test_a_frozen_model_saves_a_third_of_the_matrix_products() -> None:
    full, lora = (
        summary(TrainPlan(8, batch=64, lora_rank=rank, attention="flash2", fused_norm=True))["step_s"]
        for rank in (0, 16)
    )
    # forward, input gradients and weight gradients are three equal products, of which one goes; attention and passes
    # over memory stay
    assert full * 2 / 3 < lora < full


def test_narrow_products_leave_attention_and_the_head_in_16_bits() -> None:
    plan = TrainPlan(8, 8, batch=64, seq=8192, attention="flash3", fused_norm=True)
    wide, narrow = (train(GPT, "dgx_h100", plan, stack="sol", number_format=name).stage for name in ("bf16", "fp8"))
    saved = (wide - narrow)[["forward_s", "input_grad_s", "weight_grad_s"]].to_numpy()
    # three equal products, less what narrowing costs before two of them; the head does not change
    assert (saved[1] > 0).all()
    assert saved[1, :2].max() < saved[1, 2]
    assert saved[-1] == pytest.approx(saved[1], rel=1e-6)
    assert 1.5 < wide["weight_grad_s"][1] / narrow["weight_grad_s"][1] < 2  # gradients of 32 bits take as long


@pytest.mark.parametrize(
    ("change", "field"),
    [({"compression": "fp61"}, "compression"), ({"compression": "topk", "zero": 1}, "compression"),
     ({"compression": "powersgd", "compression_rank": 0}, "compression_rank"), ({"sample_byte": -1.0}, "sample_byte"),
     ({"weight_offload": 1.5}, "weight_offload"), ({"global_balance": True}, "global_balance"),
     ({"ep": 2}, "no experts"), ({"skew": 0.5}, "no experts"), ({"skew": -2.0}, "skew"),
     ({"act_byte": -1.0}, "act_byte"), ({"weight_byte": float("nan")}, "weight_byte"),
     ({"grad_byte": 0.0}, "grad_byte"), ({"gather_limit": -1}, "gather_limit"),
     ({"dp_traffic": "shceduled"}, "dp_traffic"), ({"keep_gathered": True, "zero": 1}, "keep_gathered")],
)  # fmt: skip
def test_bad_options(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError, match=field):
        summary(replace(DDP, **change))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("--gather-limit 1", "gather_limit = 1: has no effect: needs ZeRO 3"),
        ("--compression-rank 16", "needs compression = powersgd"),
        ("--ulysses", "needs cp > 1"),
        ("--blocking-hop", "needs pp > 1"),
        ("--host-update", "needs optimizer_offload > 0"),
        ("--zero 2 --dp 2 --no-fused-accumulation", "needs ZeRO 0 or 1"),
        ("--offload-read-byte-per-s 1e9", "needs act_offload > 0"),
        ("--loader-byte-per-s 1e6", "needs sample_byte > 0"),
        ("--tp 2 --pp 2 --sequence-parallel --whole-hop", "no sequence_parallel"),
        ("--oversubscription 4", "needs fidelity = replay"),
        ("--tp 0", "tp = 0: too small"),
        ("--pp 32 --schedule zb-v", "zb-v makes 64 stages of 40 layers; allowed: <= 20"),  # two chunks a rank
    ],
)
def test_an_option_that_can_change_nothing_is_refused(
    given: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(f"train --model gpt3-13b --system dgx_a100 --batch 8 {given}".split()) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("seq", [2048, 65_536])
def test_no_plan_is_faster_than_light(seq: int) -> None:
    found = train("llama-3-8b", "dgx_h100", TrainPlan(batch=2, seq=seq, fused_norm=True), stack="sol").summary
    assert 0.5 < found["mfu_causal"] < 1  # the mask halves what attention computes
    assert found["mfu"] > found["mfu_causal"]  # published figures count what the mask hides


def test_sliding_windows_skip_scores() -> None:
    seq, model = 32_768, models.load("gemma-3-27b")  # windows of 1,024 in five of six layers
    wide = replace(model, block=tuple(
        replace(block, attention=replace(block.attention, window=0)) for block in model.block))  # fmt: skip
    plan = TrainPlan(seq=seq, attention="flash3")
    with_windows, without = (train(spec, "dgx_h100", plan, stack="sol").summary for spec in (model, wide))
    attentions = [model.block[i].attention for i in model.layer]
    # two products forward and five backward of the scores that a window leaves out
    left_out = sum((seq - a.window) ** 2 / 2 for a in attentions if a.window)
    flop = 7 * attentions[0].num_head * 2 * attentions[0].head_dim * left_out
    peak = site(catalog.system("dgx_h100"), load_stack("sol")).peak_flop_per_s
    assert without["step_s"] - with_windows["step_s"] == pytest.approx(flop / peak, rel=0.01)
    assert with_windows["mfu_causal"] < 1


def test_a_ring_of_plain_attention_does_its_own_rows_of_every_score() -> None:
    from kernels import optable as op
    from workloads.training_layers import lower_layer

    plan = TrainPlan(seq=8192, cp=4, attention="unfused", fused_norm=True)
    alone, ring, heads = (
        lower_layer(GPT, GPT.block[0], one).ops for one in (replace(plan, cp=1), plan, replace(plan, ulysses=True))
    )
    flop = [float(ops["flop"][ops["name"] == b"scores"].sum()) for ops in (alone, ring, heads)]
    assert flop[1] == flop[2] == flop[0] / 4
    link = ring[(ring["name"] == b"cp_keys") & (ring["kind"] == op.P2P)]
    assert link["link_byte"][0] == 3 * 2048 * 2 * GPT.hidden * 2


def test_a_prediction_head_is_a_layer_a_projection_and_a_loss_on_the_end() -> None:
    base = TrainPlan(8, 4, batch=16, attention="flash2", fused_norm=True)
    plain, heads = (train(GPT, "dgx_a100", replace(base, mtp=n), stack="sol") for n in (0, 2))
    assert heads.stage["layer"].tolist() == [10, 10, 10, 12]
    assert plain.stage["layer"].tolist() == [10] * 4
    # every stage but the last is as it was; the last does two layers and two heads more
    assert heads.stage["forward_s"][:3].tolist() == plain.stage["forward_s"][:3].tolist()
    layer = plain.stage["weight_grad_s"][1] / 10
    head = plain.stage["weight_grad_s"][3] - plain.stage["weight_grad_s"][1]
    join = 2 * 2048 * 2 * GPT.hidden**2 / 312e12
    more = heads.stage["weight_grad_s"][3] - plain.stage["weight_grad_s"][3]
    assert more == pytest.approx(2 * (layer + head + join), rel=0.02)
    value = 2 * (num_param(GPT) - (GPT.vocab + 2048) * GPT.hidden) / 40 / 8 + 2 * 2 * GPT.hidden**2
    assert heads.memory["weight"][3] - plain.memory["weight"][3] == pytest.approx(2 * value, rel=0.01)
    assert heads.memory["logit"][3] == 3 * plain.memory["logit"][3]
    with pytest.raises(InputError, match="mtp"):
        summary(replace(base, mtp=-1))
