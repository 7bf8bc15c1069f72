"""OLMo-Hybrid: three layers of gated delta rule for each of OLMo-3's attention, whose queries and keys are normed over
their whole width."""

from workloads.models.fields import Fields
from workloads.models.layers.delta import Delta
from workloads.models.spec import NO_ATTENTION, Attention, Block, FeedForward, ModelSpec, pattern

MODEL_TYPES = ("olmo_hybrid",)


def read(fields: Fields, name: str) -> ModelSpec:
    num_layer = fields.size("num_hidden_layers", high=10_000)
    kinds = fields.words("layer_types", ("full_attention", "linear_attention"), num_layer) or [
        "linear_attention" if (i + 1) % 4 else "full_attention" for i in range(num_layer)
    ]
    num_head, num_kv_head, dim = fields.heads()
    bias = fields.flag("attention_bias", default=False)
    rope_dim = fields.rotary(dim) if fields.raw.get("rope_parameters", fields.raw.get("rope_theta", 1)) else 0
    attention = Attention(
        num_head, num_kv_head, dim, dim, rope_dim=rope_dim, qkv_bias=bias, out_bias=bias,
        qk_norm=(num_head + num_kv_head) * dim,
    )  # fmt: skip
    value_head = fields.size("linear_num_value_heads", default=num_head, high=10_000)
    delta = Delta(
        num_key_head=fields.size("linear_num_key_heads", default=value_head, high=10_000),
        num_value_head=value_head,
        key_dim=fields.size("linear_key_head_dim", default=3 * fields.size("hidden_size") // (4 * value_head)),
        value_dim=fields.size("linear_value_head_dim", default=3 * fields.size("hidden_size") // (2 * value_head)),
        kernel=fields.size("linear_conv_kernel_dim", default=4, high=1000),
        state_byte=4.0,  # the delta rule's kernels keep fp32
    )
    ffn = FeedForward(fields.size("intermediate_size"))
    block, layer = pattern(
        [Block(attention, ffn) if kind == "full_attention" else Block(NO_ATTENTION, ffn, mixer=delta) for kind in kinds]
    )
    return ModelSpec(
        name=name,
        family="olmo_hybrid",
        hidden=fields.size("hidden_size"),
        vocab=fields.size("vocab_size"),
        max_context=fields.size("max_position_embeddings"),
        block=block,
        layer=layer,
        tied=fields.flag("tie_word_embeddings", default=False),
    )
