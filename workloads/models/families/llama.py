"""Llama 1 to 3, Mistral, Mixtral, Qwen 2 / 2.5 / 3 with and without experts, Yi, CodeLlama, phi-3.

One architecture (pre-norm with RMS, rotary positions, gated feed-forward, grouped queries) whose members
differ in biases, norms of queries and keys, windows and experts; `TRAIT` holds what their configurations
leave to the code.
"""

from dataclasses import dataclass

from workloads.models.fields import Fields
from workloads.models.spec import Attention, Block, FeedForward, ModelSpec, pattern


@dataclass(frozen=True)
class Trait:
    qkv_bias: bool = False
    qk_norm: bool = False
    window: bool = False  # `sliding_window` counts without `use_sliding_window`
    expert: bool = False
    shared_gate: bool = False


TRAIT = {
    "llama": Trait(),
    "yi": Trait(),
    "Yi": Trait(),
    "mistral": Trait(window=True),
    "mixtral": Trait(window=True, expert=True),
    "phi3": Trait(window=True),
    "qwen2": Trait(qkv_bias=True),
    "qwen2_moe": Trait(qkv_bias=True, expert=True, shared_gate=True),
    "qwen3": Trait(qk_norm=True),
    "qwen3_moe": Trait(qk_norm=True, expert=True),
}
MODEL_TYPES = tuple(TRAIT)


def read(fields: Fields, name: str) -> ModelSpec:
    trait = TRAIT[fields.word("model_type")]
    num_layer = fields.size("num_hidden_layers", high=10_000)
    kinds = [Block(_attention(fields, trait, i), _ffn(fields, trait, i)) for i in range(num_layer)]
    block, layer = pattern(kinds)
    return ModelSpec(
        name=name,
        family="llama",
        hidden=fields.size("hidden_size"),
        vocab=fields.size("vocab_size"),
        max_context=fields.size("max_position_embeddings", "max_sequence_length"),
        block=block,
        layer=layer,
        tied=fields.flag("tie_word_embeddings", default=False),
    )


def _attention(fields: Fields, trait: Trait, layer: int) -> Attention:
    num_head, num_kv_head, head_dim = fields.heads()
    rope_dim = int(head_dim * fields.fraction("partial_rotary_factor", default=1.0))
    bias = fields.flag("attention_bias", default=False)
    return Attention(
        num_head,
        num_kv_head,
        head_dim,
        head_dim,
        window=_window(fields, trait, layer),
        rope_dim=rope_dim,
        qkv_bias=trait.qkv_bias or bias,
        out_bias=bias,
        qk_norm=2 * head_dim if trait.qk_norm else 0,
    )


def _window(fields: Fields, trait: Trait, layer: int) -> int:
    """Keys that a query of this layer sees, 0 for all: by `layer_types` where given, else by the older fields."""
    kinds = fields.words("layer_types", ("full_attention", "sliding_attention"), fields.size("num_hidden_layers"))
    if kinds:
        return fields.size("sliding_window") if kinds[layer] == "sliding_attention" else 0
    since = fields.size("max_window_layers", default=0, low=0)
    if trait.window or (fields.flag("use_sliding_window", default=False) and layer >= since):
        return fields.size("sliding_window", default=0)
    return 0


def _ffn(fields: Fields, trait: Trait, layer: int) -> FeedForward:
    bias = fields.flag("mlp_bias", default=False)
    every = fields.size("decoder_sparse_step", default=1)
    dense_only = fields.integers("mlp_only_layers") or []
    if not trait.expert or layer in dense_only or (layer + 1) % every:
        return FeedForward(fields.size("intermediate_size"), bias=bias)
    num_expert = fields.size("num_local_experts", "num_experts")
    return FeedForward(
        fields.size("shared_expert_intermediate_size", default=0, low=0),
        num_expert=num_expert,
        topk=fields.size("num_experts_per_tok", high=num_expert),
        expert_inter=fields.size("moe_intermediate_size", "intermediate_size"),
        shared_gate=trait.shared_gate,
    )
