"""phi-1, phi-1.5, phi-2: parallel block with one layer norm, biases everywhere (the head's too), rotary
positions on a part of each head."""

from workloads.models.fields import Fields
from workloads.models.spec import Attention, Block, FeedForward, ModelSpec

MODEL_TYPES = ("phi",)


def read(fields: Fields, name: str) -> ModelSpec:
    num_head, num_kv_head, dim = fields.heads()
    rope_dim = fields.rotary(dim, 0.5)
    block = Block(
        Attention(num_head, num_kv_head, dim, dim, rope_dim=rope_dim, qkv_bias=True, out_bias=True),
        FeedForward(fields.size("intermediate_size"), gated=False, bias=True),
        num_norm=1,
        parallel=True,
    )
    return ModelSpec(
        name=name,
        family="phi",
        hidden=fields.size("hidden_size"),
        vocab=fields.size("vocab_size"),
        max_context=fields.size("max_position_embeddings"),
        block=(block,),
        layer=(0,) * fields.size("num_hidden_layers", high=10_000),
        norm="layer",
        norm_bias=True,
        tied=fields.flag("tie_word_embeddings", default=False),
        head_bias=True,
    )
