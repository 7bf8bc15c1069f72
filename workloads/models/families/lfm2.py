"""LFM2 (arXiv 2511.23404): gated short convolutions, grouped-query attention in the layers of `full_attn_idxs` or
`layer_types`; experts after the first dense layers in its MoE models."""

from workloads.models.families._experts import expert_layers, has_experts, routed
from workloads.models.fields import Fields
from workloads.models.layers.short_conv import ShortConv
from workloads.models.spec import NO_ATTENTION, Attention, Block, FeedForward, ModelSpec, pattern

MODEL_TYPES = ("lfm2", "lfm2_moe", "lfm2_vl")


def read(fields: Fields, name: str) -> ModelSpec:
    num_layer = fields.size("num_hidden_layers", high=10_000)
    hidden = fields.size("hidden_size", "block_dim")
    num_head, num_kv_head, dim = fields.heads()
    attention = Attention(num_head, num_kv_head, dim, dim, rope_dim=dim, qk_norm=2 * dim)
    conv = ShortConv(hidden, fields.size("conv_L_cache", default=3, high=1000), fields.flag("conv_bias", default=False))
    kinds = fields.words("layer_types", ("conv", "full_attention"), num_layer)
    listed = fields.integers("full_attn_idxs")
    full = [kind == "full_attention" for kind in kinds] if kinds else [
        listed is None or i in listed for i in range(num_layer)
    ]  # fmt: skip
    routes = expert_layers(fields, num_layer) if has_experts(fields) else [False] * num_layer
    plain = FeedForward(_inter(fields))
    blocks = [
        Block(attention if full[i] else NO_ATTENTION, routed(fields, router_bias=True) if routes[i] else plain,
              mixer=None if full[i] else conv)
        for i in range(num_layer)
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


def _inter(fields: Fields) -> int:
    """Feed-forward width: stated, cut to two thirds and rounded where the file says so."""
    inter = fields.size("intermediate_size", "block_ff_dim")
    if not fields.flag("block_auto_adjust_ff_dim", default=False):
        return inter
    inter = int(fields.number("block_ffn_dim_multiplier", default=1.0, low=0.01, high=100.0) * int(2 * inter / 3))
    multiple = fields.size("block_multiple_of", default=256)
    return -(-inter // multiple) * multiple
