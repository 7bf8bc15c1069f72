"""Hybrids of Mamba-2 and attention with a feed-forward part in every layer: Granite 4 (one or the other a layer,
experts beside a shared part), Bamba, and Falcon-H1 (arXiv 2507.22448: both on the same input in every layer)."""

from workloads.models.families._experts import has_experts, routed
from workloads.models.families.qwen3_next import state_byte
from workloads.models.fields import Fields
from workloads.models.layers.mamba import Mamba2
from workloads.models.spec import NO_ATTENTION, Attention, Block, FeedForward, ModelSpec, pattern

MODEL_TYPES = ("granitemoehybrid", "bamba", "falcon_h1")
RECURRENT, FULL = ("mamba", "linear_attention"), ("attention", "full_attention")  # as files of either age say


def read(fields: Fields, name: str) -> ModelSpec:
    kind = fields.word("model_type")
    num_layer = fields.size("num_hidden_layers", high=10_000)
    rotary = kind != "granitemoehybrid" or fields.word("position_embedding_type", default="rope") == "rope"
    attention, mamba, ffn = _attention(fields, rotary), _mamba(fields), _ffn(fields, kind)
    if kind == "falcon_h1":
        blocks = [Block(attention, ffn, mixer=mamba)] * num_layer
    else:
        blocks = [
            Block(attention, ffn) if full else Block(NO_ATTENTION, ffn, mixer=mamba)
            for full in _full(fields, num_layer)
        ]
    block, layer = pattern(blocks)
    return ModelSpec(
        name=name,
        family="mamba_hybrid",
        hidden=fields.size("hidden_size"),
        vocab=fields.size("vocab_size"),
        max_context=fields.size("max_position_embeddings"),
        block=block,
        layer=layer,
        tied=fields.flag("tie_word_embeddings", default=False),
        position="rope" if rotary else "none",
    )


def _full(fields: Fields, num_layer: int) -> list[bool]:
    """Which layers have attention."""
    kinds = fields.words("layer_types", RECURRENT + FULL, num_layer)
    kinds = kinds or fields.words("layers_block_type", RECURRENT + FULL, num_layer)
    if kinds:
        return [kind in FULL for kind in kinds]
    listed = fields.integers("attn_layer_indices") or []
    return [i in listed for i in range(num_layer)]


def _attention(fields: Fields, rotary: bool) -> Attention:
    num_head, num_kv_head, dim = fields.heads()
    bias = fields.flag("attention_bias", default=False)
    rope_dim = fields.rotary(dim) if rotary else 0
    return Attention(num_head, num_kv_head, dim, dim, rope_dim=rope_dim, qkv_bias=bias, out_bias=bias)


def _ffn(fields: Fields, kind: str) -> FeedForward:
    bias = fields.flag("mlp_bias", default=False)
    if kind == "granitemoehybrid" and has_experts(fields):
        return routed(fields)
    shared = ("shared_intermediate_size", "intermediate_size")
    return FeedForward(fields.size(*(shared if kind == "granitemoehybrid" else ("intermediate_size",))), bias=bias)


def _mamba(fields: Fields) -> Mamba2:
    hidden = fields.size("hidden_size")
    inner = fields.size("mamba_d_ssm", default=fields.size("mamba_expand", default=2, high=1000) * hidden)
    num_head = fields.size("mamba_n_heads", default=128, high=100_000)
    if fields.raw.get("mamba_d_head", "auto") == "auto":
        fields.check_divides(num_head, inner, "mamba_n_heads")
        dim = inner // num_head
    else:
        dim = fields.size("mamba_d_head", high=10_000)
    return Mamba2(
        num_head=num_head,
        head_dim=dim,
        state=fields.size("mamba_d_state", default=256, high=10_000),
        group=fields.size("mamba_n_groups", default=1, high=10_000),
        kernel=fields.size("mamba_d_conv", default=4, high=1000),
        conv_bias=fields.flag("mamba_conv_bias", default=True),
        proj_bias=fields.flag("mamba_proj_bias", default=False),
        gated_norm=fields.flag("mamba_rms_norm", default=fields.word("model_type") != "falcon_h1"),
        state_byte=state_byte(fields),
    )
