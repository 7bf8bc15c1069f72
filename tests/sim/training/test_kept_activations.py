"""What a training step keeps between forward and backward pass, and what letting go of it costs."""

from dataclasses import replace
from typing import Any

import pytest

from kernels.errors import InputError
from kernels.train_plan import BODY, LAST
from sim.training.price import logit_byte
from sim.training.stack import load_stack
from sim.training.step import train
from tests.sim.training.train_case import BASE, LLAMA, prices
from workloads.kept_activations import kept_byte, kept_tensors
from workloads.training import check


def test_logits_are_kept_in_four_bytes_by_a_fused_loss_and_in_ten_by_an_unfused_one() -> None:
    token = 4096 * LLAMA.vocab
    assert logit_byte(LLAMA, BASE) == 4 * token
    assert logit_byte(LLAMA, replace(BASE, fused_loss=False)) == 10 * token
    assert logit_byte(LLAMA, replace(BASE, tp=4)) == token
    # gathered: the whole vocabulary on every rank
    assert logit_byte(LLAMA, replace(BASE, tp=4, gather_logits=True)) > 4 * token
    assert prices(LLAMA, BASE)[LAST]["kept_byte"] == 4 * token


def test_a_gated_part_keeps_four_wide_tensors_and_a_fused_one_three() -> None:
    def wide(fused: bool) -> float:
        kept = kept_tensors(LLAMA.hidden, LLAMA.block[0], replace(BASE, fused_norm=fused))
        return sum(tensor.byte for tensor in kept if "projection" in tensor.name or "gate" in tensor.name)

    token = 4096 * 2
    inputs = token * LLAMA.hidden  # of the up projections
    assert wide(False) - inputs == 4 * token * LLAMA.block[0].ffn.inter
    assert wide(True) - inputs == 3 * token * LLAMA.block[0].ffn.inter


def test_inputs_of_fp8_products_are_kept_at_a_byte() -> None:
    a, b = (kept_byte(LLAMA.hidden, LLAMA.block[0], BASE, precision).kept for precision in ("bf16", "fp8"))
    h, inter = LLAMA.hidden, LLAMA.block[0].ffn.inter
    # inputs of four projections; attention's own result stays in 16 bits beside its narrow copy
    assert a - b == 4096 * (h + h + inter) - 4096 * h


def test_recomputation_by_module_lets_go_of_what_the_module_makes() -> None:
    def kept(what: str) -> float:
        return kept_byte(LLAMA.hidden, LLAMA.block[0], replace(BASE, recompute=what)).kept

    token, h, inter = 4096 * 2, LLAMA.hidden, LLAMA.block[0].ffn.inter
    assert kept("none") - kept("norm") == 2 * token * h
    assert kept("none") - kept("activation") == token * inter
    assert kept("full") == token * h
    assert kept("none") > kept("norm+activation") > kept("norm+activation+mlp") > kept("full")
    with pytest.raises(InputError, match="recompute"):
        check(LLAMA, replace(BASE, recompute="softmax"))


def test_selective_recomputation_under_flash_attention_repeats_the_kernel() -> None:
    none, selective = (prices(LLAMA, replace(BASE, recompute=what))[BODY] for what in ("none", "selective"))
    assert none["recompute_s"] == 0
    assert 0 < selective["recompute_s"] < selective["forward_s"]
    assert none["kept_byte"] - selective["kept_byte"] == 4 * 4096 * 32  # row sums, the only thing it lets go


def test_a_policy_for_a_kept_activation() -> None:
    token, h = 4096 * 2, LLAMA.hidden
    name, inter = "input of the down projection", LLAMA.block[0].ffn.inter
    base = train(LLAMA, "dgx_h100", BASE)

    def with_policy(*policy: tuple[str, str, float]) -> Any:
        return train(LLAMA, "dgx_h100", replace(BASE, policy=policy))

    actions = (("shrink", 0.5), ("skip", 1.0), ("offload", 1.0))
    shrunk, gone, away = (with_policy((name, action, share)) for action, share in actions)
    saved = [base.memory["activation"][0] - found.memory["activation"][0] for found in (shrunk, gone, away)]
    assert saved == pytest.approx([token * inter * 32 * share for share in (0.5, 1, 1)], rel=0.01)
    # 59 MB a layer each way over 63 GB/s is longer than a layer's forward pass alone takes
    assert away.summary["step_s"] >= base.summary["step_s"] == shrunk.summary["step_s"]
    both = with_policy((name, "offload", 1.0), ("input of the first norm", "offload", 0.5))
    assert both.memory["buffer"][0] - base.memory["buffer"][0] == 2 * (token * inter + token * h / 2)
    for policy in (("no such tensor", "skip", 1.0), (name, "forget", 1.0), (name, "skip", 2.0),
                   ("input of the first norm", "recompute", 1.0), ("query", "sample", 0.5)):  # fmt: skip
        with pytest.raises(InputError):
            with_policy(policy)


def test_a_tensor_that_is_recomputed_costs_the_operators_that_make_it() -> None:
    def prices_of(*policy: tuple[str, str, float], recompute: str = "none") -> Any:
        return prices(LLAMA, replace(BASE, policy=policy, recompute=recompute))[BODY]

    plain, h, inter = prices_of(), LLAMA.hidden, LLAMA.block[0].ffn.inter
    wide, token = ("input of the down projection", "recompute", 1.0), 4096 * 2
    # one tensor of a module is what the module lets go: the same bytes and the same time
    single, module = prices_of(wide), prices_of(recompute="activation")
    assert (single["kept_byte"], single["recompute_s"]) == (module["kept_byte"], module["recompute_s"])
    assert prices_of(wide, recompute="activation")["recompute_s"] == module["recompute_s"]  # once is enough
    # a projection's results take its product again, half of them half of it
    half = prices_of(("results of the up projections", "recompute", 0.5))
    whole = prices_of(("results of the up projections", "recompute", 1.0))
    assert plain["kept_byte"] - whole["kept_byte"] == 2 * inter * token
    assert plain["kept_byte"] - half["kept_byte"] == inter * token
    assert half["recompute_s"] == pytest.approx(whole["recompute_s"] / 2)
    assert whole["recompute_s"] > 2 * 2 * 4096 * h * inter / 989.4e12
    # in parts, one after the other: as long, with less there at once
    parts = prices_of(("results of the up projections", "chunk", 0.25))
    assert parts["recompute_s"] == whole["recompute_s"]
    assert parts["passing_byte"] == whole["passing_byte"] / 4


def test_a_sampled_input_makes_the_weight_gradient_a_product_of_its_share() -> None:
    full, drawn = (
        prices(LLAMA, replace(BASE, policy=policy))[BODY]
        for policy in ((), (("input of the down projection", "sample", 0.25),))
    )
    byte, vector = 4096 * 2 * LLAMA.block[0].ffn.inter, load_stack("megatron-core").factor["vector"]
    assert full["kept_byte"] - drawn["kept_byte"] == 0.75 * byte
    assert drawn["forward_s"] - full["forward_s"] == pytest.approx(1.25 * byte / 3.352e12 * vector, rel=0.01)
    product = 2 * 4096 * LLAMA.hidden * LLAMA.block[0].ffn.inter / 989.4e12
    assert 0.75 * product < full["weight_grad_s"] - drawn["weight_grad_s"] < 2 * product
    assert full["input_grad_s"] == drawn["input_grad_s"]
