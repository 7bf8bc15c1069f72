"""Nemotron-H (arXiv 2504.03624) and Nemotron 3: every layer is one part, a Mamba-2 mixer (M), attention without
positions (*), a feed-forward part (-) or experts (E), after one norm. Experts and feed-forward parts have no gate;
`moe_latent_size` is a width that routed experts work in. `layers_block_type` spells the same pattern out."""

from kernels.errors import InputError
from workloads.models.families._experts import routed
from workloads.models.families.qwen3_next import state_byte
from workloads.models.fields import Fields
from workloads.models.layers.mamba import Mamba2
from workloads.models.spec import NO_ATTENTION, NO_FFN, Attention, Block, FeedForward, ModelSpec, pattern

MODEL_TYPES = ("nemotron_h",)
SIGNS = {"mamba": "M", "linear_attention": "M", "attention": "*", "full_attention": "*", "mlp": "-", "moe": "E"}


def read(fields: Fields, name: str) -> ModelSpec:
    kinds = _pattern(fields)
    signs = {sign: _block(fields, sign) for sign in sorted(set(kinds))}
    block, layer = pattern([signs[sign] for sign in kinds])
    ahead = fields.word("mtp_hybrid_override_pattern") or _spelt(fields, "mtp_layers_block_type")
    heads = (
        [_block(fields, sign) for sign in ahead] if fields.size("num_nextn_predict_layers", default=0, low=0) else []
    )
    return ModelSpec(
        name=name,
        family="nemotron_h",
        hidden=fields.size("hidden_size"),
        vocab=fields.size("vocab_size"),
        max_context=fields.size("max_position_embeddings"),
        block=block,
        layer=layer,
        tied=fields.flag("tie_word_embeddings", default=False),
        position="none",
        mtp=tuple(heads),
    )


def _spelt(fields: Fields, name: str) -> str:
    """The signs of a field that has a word a layer."""
    listed = fields.raw.get(name)
    words = fields.words(name, tuple(SIGNS), len(listed) if isinstance(listed, list) else 1) or []
    return "".join(SIGNS[word] for word in words)


def _pattern(fields: Fields) -> str:
    """One sign a layer."""
    listed = fields.raw.get("layers_block_type")
    text = fields.word("hybrid_override_pattern", "hybrid_layer_pattern")
    if listed is not None and not text:
        text = _spelt(fields, "layers_block_type")
    wrong = sorted(set(text) - set(SIGNS.values()))
    if not text or wrong:
        raise InputError("not a pattern of layers", file=fields.file, field="hybrid_override_pattern",
                         value=text or listed, allowed="M, *, - and E, one a layer")  # fmt: skip
    num_layer = fields.size("num_hidden_layers", default=len(text), high=10_000)
    if num_layer != len(text):
        raise InputError("not one sign a layer", file=fields.file, field="hybrid_override_pattern", value=len(text),
                         allowed=f"{num_layer} signs")  # fmt: skip
    return text


def _block(fields: Fields, sign: str) -> Block:
    if sign == "M":
        return Block(NO_ATTENTION, NO_FFN, num_norm=1, mixer=_mamba(fields))
    if sign == "*":
        num_head = fields.size("num_attention_heads", high=10_000)
        num_kv_head = fields.size("num_key_value_heads", default=num_head, high=num_head)
        dim = fields.size("head_dim", "attention_head_dim", default=128, high=10_000)
        fields.check_divides(num_kv_head, num_head, "num_key_value_heads")
        bias = fields.flag("attention_bias", default=False)
        return Block(Attention(num_head, num_kv_head, dim, dim, qkv_bias=bias, out_bias=bias), NO_FFN, num_norm=1)
    bias = fields.flag("mlp_bias", default=False)
    if sign == "-":
        return Block(NO_ATTENTION, FeedForward(fields.size("intermediate_size"), gated=False, bias=bias), num_norm=1)
    latent = fields.size("moe_latent_size", default=0, low=0)
    return Block(NO_ATTENTION, routed(fields, gated=False, router_bias=True, latent=latent), num_norm=1)


def _mamba(fields: Fields) -> Mamba2:
    return Mamba2(
        num_head=fields.size("mamba_num_heads", high=100_000),
        head_dim=fields.size("mamba_head_dim", high=10_000),
        state=fields.size("ssm_state_size", high=10_000),
        group=fields.size("n_groups", "mamba_n_groups", default=1, high=10_000),
        kernel=fields.size("conv_kernel", "mamba_d_conv", default=4, high=1000),
        conv_bias=fields.flag("use_conv_bias", default=True),
        proj_bias=fields.flag("mamba_proj_bias", "use_bias", default=False),
        state_byte=state_byte(fields),
    )
