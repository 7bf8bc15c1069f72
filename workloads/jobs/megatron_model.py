"""The model that arguments of Megatron-LM describe, with its defaults: a GPT of 2019 unless they say otherwise."""

import ast
import re
from typing import Any

from kernels.digits import whole
from workloads.jobs.job import Given
from workloads.models.spec import Attention, Block, FeedForward, ModelSpec

POSITIONS = {"learned_absolute": "learned", "rope": "rope", "yarn": "rope", "none": "none"}


def read_model(given: Given, tp: int) -> ModelSpec:
    """The shapes. The vocabulary is padded as the software pads it: to a multiple of 128 (or as told) x tp."""
    hidden, heads = given.whole("hidden-size", 0, "model"), given.whole("num-attention-heads", 0, "model")
    layers = given.whole("num-layers", 0, "model") or given.whole("encoder-num-layers", 0, "model")
    for name, value in (("num-layers", layers), ("hidden-size", hidden), ("num-attention-heads", heads)):
        if value < 1:
            given.refuse(name, "is missing")
    vocab = given.whole("padded-vocab-size", 0, "model")
    unit = given.whole("make-vocab-size-divisible-by", 128, "model") * tp
    if not vocab:
        vocab = -(-given.whole("vocab-size", 0, "model") // unit) * unit
    if not vocab:
        given.refuse("vocab-size", "is missing: tokenizers are not read")
    position = given.choice("position-embedding-type", "learned_absolute", POSITIONS, "model")
    if given.flag("use-rotary-position-embeddings", "model"):
        position = "rope"
    rows = given.whole("max-position-embeddings", given.whole("seq-length", 0), "model")
    rotary = given.number("rotary-percent", 1.0, "model") if position == "rope" else 0.0
    bias = not given.flag("disable-bias-linear", "model")
    gated = given.flag("swiglu", "model") or given.flag("quick-geglu", "model")
    given.flag("squared-relu", "model")
    norm = given.choice("normalization", "LayerNorm", {"LayerNorm": "layer", "RMSNorm": "rms"}, "model")
    inter = given.whole("ffn-hidden-size", _wide(hidden, gated), "model")
    attention = _attention(given, hidden, heads, rotary, bias)
    dense = FeedForward(inter, gated, bias=bias)
    blocks, order = [Block(attention, dense)], [0] * layers
    if given.has("num-experts") and given.take("num-experts", None, "model") not in (None, "None"):
        expert = FeedForward(
            given.whole("moe-shared-expert-intermediate-size", 0, "model"), gated,
            num_expert=given.whole("num-experts"), topk=given.whole("moe-router-topk", 2, "model"),
            expert_inter=given.whole("moe-ffn-hidden-size", inter, "model"),
            shared_gate=given.flag("moe-shared-expert-gate", "model"),
            num_group=given.whole("moe-router-num-groups", 1, "model"),
            topk_group=max(1, given.whole("moe-router-group-topk", 1)),
        )  # fmt: skip
        pattern = expert_layers(given.take("moe-layer-freq", 1, "model"), layers, given)
        blocks.append(Block(attention, expert))
        order = pattern
    present = sorted(set(order))
    return ModelSpec(
        "megatron-job", "megatron", hidden, vocab, rows, tuple(blocks[i] for i in present),
        tuple(present.index(i) for i in order), norm=norm, norm_bias=norm == "layer",
        tied=not given.flag("untie-embeddings-and-output-weights", "model"), position=position,
        position_row=rows if position == "learned" else 0,
    )  # fmt: skip


def _wide(hidden: int, gated: bool) -> int:
    """Megatron-LM's default width of a feed-forward part."""
    return int(4 * hidden * 2 / 3 / 64) * 64 if gated else 4 * hidden


def _attention(given: Given, hidden: int, heads: int, rotary: float, bias: bool) -> Attention:
    width = given.whole("kv-channels", hidden // heads, "model")
    normed = given.flag("qk-layernorm", "model")
    if given.flag("multi-latent-attention", "model"):
        nope, rope = given.whole("qk-head-dim", 128, "model"), given.whole("qk-pos-emb-head-dim", 64, "model")
        q_rank, kv_rank = (given.whole(f"{name}-lora-rank", 512, "model") for name in ("q", "kv"))
        return Attention(heads, heads, nope + rope, given.whole("v-head-dim", 128, "model"), rope_dim=rope,
                         q_rank=q_rank, kv_rank=kv_rank)  # fmt: skip
    grouped = given.flag("group-query-attention", "model")
    groups = given.whole("num-query-groups", 1, "model") if grouped else heads
    window = str(given.take("window-size", "", "model")).replace(",", " ").strip("()").split()
    return Attention(
        heads, groups, width, width, window=int(window[0]) + 1 if window and int(window[0]) >= 0 else 0,
        rope_dim=int(width * rotary), qkv_bias=bias or given.flag("add-qkv-bias", "model"), out_bias=bias,
        qk_norm=2 * width if normed else 0,
    )  # fmt: skip


def expert_layers(pattern: Any, num_layer: int, given: Given) -> list[int]:
    """1 for each layer of experts: every so many layers, or a list of them, also as a product and sum of lists.

    >>> expert_layers("([0]*1+[1]*3)", 4, Given({}, "")), expert_layers(2, 4, Given({}, ""))
    ([0, 1, 1, 1], [1, 0, 1, 0])
    """
    text = str(pattern).strip()
    if (every := whole(text)) is not None:
        return [int(i % max(every, 1) == 0) for i in range(num_layer)]
    found: list[int] = []
    if not re.fullmatch(r"[\[\]()0-9,*+ ]+", text):
        given.refuse("moe-layer-freq", "not a pattern of layers")
    for part in text.strip("()").split("+"):
        body, _, times = part.strip().strip("()").partition("*")
        try:
            found += list(ast.literal_eval(body)) * int(times or 1)
        except (ValueError, SyntaxError, TypeError):
            given.refuse("moe-layer-freq", "not a pattern of layers")
    if len(found) != num_layer:
        given.refuse("moe-layer-freq", f"has {len(found)} layers of {num_layer}")
    return found
