"""Nemotron-NAS (Llama-Nemotron Super and Ultra, arXiv 2505.00949): Llama layers whose parts a search has made narrower,
replaced by a linear map or left out, layer by layer (`block_configs`)."""

from typing import Any

from kernels.errors import InputError
from workloads.models.fields import Fields
from workloads.models.layers.linear import Linear
from workloads.models.spec import NO_ATTENTION, NO_FFN, Attention, Block, FeedForward, ModelSpec, pattern

MODEL_TYPES = ("nemotron-nas", "nemotron_nas", "deci", "decilm")
MULTIPLE = 256  # feed-forward widths are rounded up to it


def read(fields: Fields, name: str) -> ModelSpec:
    listed = fields.raw.get("block_configs")
    if not isinstance(listed, list) or not listed or not all(isinstance(each, dict) for each in listed):
        raise InputError("not a list of layers", file=fields.file, field="block_configs", value=type(listed).__name__,
                         allowed="one object a layer")  # fmt: skip
    num_layer = fields.size("num_hidden_layers", default=len(listed), high=10_000)
    if num_layer != len(listed):
        raise InputError("not one entry a layer", file=fields.file, field="block_configs", value=len(listed),
                         allowed=f"{num_layer} objects")  # fmt: skip
    block, layer = pattern([_block(fields, each) for each in listed])
    return ModelSpec(
        name=name,
        family="nemotron_nas",
        hidden=fields.size("hidden_size"),
        vocab=fields.size("vocab_size"),
        max_context=fields.size("max_position_embeddings"),
        block=block,
        layer=layer,
        tied=fields.flag("tie_word_embeddings", default=False),
    )


def _block(fields: Fields, config: dict[str, Any]) -> Block:
    hidden = fields.size("hidden_size")
    attention, own = NO_ATTENTION, Fields(config, fields.file).table("attention")
    mixer = None
    if own.flag("replace_with_linear", default=False):
        mixer = Linear(hidden)
    elif not own.flag("no_op", default=False):
        num_head = fields.size("num_attention_heads", high=10_000)
        group = own.size("n_heads_in_group", default=1, high=num_head)
        num_kv_head = own.size("num_key_value_heads", default=max(1, num_head // group), high=num_head)
        fields.check_divides(num_kv_head, num_head, "n_heads_in_group")
        dim = fields.size("head_dim", default=hidden // num_head, high=10_000)
        bias = fields.flag("attention_bias", default=False)
        window = own.size("window_length", default=0)
        attention = Attention(
            num_head, num_kv_head, dim, dim, window=window, rope_dim=dim, qkv_bias=bias, out_bias=bias
        )
    ffn = _ffn(fields, config, hidden)
    parts = bool(attention.num_head or mixer) + (not ffn.empty)
    return Block(attention, ffn, num_norm=max(1, parts), mixer=mixer)


def _ffn(fields: Fields, config: dict[str, Any], hidden: int) -> FeedForward:
    own = Fields(config, fields.file).table("ffn")
    if own.flag("no_op", default=False):
        return NO_FFN
    if own.flag("replace_with_linear", default=False):
        raise InputError("a linear map in place of the feed-forward part is not supported", file=fields.file,
                         field="replace_with_linear", value=True, allowed="false")  # fmt: skip
    if own.has("ffn_mult"):
        share = own.number("ffn_mult", default=1.0, low=1e-6, high=1000.0)
        inter = -(-int(2 * share * hidden / 3) // MULTIPLE) * MULTIPLE
    else:
        inter = own.size("intermediate_size")
    return FeedForward(inter)
