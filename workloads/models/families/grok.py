"""Grok-1: experts in every layer, gated, a norm before and after each part."""

from workloads.models.fields import Fields
from workloads.models.spec import Attention, Block, FeedForward, ModelSpec

MODEL_TYPES = ("grok-1", "grok_1", "grok1")


def read(fields: Fields, name: str) -> ModelSpec:
    num_head, num_kv_head, dim = fields.heads()
    num_expert = fields.size("num_experts", "num_local_experts")
    ffn = FeedForward(
        0,
        num_expert=num_expert,
        topk=fields.size("num_experts_per_tok", "num_selected_experts", high=num_expert),
        expert_inter=fields.size("intermediate_size"),
    )
    return ModelSpec(
        name=name,
        family="grok",
        hidden=fields.size("hidden_size"),
        vocab=fields.size("vocab_size"),
        max_context=fields.size("max_position_embeddings"),
        block=(Block(Attention(num_head, num_kv_head, dim, dim, rope_dim=dim), ffn, num_norm=4),),
        layer=(0,) * fields.size("num_hidden_layers", high=10_000),
        tied=fields.flag("tie_word_embeddings", default=True),
    )
