"""What differs from the plain architecture: experts, latent attention, parallel blocks, exchanges."""

import numpy as np
import pytest

from kernels import optable as op
from workloads import models, placement
from workloads.formats import parse
from workloads.lowering import Plan, lower_attention, lower_dense, lower_head, work_rows
from workloads.models import num_param, tensors

BF16 = parse("bf16")


def named(ops, name):
    found = ops[ops["name"] == name.encode()]
    assert len(found) == 1, name
    return found[0]


def total(ops, column):
    return float((ops[column] * ops["count"]).sum())


@pytest.mark.parametrize("name", models.names())
def test_a_large_step_reads_every_weight_once(name):
    """All but the embedding's rows (looked up), gpt-oss's attention sinks, Llamba's vectors of its recurrence, and a
    tied head (read as the head)."""
    model = models.load(name)
    place = placement.make(model)
    read = total(lower_dense(model, BF16, place, 0, 10**6), "weight_byte") + total(
        lower_head(model, BF16, place, 0, 1), "weight_byte"
    )
    read += total(lower_attention(model, BF16, place, 0, work_rows([9], [9]), "prefill"), "weight_byte")  # scans
    looked_up = sum(t.value for t in tensors(model) if t.name in ("embed", "position", "side_embed"))
    head = model.vocab * model.hidden if model.tied else 0
    sink = sum(b.attention.num_head * n for b, n in model.num_block().items() if b.attention.sink)
    if model.family == "llamba":
        sink += sum(b.extra_value * n for b, n in model.num_block().items())
    assert read == pytest.approx(2 * (num_param(model) - looked_up + head - sink), rel=1e-9)


@pytest.mark.parametrize(
    "name", ["falcon-7b", "palm-540b", "gemma-2-27b", "deepseek-v3", "mixtral-8x7b", "gpt-oss-20b"]
)
def test_two_flop_an_active_parameter_a_token(name):
    model = models.load(name)
    place = placement.make(model)
    flop = total(lower_dense(model, BF16, place, 0, 100), "flop") + total(
        lower_head(model, BF16, place, 0, 100), "flop"
    )
    used = models.num_active_param(model) - (0 if model.tied else model.vocab * model.hidden)
    assert flop == pytest.approx(2 * used * 100, rel=0.01)


def test_mixtral_experts_by_hand():
    mixtral = models.load("mixtral-8x7b")
    one = named(lower_dense(mixtral, BF16, placement.make(mixtral), 0, 100), "experts")
    assert (one["m"], one["k"], one["n"], one["num_expert"], one["topk"]) == (100, 4096, 14336, 8, 2)
    pair = 100 * 2
    assert one["flop"] == pair * (2 * 3 * 4096 * 14336 + 5 * 14336)  # gate, up, down; the activation
    awake = 8 * (1 - (1 - 2 / 8) ** 100)
    assert one["weight_byte"] == pytest.approx(awake * 3 * 4096 * 14336 * 2)
    # both grouped GEMMs, the activation between them, the weighted sum
    assert one["act_byte"] == pair * (4096 + 2 * 14336 + 14336 + 4096) * 2
    assert one["write_byte"] == pair * (2 * 14336 + 14336 + 4096) * 2 + 100 * 4096 * 2
    for kwargs in ({"tp": 4}, {"tp": 4, "ep": 2}, {"tp": 4, "ep": 4}):
        share = named(lower_dense(mixtral, BF16, placement.make(mixtral, **kwargs), 0, 100), "experts")
        assert share["m"] == 100  # every token of the group, whatever share of it is computed here
        assert share["tp"] * share["ep"] == 4
        assert 4 * share["flop"] == pytest.approx(one["flop"])
        assert 4 * share["weight_byte"] == pytest.approx(one["weight_byte"])


def test_one_token_wakes_topk_experts():
    mixtral = models.load("mixtral-8x7b")
    one = named(lower_dense(mixtral, BF16, placement.make(mixtral), 0, 1), "experts")
    assert one["weight_byte"] == pytest.approx(2 * 3 * 4096 * 14336 * 2)


def test_attention_groups_exchange_tokens_with_their_experts():
    v3 = models.load("deepseek-v3")
    place = placement.make(v3, tp=1, dp=32, ep=32)
    ops = lower_dense(v3, parse("fp8_block"), place, 0, 128)
    experts = named(ops, "experts")
    assert (experts["m"], experts["ep"], experts["tp"]) == (32 * 128, 32, 1)
    dispatch, combine = named(ops, "expert_dispatch"), named(ops, "expert_combine")
    assert dispatch["group_size"] == 32
    assert dispatch["group_node"] == 4
    # a token visits 6.5 of 32 devices for its 8 experts of 256; 8 bits and scales out, 16 bits back
    assert dispatch["link_byte"] / (128 * 7168 * (8 + 32 / 128) / 8) == pytest.approx(
        32 * (1 - (1 - 1 / 32) ** 8), rel=0.02
    )
    assert combine["link_byte"] / dispatch["link_byte"] == pytest.approx(16 / 8.25)
    assert not (ops["kind"] == op.ALL_REDUCE).any()  # no tensor parallelism, nothing to sum


def test_routing_limited_to_groups_limits_nodes():
    v3 = models.load("deepseek-v3")  # 4 of 8 groups a token
    for devices, limit in ((64, 4), (128, 8), (32, 0)):  # 8, 16 and 4 nodes
        place = placement.make(v3, tp=1, dp=devices, ep=devices)
        assert named(lower_dense(v3, parse("fp8_block"), place, 0, 128), "expert_dispatch")["window"] == limit
    free = models.load("qwen3-30b-a3b")
    place = placement.make(free, tp=1, dp=64, ep=64)
    assert named(lower_dense(free, BF16, place, 0, 128), "expert_dispatch")["window"] == 0


def test_experts_cut_inside_gather_and_scatter():
    mixtral = models.load("mixtral-8x7b")
    place = placement.make(mixtral, tp=2, attn_dp=2, ep=2)
    ops = lower_dense(mixtral, BF16, place, 0, 100)
    gather, scatter = named(ops, "expert_gather"), named(ops, "expert_scatter")
    assert gather["group_size"] == scatter["group_size"] == 4
    assert gather["link_byte"] == 200 * 4096 * 2  # all tokens of both groups arrive
    assert named(ops, "token_gather")["group_size"] == 2
    assert named(ops, "experts")["tp"] == 2


REPLICATED = (b"router", b"shared_gate", b"qkv_a_proj")  # whole on every device


@pytest.mark.parametrize(
    "name", ["gpt-oss-120b", "deepseek-v2", "grok-1", "llama-4-scout", "gemma-3-27b", "bloom-176b"]
)
@pytest.mark.parametrize("ep", [1, 4])
def test_shares_of_four_devices_add_up(name, ep):
    model = models.load(name)
    if ep > 1 and not any(block.ffn.num_expert for block in model.block):
        ep = 1
    work = work_rows([1, 1], [300, 5000])
    whole, share = placement.make(model), placement.make(model, tp=4, ep=ep)
    one, part = (lower_dense(model, BF16, place, 0, 33) for place in (whole, share))
    for kind in (op.GEMM, op.MOE, op.ACT):
        for column in ("flop", "weight_byte"):
            chosen = [
                ops[(ops["kind"] == kind) & ~np.isin(ops["name"], (*REPLICATED, b"router_topk"))] for ops in (one, part)
            ]
            assert 4 * total(chosen[1], column) == pytest.approx(
                total(chosen[0], column), rel=1e-3
            )  # biases replicated
    attend = [lower_attention(model, BF16, place, 0, work, "decode") for place in (whole, share)]
    assert 4 * total(attend[1], "flop") == total(attend[0], "flop")
    kv = 1 if model.block[0].attention.latent else 4
    assert kv * total(attend[1], "kv_byte") == total(attend[0], "kv_byte")


def test_plain_experts_are_written_as_gated_ones():
    glam = models.load("glam-143b")
    experts = named(lower_dense(glam, BF16, placement.make(glam), 0, 10), "experts")
    assert experts["flop"] == 10 * 2 * (2 * 2 * 4096 * 16384 + 5 * 16384)  # up and down
    assert 3 * experts["n"] == pytest.approx(2 * 16384, abs=1)


def test_narrow_experts_convert_before_they_travel():
    v3 = models.load("deepseek-v3")
    formats = parse("fp8_block")
    here = lower_dense(v3, formats, placement.make(v3, tp=8, ep=8), 0, 16)
    assert b"quant_experts" not in here["name"]  # inside the fused kernel
    apart = named(lower_dense(v3, formats, placement.make(v3, dp=8, ep=8), 0, 16), "quant_experts")
    assert apart["m"] == 16  # own tokens only


def test_latent_attention_by_hand():
    v3 = models.load("deepseek-v3")
    place = placement.make(v3, tp=8)
    work = work_rows([1], [1000])
    decode = lower_attention(v3, BF16, place, 0, work, "decode")[0]
    assert (decode["num_head"], decode["num_kv_head"], decode["head_dim"], decode["v_head_dim"]) == (16, 1, 576, 512)
    assert decode["kv_byte"] == 1000 * 576 * 2  # the latent once, on every device
    assert decode["flop"] == 2 * 1000 * 16 * (576 + 512)
    prefill = lower_attention(v3, BF16, place, 0, work_rows([10], [10]), "prefill")[0]
    assert (prefill["num_head"], prefill["num_kv_head"], prefill["head_dim"], prefill["v_head_dim"]) == (
        16,
        16,
        192,
        128,
    )
    dense = lower_dense(v3, BF16, place, 0, 4)
    ups = [dense[dense["name"] == name][0] for name in (b"k_up", b"v_up")]
    # absorbed projections cost what expanding the new tokens costs: 4 tokens by 512 x 16 x (128 + 128)
    assert sum(up["flop"] for up in ups) == 2 * 4 * 512 * 16 * (128 + 128)
    assert dense[dense["name"] == b"kv_write"][0]["write_byte"] == 4 * 576 * 2


def test_parallel_block_reduces_once():
    palm = models.load("palm-540b")
    ops = lower_dense(palm, BF16, placement.make(palm, tp=4), 0, 8)
    layer = ops[ops["count"] == 118]
    assert (layer["kind"] == op.ALL_REDUCE).sum() == 1
    assert (layer["kind"] == op.NORM).sum() == 1
    assert named(ops, "qkv_proj")["n"] == (48 // 4 + 2) * 256  # one key-value head, replicated
    llama = lower_dense(models.load("llama-2-7b"), BF16, placement.Placement(tp=4), 0, 8)
    assert (llama[llama["count"] == 32]["kind"] == op.ALL_REDUCE).sum() == 2


def test_windows_split_attention_but_not_projections():
    gemma = models.load("gemma-3-27b")
    place = placement.make(gemma)
    attend = lower_attention(gemma, BF16, place, 0, work_rows([1], [8000]), "decode")
    assert {(int(a["window"]), int(a["count"])) for a in attend} == {(1024, 52), (0, 10)}  # 62 layers, every sixth full
    assert named(lower_dense(gemma, BF16, place, 0, 1), "qkv_proj")["count"] == 62


def test_impossible_plans_are_refused():
    with pytest.raises(ValueError, match="sequence 1 of the plan"):
        Plan(np.array([1, 5]), np.array([1, 4]), np.zeros(2, bool), np.ones(2, bool))
    llama = models.load("llama-2-7b")
    for count in (-1, [3, 2**31]):
        with pytest.raises(ValueError, match="not a token count"):
            lower_dense(llama, BF16, placement.make(llama), 0, count)
