"""DeepSeek-V4: compressed attention (`workloads.models.layers.compressed`), experts in every layer, residual streams
that hyper-connections mix (`hc_mult` of them: two mixing maps a layer, one before the head)."""

from workloads.models.families._experts import routed
from workloads.models.families.llama import num_mtp
from workloads.models.fields import Fields
from workloads.models.layers.compressed import Compressed
from workloads.models.spec import NO_ATTENTION, Block, ModelSpec, pattern

MODEL_TYPES = ("deepseek_v4",)


def read(fields: Fields, name: str) -> ModelSpec:
    num_layer = fields.size("num_hidden_layers", high=10_000)
    hidden, streams = fields.size("hidden_size"), fields.size("hc_mult", default=0, low=0, high=1000)
    ratios = fields.per_layer("compress_ratios", num_layer) or _ratios(fields, num_layer)
    # from all streams: how each enters a part, how the part's result enters each, and how they mix
    mix = streams * (2 + streams)
    connect = 2 * (mix * streams * hidden + mix + 3) if streams else 0
    experts = routed(fields, router_bias=True)
    blocks = [
        Block(NO_ATTENTION, experts, mixer=_attention(fields, ratio), streams=streams, extra_value=connect)
        for ratio in ratios
    ]
    block, layer = pattern(blocks)
    return ModelSpec(
        name=name,
        family="deepseek_v4",
        hidden=hidden,
        vocab=fields.size("vocab_size"),
        max_context=fields.size("max_position_embeddings"),
        block=block,
        layer=layer,
        tied=fields.flag("tie_word_embeddings", default=False),
        extra_value=streams * streams * hidden,
        mtp=(blocks[-1],) * num_mtp(fields),
    )


KINDS = {"sliding_attention": 0, "compressed_sparse_attention": 4, "heavily_compressed_attention": 128}


def _ratios(fields: Fields, num_layer: int) -> list[int]:
    """Tokens of an entry in each layer, where the file names kinds of layers: `compress_rates` may say another number
    for a kind."""
    stated = fields.table("compress_rates")
    ratio = {kind: stated.size(kind, default=usual, low=0) for kind, usual in KINDS.items()}
    return [
        ratio[kind]
        for kind in fields.words("layer_types", tuple(KINDS), num_layer) or ["sliding_attention"] * num_layer
    ]


def _attention(fields: Fields, ratio: int) -> Compressed:
    index = ratio and ratio <= 4  # the light compression alone is searched
    return Compressed(
        num_head=fields.size("num_attention_heads", high=10_000),
        head_dim=fields.size("head_dim", high=10_000),
        q_rank=fields.size("q_lora_rank"),
        o_rank=fields.size("o_lora_rank"),
        o_group=fields.size("o_groups", high=10_000),
        window=fields.size("sliding_window"),
        ratio=ratio,
        rope_dim=fields.size("qk_rope_head_dim", default=64, high=10_000),
        index_head=fields.size("index_n_heads", high=10_000) if index else 0,
        index_dim=fields.size("index_head_dim", high=10_000) if index else 0,
        topk=fields.size("index_topk") if index else 0,
    )
