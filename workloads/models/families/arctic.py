"""Snowflake Arctic: grouped queries, a dense part of the hidden width beside experts in every layer (a norm each)."""

from workloads.models.families._experts import routed
from workloads.models.fields import Fields
from workloads.models.spec import Attention, Block, FeedForward, ModelSpec, pattern

MODEL_TYPES = ("arctic",)


def read(fields: Fields, name: str) -> ModelSpec:
    hidden, num_layer = fields.size("hidden_size"), fields.size("num_hidden_layers", high=10_000)
    num_head, num_kv_head, dim = fields.heads()
    attention = Attention(num_head, num_kv_head, dim, dim, rope_dim=dim)
    experts = routed(fields)
    beside = fields.flag("use_residual", "parallel_attn_mlp_res", default=True)
    every = fields.size("moe_layer_frequency", default=1)
    ffn = FeedForward(
        hidden if beside else 0, num_expert=experts.num_expert, topk=experts.topk, expert_inter=experts.expert_inter
    )
    plain = FeedForward(fields.size("intermediate_size"))
    block, layer = pattern(
        [
            Block(attention, plain if (i + 1) % every else ffn, extra_value=0 if (i + 1) % every else hidden * beside)
            for i in range(num_layer)
        ]
    )
    return ModelSpec(
        name=name,
        family="arctic",
        hidden=hidden,
        vocab=fields.size("vocab_size"),
        max_context=fields.size("max_position_embeddings"),
        block=block,
        layer=layer,
        tied=fields.flag("tie_word_embeddings", default=False),
    )
