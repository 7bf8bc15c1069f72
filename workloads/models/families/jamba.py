"""Jamba (arXiv 2403.19887): Mamba-1 layers, attention without positions every `attn_layer_period`, experts every
`expert_layer_period`."""

from workloads.models.families._experts import expert_layers, routed
from workloads.models.families.qwen3_next import state_byte
from workloads.models.fields import Fields
from workloads.models.layers.mamba import Mamba1
from workloads.models.spec import NO_ATTENTION, Attention, Block, FeedForward, ModelSpec, pattern

MODEL_TYPES = ("jamba",)


def read(fields: Fields, name: str) -> ModelSpec:
    num_layer = fields.size("num_hidden_layers", high=10_000)
    hidden = fields.size("hidden_size")
    period, offset = fields.size("attn_layer_period", default=8), fields.size("attn_layer_offset", default=4, low=0)
    num_head, num_kv_head, dim = fields.heads()
    attention = Attention(num_head, num_kv_head, dim, dim)
    mamba = Mamba1(
        inner=fields.size("mamba_expand", default=2, high=1000) * hidden,
        state=fields.size("mamba_d_state", default=16, high=10_000),
        dt_rank=_rank(fields, hidden),
        kernel=fields.size("mamba_d_conv", default=4, high=1000),
        conv_bias=fields.flag("mamba_conv_bias", default=True),
        proj_bias=fields.flag("mamba_proj_bias", default=False),
        inner_norm=True,
        state_byte=state_byte(fields),
    )
    plain = FeedForward(fields.size("intermediate_size"))
    many = fields.size("num_experts", default=16) > 1
    experts = routed(fields) if many else plain
    blocks = [
        Block(
            attention if i % period == offset else NO_ATTENTION,
            experts if routes else plain,
            mixer=None if i % period == offset else mamba,
        )
        for i, routes in enumerate(expert_layers(fields, num_layer))
    ]
    block, layer = pattern(blocks)
    return ModelSpec(
        name=name,
        family="jamba",
        hidden=hidden,
        vocab=fields.size("vocab_size"),
        max_context=fields.size("max_position_embeddings", default=262_144),
        block=block,
        layer=layer,
        tied=fields.flag("tie_word_embeddings", default=False),
        position="none",
    )


def _rank(fields: Fields, hidden: int) -> int:
    """Rank of the step size's projection; "auto" is a sixteenth of the hidden width."""
    if fields.raw.get("mamba_dt_rank", "auto") == "auto":
        return -(-hidden // 16)
    return fields.size("mamba_dt_rank")
