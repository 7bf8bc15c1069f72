"""Llama 4: a shared expert beside routed ones every few layers, chunked attention with rotary positions in
most layers and full attention without positions in the rest.

Chunked attention (a query sees its own chunk of `attention_chunk_size` keys) is taken as a window of that size.
"""

from workloads.models.fields import Fields
from workloads.models.spec import Attention, Block, FeedForward, ModelSpec, pattern

MODEL_TYPES = ("llama4", "llama4_text")


def read(fields: Fields, name: str) -> ModelSpec:
    num_layer = fields.size("num_hidden_layers", high=10_000)
    block, layer = pattern([_block(fields, i) for i in range(num_layer)])
    return ModelSpec(
        name=name,
        family="llama4",
        hidden=fields.size("hidden_size"),
        vocab=fields.size("vocab_size"),
        max_context=fields.size("max_position_embeddings"),
        block=block,
        layer=layer,
        tied=fields.flag("tie_word_embeddings", default=False),
    )


def _block(fields: Fields, layer: int) -> Block:
    num_head, num_kv_head, head_dim = fields.heads()
    listed = fields.integers("no_rope_layers")  # one entry a layer, 1 where there is rotary, in spite of its name
    every = fields.size("no_rope_layer_interval", default=4)
    rotary = bool(listed[layer]) if listed and len(listed) > layer else (layer + 1) % every != 0
    attention = Attention(
        num_head,
        num_kv_head,
        head_dim,
        head_dim,
        window=fields.size("attention_chunk_size", default=8192) if rotary else 0,
        rope_dim=head_dim if rotary else 0,
    )
    routed = fields.integers("moe_layers")
    step = fields.size("interleave_moe_layer_step", default=1)
    if layer not in routed if routed else (layer + 1) % step:
        return Block(attention, FeedForward(fields.size("intermediate_size_mlp")))
    num_expert = fields.size("num_local_experts")
    inter = fields.size("intermediate_size")  # of the shared expert and of each routed one
    topk = fields.size("num_experts_per_tok", high=num_expert)
    return Block(attention, FeedForward(inter, num_expert=num_expert, topk=topk, expert_inter=inter))
