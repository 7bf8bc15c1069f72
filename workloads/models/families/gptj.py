"""GPT-J and CodeGen: parallel block with one layer norm, no biases in attention, rotary positions on a part of each
head, a head with a bias."""

from workloads.models.fields import Fields
from workloads.models.spec import Attention, Block, FeedForward, ModelSpec

MODEL_TYPES = ("gptj", "codegen")


def read(fields: Fields, name: str) -> ModelSpec:
    hidden = fields.size("n_embd", "hidden_size")
    num_head, num_kv_head, dim = fields.heads()
    attention = Attention(num_head, num_kv_head, dim, dim, rope_dim=fields.size("rotary_dim", default=dim, low=0))
    ffn = FeedForward(fields.size("n_inner", "intermediate_size", default=4 * hidden), gated=False, bias=True)
    return ModelSpec(
        name=name,
        family="gptj",
        hidden=hidden,
        vocab=fields.size("vocab_size"),
        max_context=fields.size("n_positions", "max_position_embeddings"),
        block=(Block(attention, ffn, num_norm=1, parallel=True),),
        layer=(0,) * fields.size("n_layer", "num_hidden_layers", high=10_000),
        norm="layer",
        norm_bias=True,
        tied=fields.flag("tie_word_embeddings", default=False),
        head_bias=True,
    )
