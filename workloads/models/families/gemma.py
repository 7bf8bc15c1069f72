"""Gemma 1, 2 and 3: wide heads, tied embedding; 2 and 3 add norms after each part and layers with a window
(every other one in Gemma 2, five of six in Gemma 3), 3 adds norms of queries and keys.

Gemma 3 files leave out what equals the architecture's defaults: 8 heads, 4 key-value heads of width 256,
262,208 tokens of vocabulary, 131,072 of context.
"""

from workloads.models.fields import Fields
from workloads.models.spec import Attention, Block, FeedForward, ModelSpec, pattern

MODEL_TYPES = ("gemma", "gemma2", "gemma3", "gemma3_text", "vaultgemma")


def read(fields: Fields, name: str) -> ModelSpec:
    third = fields.word("model_type").startswith("gemma3")
    num_layer = fields.size("num_hidden_layers", high=10_000)
    block, layer = pattern([_block(fields, third, i, num_layer) for i in range(num_layer)])
    return ModelSpec(
        name=name,
        family="gemma",
        hidden=fields.size("hidden_size"),
        vocab=fields.size("vocab_size", default=262_208 if third else None),
        max_context=fields.size("max_position_embeddings", default=131_072 if third else None),
        block=block,
        layer=layer,
        tied=fields.flag("tie_word_embeddings", default=True),
    )


def _block(fields: Fields, third: bool, layer: int, num_layer: int) -> Block:
    if third and not fields.has("num_attention_heads"):
        num_head, num_kv_head, dim = (
            8,
            fields.size("num_key_value_heads", default=4),
            fields.size("head_dim", default=256),
        )
    else:
        num_head, num_kv_head, dim = fields.heads(head_dim=256)
    window = _window(fields, third, layer, num_layer)
    attention = Attention(
        num_head,
        num_kv_head,
        dim,
        dim,
        window=window,
        rope_dim=fields.rotary(dim, kind="sliding_attention" if window else "full_attention"),
        qk_norm=2 * dim if third else 0,
    )
    first = fields.word("model_type") in ("gemma", "vaultgemma")
    return Block(attention, FeedForward(fields.size("intermediate_size")), num_norm=2 if first else 4)


def _window(fields: Fields, third: bool, layer: int, num_layer: int) -> int:
    if fields.word("model_type") == "gemma":
        return 0
    kinds = fields.words("layer_types", ("full_attention", "sliding_attention"), num_layer)
    every = fields.size("sliding_window_pattern", default=6 if third else 2)
    sliding = kinds[layer] == "sliding_attention" if kinds else (layer + 1) % every != 0
    return fields.size("sliding_window", default=4096) if sliding else 0
