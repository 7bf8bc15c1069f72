"""Gemma 3n and 4: windows in most layers, wide heads and one projection for keys and values in the others, the last
layers read an earlier layer's cache (`num_kv_shared_layers`), an embedding a layer beside the first one
(`hidden_size_per_layer_input`), and experts beside a dense part (`enable_moe_block`).

Parameters that Gemma 3n adds around each layer (AltUp, LAuReL; arXiv 2301.13310 and 2411.07501) follow from
`altup_num_inputs` and `laurel_rank`.
"""

from workloads.models.families._experts import routed
from workloads.models.fields import Fields
from workloads.models.spec import Attention, Block, FeedForward, ModelSpec, pattern

MODEL_TYPES = ("gemma4", "gemma4_unified", "gemma3n")
KINDS = ("full_attention", "sliding_attention")


def read(fields: Fields, name: str) -> ModelSpec:
    num_layer = fields.size("num_hidden_layers", high=10_000)
    every = fields.size("sliding_window_pattern", default=6 if _fourth(fields) else 5)
    kinds = fields.words("layer_types", KINDS, num_layer) or [
        "sliding_attention" if (i + 1) % every else "full_attention" for i in range(num_layer)
    ]
    shared = fields.size("num_kv_shared_layers", default=0 if _fourth(fields) else 15, low=0, high=num_layer)
    blocks = [_block(fields, i, kinds[i], i >= num_layer - shared > 0) for i in range(num_layer)]
    block, layer = pattern(blocks)
    return ModelSpec(
        name=name,
        family="gemma4",
        hidden=fields.size("hidden_size"),
        vocab=fields.size("vocab_size", default=262_144 if _fourth(fields) else 262_400),
        max_context=fields.size("max_position_embeddings", default=131_072 if _fourth(fields) else 32_768),
        block=block,
        layer=layer,
        tied=fields.flag("tie_word_embeddings", default=True),
        side_row=fields.size("vocab_size_per_layer_input", default=262_144) if _per_layer(fields) else 0,
        extra_value=_outside(fields),
        unpriced=("altup_num_inputs",) if not _fourth(fields) else (),
    )


def _fourth(fields: Fields) -> bool:
    return fields.word("model_type").startswith("gemma4")


def _block(fields: Fields, layer: int, kind: str, shared: bool) -> Block:
    full = kind == "full_attention"
    fields = fields.layer(layer)
    num_head = fields.size("num_attention_heads", default=8, high=10_000)
    num_kv_head = fields.size("num_key_value_heads", default=num_head if _fourth(fields) else 2, high=num_head)
    dim = fields.size("head_dim", default=256, high=10_000)
    key_is_value = full and fields.flag("attention_k_eq_v", default=False)
    if full and _fourth(fields) and not fields.has("per_layer_config"):
        dim = fields.size("global_head_dim", default=512, high=10_000)
    if key_is_value:
        num_kv_head = fields.size("num_global_key_value_heads", default=num_kv_head, high=num_head)
    fields.check_divides(num_kv_head, num_head, "num_key_value_heads")
    attention = Attention(
        num_head,
        num_kv_head,
        dim,
        dim,
        window=0 if full else fields.size("sliding_window", default=512),
        rope_dim=fields.rotary(dim, kind=kind),
        qk_norm=dim if shared else 2 * dim,
        key_is_value=key_is_value,
        shared_kv=shared,
    )
    hidden = fields.size("hidden_size")
    if fields.flag("enable_moe_block", default=False):  # the dense part stands beside the experts as a shared one does
        experts = routed(fields)
        ffn = FeedForward(
            fields.size("intermediate_size"),
            num_expert=experts.num_expert,
            topk=experts.topk,
            expert_inter=experts.expert_inter,
            router_bias=hidden + experts.num_expert,  # scales of its input and of each expert
        )
        return Block(attention, ffn, num_norm=7, side=_per_layer(fields))
    # Gemma 3n keeps the key and value projections of layers that do not use them in its checkpoints
    idle = 2 * hidden * num_kv_head * dim + dim if shared and not _fourth(fields) else 0
    ffn = FeedForward(_inter(fields, layer, shared))
    side = _per_layer(fields)
    return Block(attention, ffn, num_norm=4, side=side, extra_value=_around(fields, hidden) + idle)


def _inter(fields: Fields, layer: int, shared: bool) -> int:
    """Feed-forward width of a layer: one for all, one a layer, or double in the layers that share keys."""
    listed = fields.raw.get("intermediate_size")
    if isinstance(listed, list):
        return Fields({"intermediate_size": listed[layer] if layer < len(listed) else None}, fields.file).size(
            "intermediate_size"
        )
    wide = shared and fields.flag("use_double_wide_mlp", default=False)
    return fields.size("intermediate_size") * (2 if wide else 1)


def _per_layer(fields: Fields) -> int:
    """Width of the embedding that every layer has for itself."""
    return fields.size("hidden_size_per_layer_input", default=0 if _fourth(fields) else 256, low=0)


def _around(fields: Fields, hidden: int) -> int:
    """Weights of a Gemma 3n layer beside attention and feed-forward: its low-rank residual, and its routing between
    residual streams."""
    if _fourth(fields):
        return 0
    streams = fields.size("altup_num_inputs", default=4, high=100)
    rank = fields.size("laurel_rank", default=64)
    predict = streams * streams * streams + streams * streams + streams * hidden + 2 * hidden
    return 2 * rank * hidden + hidden + predict


def _outside(fields: Fields) -> int:
    """Gemma 3n's maps between the residual streams."""
    if _fourth(fields):
        return 0
    hidden, streams = fields.size("hidden_size"), fields.size("altup_num_inputs", default=4, high=100)
    return 2 * (streams - 1) * hidden * hidden
