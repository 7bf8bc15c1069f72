"""Falcon: multi-query parallel block with one norm (7B), grouped queries with a norm a branch
(40B, 180B: `new_decoder_architecture`), or the sequential block with ALiBi (RW)."""

from workloads.models.fields import Fields
from workloads.models.spec import Attention, Block, FeedForward, ModelSpec

MODEL_TYPES = ("falcon", "RefinedWeb", "RefinedWebModel")


def read(fields: Fields, name: str) -> ModelSpec:
    grouped = fields.flag("new_decoder_architecture", default=fields.word("model_type") == "RefinedWeb")
    num_head = fields.size("num_attention_heads", "n_head", high=10_000)
    if grouped:
        num_kv_head = fields.size("num_kv_heads", "n_head_kv", default=num_head, high=num_head)
    else:
        num_kv_head = 1 if fields.flag("multi_query", default=True) else num_head
    fields.check_divides(num_kv_head, num_head, "num_kv_heads")
    hidden = fields.size("hidden_size")
    fields.check_divides(num_head, hidden, "num_attention_heads")
    bias = fields.flag("bias", default=False)
    alibi = fields.flag("alibi", default=False)
    parallel = grouped or fields.flag("parallel_attn", default=True)
    dim = hidden // num_head
    attention = Attention(num_head, num_kv_head, dim, dim, rope_dim=0 if alibi else dim, qkv_bias=bias, out_bias=bias)
    ffn = FeedForward(fields.size("ffn_hidden_size", default=4 * hidden), gated=False, bias=bias)
    num_norm = fields.size("num_ln_in_parallel_attn", default=2 if grouped else 1, high=2) if parallel else 2
    return ModelSpec(
        name=name,
        family="falcon",
        hidden=hidden,
        vocab=fields.size("vocab_size"),
        max_context=fields.size("max_position_embeddings", default=2048),
        block=(Block(attention, ffn, num_norm=num_norm, parallel=parallel),),
        layer=(0,) * fields.size("num_hidden_layers", "n_layer", high=10_000),
        norm="layer",
        norm_bias=True,
        tied=fields.flag("tie_word_embeddings", default=True),
        position="alibi" if alibi else "rope",
    )
