"""Latent attention with an indexer (as DeepSeek-V3.2) between residual streams that hyper-connections mix (as
DeepSeek-V4): Hunyuan 4, whose attention has a sink and a gate on its result, and GLM-5-Next, three of four layers of
which are Kimi's delta attention, and whose indexer scores `index_kpool` keys as one."""

from dataclasses import replace

from workloads.models.families._experts import DENSE, expert_layers, routed
from workloads.models.families.deepseek import sparse_attention
from workloads.models.families.llama import num_mtp
from workloads.models.fields import Fields
from workloads.models.layers.delta import Delta
from workloads.models.spec import NO_ATTENTION, Attention, Block, FeedForward, ModelSpec, pattern

MODEL_TYPES = ("hy_v4", "hy_v4_vl", "glm5_next")
LINEAR = "linear_attention"


def read(fields: Fields, name: str) -> ModelSpec:
    num_layer, hidden = fields.size("num_hidden_layers", high=10_000), fields.size("hidden_size")
    hunyuan = fields.word("model_type").startswith("hy")
    streams = fields.size("hc_mult", default=4, low=0, high=1000)
    # from all streams: how each enters a part and how its result enters each; GLM's mix with one another too
    mix = 2 * streams if hunyuan else streams * (2 + streams)
    connect = 2 * (mix * streams * hidden + mix + (2 if hunyuan else 3)) if streams else 0
    kinds = fields.words("layer_types", (LINEAR, "indexed_attention", "full_attention"), num_layer)
    kinds = kinds or ["indexed_attention"] * num_layer
    experts, plain = routed(fields, router_bias=True), FeedForward(fields.size(*DENSE))
    delta = _delta(fields) if LINEAR in kinds else None
    blocks = [
        Block(
            NO_ATTENTION if kinds[i] == LINEAR else _attention(fields, i, num_layer, hunyuan),
            experts if routes else plain,
            mixer=delta if kinds[i] == LINEAR else None,
            streams=streams,
            extra_value=connect,
        )
        for i, routes in enumerate(expert_layers(fields, num_layer))
    ]
    block, layer = pattern(blocks)
    return ModelSpec(
        name=name,
        family="hyper_sparse",
        hidden=hidden,
        vocab=fields.size("vocab_size"),
        max_context=fields.size("max_position_embeddings"),
        block=block,
        layer=layer,
        tied=fields.flag("tie_word_embeddings", default=False),
        extra_value=streams * streams * hidden if hunyuan else 0,
        mtp=(blocks[-1],) * num_mtp(fields),
    )


def _attention(fields: Fields, layer: int, num_layer: int, hunyuan: bool) -> Attention:
    whole = Fields({**fields.raw, "layer_types": None}, fields.file)
    attention = sparse_attention(whole, layer, num_layer, "full" if hunyuan else "")
    pool = fields.size("index_kpool", default=1)
    if attention.indexer is not None and pool > 1:  # a key of many tokens
        attention = replace(attention, indexer=replace(attention.indexer, key_byte=attention.indexer.key_byte / pool))
    return replace(attention, sink=hunyuan)


def _delta(fields: Fields) -> Delta:
    num_head = fields.size("linear_num_heads", high=10_000)
    dim = fields.size("linear_head_dim", default=128, high=10_000)
    return Delta(
        num_key_head=num_head,
        num_value_head=num_head,
        key_dim=dim,
        value_dim=dim,
        kernel=fields.size("linear_conv_kernel_dim", default=4, high=1000),
        state_byte=4.0,
        channel_decay=True,
        full_gate=False,
    )
