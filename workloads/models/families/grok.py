"""Grok-1 and 2: experts in every layer, gated, a norm before and after each part; in Grok-2 beside a dense part
(`residual_moe`). Grok-2's file calls itself "git"."""

from workloads.models.fields import Fields
from workloads.models.spec import Attention, Block, FeedForward, ModelSpec

MODEL_TYPES = ("grok-1", "grok_1", "grok1", "grok-2", "grok2", "git")


def read(fields: Fields, name: str) -> ModelSpec:
    num_head, num_kv_head, dim = fields.heads()
    num_expert = fields.size("num_experts", "num_local_experts")
    beside = fields.flag("residual_moe", default=False)
    ffn = FeedForward(
        fields.size("intermediate_size") if beside else 0,
        num_expert=num_expert,
        topk=fields.size("num_experts_per_tok", "num_selected_experts", high=num_expert),
        expert_inter=fields.size("moe_intermediate_size", "intermediate_size"),
    )
    return ModelSpec(
        name=name,
        family="grok",
        hidden=fields.size("hidden_size"),
        vocab=fields.size("vocab_size"),
        max_context=fields.size("max_position_embeddings"),
        block=(Block(Attention(num_head, num_kv_head, dim, dim, rope_dim=dim), ffn, num_norm=4),),
        layer=(0,) * fields.size("num_hidden_layers", high=10_000),
        tied=fields.flag("tie_word_embeddings", default=not beside),
    )
