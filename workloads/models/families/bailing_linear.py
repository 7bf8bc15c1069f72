"""Hybrids of the Ling and Ring line: a full layer closes every `layer_group_size`, and those after the last whole group
are full too. Ring-linear 2.0 has grouped queries there and lightning attention elsewhere (arXiv 2510.19338), 2.5 latent
attention in the full layers, 3.0 delta attention in the others (it names the taps of a convolution)."""

from workloads.models.families._experts import DENSE, expert_layers, routed
from workloads.models.families.deepseek import latent_attention
from workloads.models.families.llama import num_mtp
from workloads.models.fields import Fields
from workloads.models.layers.base import Mixer
from workloads.models.layers.delta import Delta
from workloads.models.layers.lightning import Lightning
from workloads.models.spec import NO_ATTENTION, Attention, Block, FeedForward, ModelSpec, pattern

MODEL_TYPES = ("bailing_moe_linear", "bailing_hybrid")
TAPS = ("short_conv_kernel_size", "linear_conv_kernel_dim")


def read(fields: Fields, name: str) -> ModelSpec:
    num_layer = fields.size("num_hidden_layers", high=10_000)
    experts, plain = routed(fields, router_bias=True), FeedForward(fields.size(*DENSE))
    mixer = _delta(fields) if fields.has(*TAPS) else _lightning(fields)
    attention = _latent(fields) if fields.has("kv_lora_rank") else _grouped(fields)
    blocks = [
        Block(attention if full else NO_ATTENTION, experts if routes else plain, mixer=None if full else mixer)
        for full, routes in zip(_full(fields, num_layer), expert_layers(fields, num_layer), strict=True)
    ]
    block, layer = pattern(blocks)
    return ModelSpec(
        name=name,
        family="bailing_linear",
        hidden=fields.size("hidden_size"),
        vocab=fields.size("vocab_size"),
        max_context=fields.size("max_position_embeddings", "model_max_length"),
        block=block,
        layer=layer,
        tied=fields.flag("tie_word_embeddings", default=False),
        mtp=(blocks[-1],) * num_mtp(fields),
    )


def _full(fields: Fields, num_layer: int) -> list[bool]:
    """Which layers see all keys."""
    kinds = fields.words("layer_types", ("linear_attention", "full_attention"), num_layer)
    if kinds:
        return [kind == "full_attention" for kind in kinds]
    group = fields.size("layer_group_size")
    return [(i + 1) % group == 0 or i >= num_layer // group * group for i in range(num_layer)]


def _grouped(fields: Fields) -> Attention:
    num_head, num_kv_head, dim = fields.heads()
    norm = 2 * dim if fields.flag("use_qk_norm", default=False) else 0
    bias = fields.flag("use_qkv_bias", default=False)
    return Attention(
        num_head, num_kv_head, dim, dim, rope_dim=fields.rotary(dim), qkv_bias=bias, qk_norm=norm,
        out_bias=fields.flag("use_bias", default=False),
    )  # fmt: skip


def _latent(fields: Fields) -> Attention:
    """With delta attention beside it, the result has a gate a head."""
    return latent_attention(fields, gate="head" if fields.has(*TAPS) else "")


def _lightning(fields: Fields) -> Mixer:
    num_head = fields.size("num_attention_heads", high=10_000)
    return Lightning(num_head, fields.size("head_dim", default=fields.size("hidden_size") // num_head, high=10_000))


def _delta(fields: Fields) -> Mixer:
    num_head = fields.size("linear_num_heads", "num_attention_heads", high=10_000)
    dim = fields.size("linear_head_dim", "v_head_dim", default=128, high=10_000)
    return Delta(
        num_key_head=num_head,
        num_value_head=num_head,
        key_dim=dim,
        value_dim=dim,
        kernel=fields.size(*TAPS, high=1000),
        state_byte=4.0,
        channel_decay=True,
        full_gate=True,
        full_decay=True,
    )
