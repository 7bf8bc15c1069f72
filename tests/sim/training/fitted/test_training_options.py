"""Options of a training plan: each changes what it should, by hand arithmetic."""

from dataclasses import replace
from typing import Any

import pytest

from kernels import training as t
from kernels.errors import InputError
from sim.cli import main
from sim.training.fitted.step import TrainResult, train
from workloads import models
from workloads.compression import NAMES, hook
from workloads.training import TrainPlan, model_vector, parameter_count, plan_vector

GPT = models.load("gpt3-13b")
DDP = TrainPlan(tp=8, dp=4, batch=32, grad_byte=4.0)
HOST = 32e9  # bytes a second of a device's PCIe 4 x16 link, a direction


def summary(plan: TrainPlan, model: str = "gpt3-13b") -> dict[str, Any]:
    return run(plan, model).summary


def run(plan: TrainPlan, model: str = "gpt3-13b") -> TrainResult:
    return train(model, "dgx_a100", plan, stack="megatron-a100")


def test_a_hook_sends_less_and_costs_passes() -> None:
    plain, half = summary(DDP), summary(replace(DDP, compression="fp16"))
    # half of the bytes; the latency of the same collective stays
    assert half["dp_s"] / plain["dp_s"] == pytest.approx(0.5, abs=0.01)
    value = parameter_count(GPT) / 8
    # three passes over fp32 gradients at 80 % of 2039 GB/s (read 4, write 2; read 2, write 4)
    assert half["optimizer_s"] - plain["optimizer_s"] == pytest.approx(3 * 4 * value / (0.8 * 2.039e12), rel=0.03)


def test_what_everybody_gathers_grows_with_everybody() -> None:
    # top 1 % with places is 2 % of the bytes; gathered by n it is n times that against twice the bytes of an
    # all-reduce: 4 replicas gain 25 times, 128 replicas lose
    few, many = (
        summary(replace(DDP, dp=dp, batch=dp, compression="topk"))["dp_s"]
        / summary(replace(DDP, dp=dp, batch=dp))["dp_s"]
        for dp in (4, 128)
    )
    assert few == pytest.approx(0.02 * 4 / 2, rel=0.15)
    assert many == pytest.approx(0.02 * 128 / 2, rel=0.05)


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
    layer = t.activation_byte(model_vector(GPT, 2048), plan_vector(base), t.np.array(t.IDEAL_FIT), False)
    assert slow >= 8 * 40 * layer / 1e9  # 8 microbatches, 40 layers, out at 1 GB/s
    assert slow > host


def test_states_and_weights_in_host_memory() -> None:
    plain, away = summary(DDP), summary(replace(DDP, weight_offload=1.0, optimizer_offload=0.5))
    assert away["mem_weight_byte"] == 0
    assert away["mem_optimizer_byte"] == pytest.approx(plain["mem_optimizer_byte"] / 2)
    # half of twelve bytes a value come and go at once
    moved = 6 * parameter_count(GPT) / 8
    assert away["optimizer_s"] == pytest.approx(moved / HOST, rel=0.05)
    assert away["step_s"] > plain["step_s"]


def test_the_balancing_loss_of_the_whole_batch_is_an_all_reduce_of_a_number_an_expert() -> None:
    base = TrainPlan(tp=1, dp=8, ep=8, batch=8, seq=1024)
    plain, wide = (summary(replace(base, global_balance=on), "mixtral-8x7b") for on in (False, True))
    # 32 layers, one microbatch: an all-reduce of 8 floats is two rings of 7 hops and two starts of 20 us
    extra = wide["exposed_ep_s"] - plain["exposed_ep_s"]
    assert 2 * 32 * 2 * 20e-6 < extra < 2 * 32 * 2 * 60e-6


@pytest.mark.parametrize(("name", "billion"), [("deepseek-v2", 235.7), ("deepseek-v3", 671.0)])
def test_latent_attention_has_its_parameters(name: str, billion: float) -> None:
    # DeepSeek's reports: 236 B and 671 B parameters
    assert parameter_count(models.load(name)) == pytest.approx(billion * 1e9, rel=0.01)


def test_latent_attention_trains() -> None:
    plan = TrainPlan(tp=8, pp=8, dp=16, ep=16, batch=256, zero=1, seq=4096)
    s = train("deepseek-v3", "dgx_h100", plan, stack="megatron-h100").summary
    assert 0.05 < s["mfu"] < 0.6
    model = models.load("deepseek-v3")
    vector, laid = model_vector(model, 4096), plan_vector(plan)
    a = model.block[0].attention
    # q, k, v and the output of every head, and the two latents and the rotary key
    kept = 4096 * 2 * (a.num_head * (2 * a.head_dim + 2 * a.v_head_dim) / 8 + a.q_rank + a.kv_rank + a.rope_dim)
    without = vector.copy()
    for part in (t.NUM_HEAD, t.NUM_KV_HEAD, t.KV_RANK):
        without[part] = 0
    fit = t.np.array(t.IDEAL_FIT)
    row_sum = 4 * 4096 * a.num_head / 8
    difference = t.activation_byte(vector, laid, fit, False) - t.activation_byte(without, laid, fit, False)
    assert difference == pytest.approx(kept + row_sum)


@pytest.mark.parametrize(
    ("change", "field"),
    [({"compression": "fp61"}, "compression"), ({"compression": "topk", "zero": 1}, "compression"),
     ({"compression": "powersgd", "compression_rank": 0}, "compression_rank"), ({"sample_byte": -1.0}, "sample_byte"),
     ({"weight_offload": 1.5}, "weight_offload"), ({"global_balance": True}, "global_balance"),
     ({"ep": 2}, "no experts"), ({"skew": 0.5}, "no experts"), ({"skew": -2.0}, "skew"),
     ({"act_byte": -1.0}, "act_byte"), ({"weight_byte": float("nan")}, "weight_byte"),
     ({"grad_byte": 0.0}, "grad_byte")],
)  # fmt: skip
def test_bad_options(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError, match=field):
        summary(replace(DDP, **change))


def test_the_stack_of_2021_adds_gradients_and_waits_for_transfers() -> None:
    # GPT-3 on 1,024 A100 (Megatron-LM's README of 2021: about 32 s): constants of 2022 give 27.6 s; adding gradients
    # apart is 192 microbatches x 1.36 G values x 10 bytes at 80 % of 2039 GB/s, and every one of 2 x 192 x 2 transfers
    # of 0.61 ms holds its stage
    plan = TrainPlan(8, 16, 8, batch=1536, interleave=2, recompute="full", attention="fused_softmax", dropout=True)
    new, old = (
        train("gpt3-175b", "dgx_a100", plan, stack=name).summary for name in ("megatron-a100", "megatron-a100-2021")
    )
    add = 192 * parameter_count(models.load("gpt3-175b")) / 128 * 10 / (0.8 * 2.039e12)
    wait = 2 * 192 * 2 * new["hop_s"]
    assert old["step_s"] - new["step_s"] == pytest.approx(add + wait, rel=0.1)
    assert old["step_s"] == pytest.approx(32, rel=0.08)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("--gather-limit 1", "gather_limit = 1: has no effect: needs ZeRO 3"),
        ("--compression-rank 16", "needs compression = powersgd"),
        ("--ulysses", "needs cp > 1"),
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
