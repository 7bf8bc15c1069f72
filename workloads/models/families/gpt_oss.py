"""gpt-oss (arXiv 2508.10925): layers with a window and full ones in turn, a learned sink a head, biases,
experts in every layer."""

from workloads.models.fields import Fields
from workloads.models.spec import Attention, Block, FeedForward, ModelSpec, pattern

MODEL_TYPES = ("gpt_oss",)


def read(fields: Fields, name: str) -> ModelSpec:
    num_layer = fields.size("num_hidden_layers", high=10_000)
    num_head, num_kv_head, dim = fields.heads(head_dim=64)
    num_expert = fields.size("num_local_experts", "num_experts")
    bias = fields.flag("attention_bias", default=True)
    ffn = FeedForward(
        0,
        bias=True,
        num_expert=num_expert,
        topk=fields.size("num_experts_per_tok", "experts_per_token", high=num_expert),
        expert_inter=fields.size("intermediate_size"),
        router_bias=num_expert,
    )
    kinds = fields.words("layer_types", ("full_attention", "sliding_attention"), num_layer) or [
        "full_attention" if i % 2 else "sliding_attention" for i in range(num_layer)
    ]
    window = fields.size("sliding_window", default=128)
    block, layer = pattern(
        [
            Block(
                Attention(
                    num_head,
                    num_kv_head,
                    dim,
                    dim,
                    window=window if kind == "sliding_attention" else 0,
                    rope_dim=dim,
                    qkv_bias=bias,
                    out_bias=bias,
                    sink=True,
                ),
                ffn,
            )
            for kind in kinds
        ]
    )
    return ModelSpec(
        name=name,
        family="gpt_oss",
        hidden=fields.size("hidden_size"),
        vocab=fields.size("vocab_size"),
        max_context=fields.size("max_position_embeddings", default=131_072),
        block=block,
        layer=layer,
        tied=fields.flag("tie_word_embeddings", default=False),
    )
