"""Qwen3-Next and Qwen3.5: three layers of gated delta rule for each of full attention, whose result has a gate; dense
or with experts and a shared one. Not part of what serves a token: the prediction head (`mtp_num_hidden_layers`)."""

from dataclasses import replace

from workloads.models.families._experts import expert_layers, has_experts, routed
from workloads.models.families.llama import num_mtp
from workloads.models.fields import Fields
from workloads.models.layers.delta import Delta
from workloads.models.spec import NO_ATTENTION, Attention, Block, FeedForward, ModelSpec, pattern

MODEL_TYPES = ("qwen3_next", "qwen3_5", "qwen3_5_moe")
STATE_BYTE = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}


def read(fields: Fields, name: str) -> ModelSpec:
    num_layer = fields.size("num_hidden_layers", high=10_000)
    every = fields.size("full_attention_interval", default=4)
    kinds = fields.words("layer_types", ("full_attention", "linear_attention"), num_layer) or [
        "linear_attention" if (i + 1) % every else "full_attention" for i in range(num_layer)
    ]
    with_experts = expert_layers(fields, num_layer) if has_experts(fields) else [False] * num_layer
    full, linear = _attention(fields), _delta(fields)
    blocks = []
    for i, kind in enumerate(kinds):
        ffn = routed(fields, shared_gate=True) if with_experts[i] else FeedForward(fields.size("intermediate_size"))
        each = Block(full, ffn)
        blocks.append(each if kind == "full_attention" else replace(each, attention=NO_ATTENTION, mixer=linear))
    block, layer = pattern(blocks)
    head = next((b for b in reversed(blocks) if b.mixer is None), blocks[-1])
    return ModelSpec(
        name=name,
        family="qwen3_next",
        hidden=fields.size("hidden_size"),
        vocab=fields.size("vocab_size"),
        max_context=fields.size("max_position_embeddings"),
        block=block,
        layer=layer,
        tied=fields.flag("tie_word_embeddings", default=False),
        mtp=(head,) * num_mtp(fields),
    )


def _attention(fields: Fields) -> Attention:
    num_head, num_kv_head, head_dim = fields.heads(head_dim=256)
    bias = fields.flag("attention_bias", default=False)
    gated = fields.flag("attn_output_gate", default=True)
    return Attention(
        num_head,
        num_kv_head,
        head_dim,
        head_dim,
        rope_dim=fields.rotary(head_dim, 0.25),
        qkv_bias=bias,
        out_bias=bias,
        qk_norm=2 * head_dim,
        gate=num_head * head_dim if gated else 0,
    )


def _delta(fields: Fields) -> Delta:
    return Delta(
        num_key_head=fields.size("linear_num_key_heads", high=10_000),
        num_value_head=fields.size("linear_num_value_heads", high=10_000),
        key_dim=fields.size("linear_key_head_dim", high=10_000),
        value_dim=fields.size("linear_value_head_dim", high=10_000),
        kernel=fields.size("linear_conv_kernel_dim", high=1000),
        state_byte=state_byte(fields) or 4.0,  # the delta rule's kernels keep fp32: their decode times say so
    )


def state_byte(fields: Fields) -> float:
    """Bytes of a value of the recurrent state: the format that the file names, 0 (as activations) where it does not."""
    return STATE_BYTE.get(fields.word("mamba_ssm_dtype", "mamba_ssm_cache_dtype"), 0.0)
