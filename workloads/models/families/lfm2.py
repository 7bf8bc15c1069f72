"""LFM2 (arXiv 2511.23404) and LFM3: gated short convolutions, grouped-query attention in the layers of `full_attn_idxs`
or `layer_types`; experts after the first dense layers in its MoE models. LFM3 has windows in some of the attention
layers, a gate a head and a norm after each part."""

from dataclasses import replace

from workloads.models.families._experts import expert_layers, has_experts, routed
from workloads.models.fields import Fields
from workloads.models.layers.short_conv import ShortConv
from workloads.models.spec import NO_ATTENTION, Attention, Block, FeedForward, ModelSpec, pattern

MODEL_TYPES = ("lfm2", "lfm2_moe", "lfm2_vl", "lfm3", "lfm3_vl")
KINDS = ("conv", "full_attention", "sliding_attention")


def read(fields: Fields, name: str) -> ModelSpec:
    num_layer = fields.size("num_hidden_layers", high=10_000)
    hidden = fields.size("hidden_size", "block_dim")
    num_head, num_kv_head, dim = fields.heads()
    gate = num_head if fields.flag("use_attention_gate", default=False) else 0
    full = Attention(num_head, num_kv_head, dim, dim, rope_dim=dim, qk_norm=2 * dim, gate=gate)
    windowed = replace(full, window=fields.size("sliding_window", default=0, low=0))
    norms = 4 if fields.flag("use_sandwich_norm", default=False) else 2
    conv = ShortConv(hidden, fields.size("conv_L_cache", default=3, high=1000), fields.flag("conv_bias", default=False))
    routes = expert_layers(fields, num_layer) if has_experts(fields) else [False] * num_layer
    plain = FeedForward(_inter(fields))
    own = {"conv": NO_ATTENTION, "full_attention": full, "sliding_attention": windowed}
    blocks = [
        Block(own[kind], routed(fields, router_bias=True) if routes[i] else plain, num_norm=norms,
              mixer=conv if kind == "conv" else None)
        for i, kind in enumerate(_kinds(fields, num_layer))
    ]  # fmt: skip
    block, layer = pattern(blocks)
    return ModelSpec(
        name=name,
        family="lfm2",
        hidden=hidden,
        vocab=fields.size("vocab_size"),
        max_context=fields.size("max_position_embeddings"),
        block=block,
        layer=layer,
        tied=fields.flag("tie_word_embeddings", "tie_embedding", default=True),
    )


def _kinds(fields: Fields, num_layer: int) -> list[str]:
    listed = fields.integers("full_attn_idxs")
    return fields.words("layer_types", KINDS, num_layer) or [
        "full_attention" if listed is None or i in listed else "conv" for i in range(num_layer)
    ]


def _inter(fields: Fields) -> int:
    """Feed-forward width: stated, cut to two thirds and rounded where the file says so."""
    inter = fields.size("intermediate_size", "block_ff_dim")
    if not fields.flag("block_auto_adjust_ff_dim", default=False):
        return inter
    inter = int(fields.number("block_ffn_dim_multiplier", default=1.0, low=0.01, high=100.0) * int(2 * inter / 3))
    multiple = fields.size("block_multiple_of", default=256)
    return -(-inter // multiple) * multiple
