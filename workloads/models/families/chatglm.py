"""ChatGLM 2 to 4 under their first names: grouped queries (`multi_query_group_num`), rotary positions on half of each
head, biases of queries, keys and values alone."""

from workloads.models.fields import Fields
from workloads.models.spec import Attention, Block, FeedForward, ModelSpec

MODEL_TYPES = ("chatglm",)


def read(fields: Fields, name: str) -> ModelSpec:
    hidden, num_head = fields.size("hidden_size"), fields.size("num_attention_heads", high=10_000)
    dim = fields.size("kv_channels", default=max(1, hidden // num_head), high=10_000)
    grouped = fields.flag("multi_query_attention", default=True)
    num_kv_head = fields.size("multi_query_group_num", default=2, high=num_head) if grouped else num_head
    fields.check_divides(num_kv_head, num_head, "multi_query_group_num")
    bias = fields.flag("add_bias_linear", default=False)
    attention = Attention(
        num_head, num_kv_head, dim, dim, rope_dim=dim // 2, qkv_bias=fields.flag("add_qkv_bias", default=True) or bias,
        out_bias=bias,
    )  # fmt: skip
    return ModelSpec(
        name=name,
        family="chatglm",
        hidden=hidden,
        vocab=fields.size("padded_vocab_size", "vocab_size"),
        max_context=fields.size("seq_length", "max_position_embeddings"),
        block=(Block(attention, FeedForward(fields.size("ffn_hidden_size"), bias=bias)),),
        layer=(0,) * fields.size("num_layers", "num_hidden_layers", high=10_000),
        tied=fields.flag("tie_word_embeddings", default=False),
    )
