"""PaLM (arXiv 2204.02311): parallel block, multi-query attention, SwiGLU, no biases, tied embedding.

There is no published `config.json`; the fields are those of the Llama family, `num_key_value_heads` 1 by default.
"""

from workloads.models.fields import Fields
from workloads.models.spec import Attention, Block, FeedForward, ModelSpec

MODEL_TYPES = ("palm",)


def read(fields: Fields, name: str) -> ModelSpec:
    num_head, num_kv_head, dim = fields.heads(num_kv_head=1)
    block = Block(
        Attention(num_head, num_kv_head, dim, dim, rope_dim=dim),
        FeedForward(fields.size("intermediate_size")),
        num_norm=1,
        parallel=True,
    )
    return ModelSpec(
        name=name,
        family="palm",
        hidden=fields.size("hidden_size"),
        vocab=fields.size("vocab_size"),
        max_context=fields.size("max_position_embeddings"),
        block=(block,),
        layer=(0,) * fields.size("num_hidden_layers", high=10_000),
        norm="layer",
        tied=fields.flag("tie_word_embeddings", default=True),
    )
