"""Llama 3.2 Vision: Llama's layers, and among them layers that attend to an image's patches (`cross_attention_layers`)
with keys of their own, which are kept once an image and not a token. Those are counted and not priced."""

from dataclasses import replace

from workloads.models.fields import Fields
from workloads.models.spec import Attention, Block, FeedForward, ModelSpec, pattern

MODEL_TYPES = ("mllama_text_model",)


def read(fields: Fields, name: str) -> ModelSpec:
    hidden, num_layer = fields.size("hidden_size"), fields.size("num_hidden_layers", high=10_000)
    num_head, num_kv_head, dim = fields.heads()
    across = fields.integers("cross_attention_layers") or []
    own = Attention(num_head, num_kv_head, dim, dim, rope_dim=dim)
    image = replace(own, rope_dim=0, qk_norm=2 * dim, shared_kv=True)
    ffn = FeedForward(fields.size("intermediate_size"))
    gates = 2  # a value on each part's result
    cross = Block(image, ffn, extra_value=2 * hidden * num_kv_head * dim + gates)
    block, layer = pattern([cross if i in across else Block(own, ffn) for i in range(num_layer)])
    return ModelSpec(
        name=name,
        family="mllama",
        hidden=hidden,
        vocab=fields.size("vocab_size"),
        max_context=fields.size("max_position_embeddings"),
        block=block,
        layer=layer,
        tied=fields.flag("tie_word_embeddings", default=False),
        unpriced=("cross_attention_layers",) if across else (),
    )
