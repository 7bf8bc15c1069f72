"""Fields that say a model has something, held against what was read: a family that does not know one must not drop it
in silence. `SIGNS` is a field, what makes it speak, and whether the description shows it."""

from collections.abc import Callable
from typing import Any

from kernels.errors import InputError
from workloads.models.fields import Fields
from workloads.models.spec import ModelSpec

Shown = Callable[[ModelSpec], bool]


def _counts(value: Any) -> bool:
    """A number above one: a single expert is a plain feed-forward part."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 1


def _given(value: Any) -> bool:
    return value not in (None, False, 0, [], {}, "")


def _experts(model: ModelSpec) -> bool:
    return any(block.ffn.num_expert for block in model.block)


def _recurrent(model: ModelSpec) -> bool:
    return any(block.mixer is not None for block in model.block)


def _never(model: ModelSpec) -> bool:
    return False


SIGNS: tuple[tuple[str, Callable[[Any], bool], Shown], ...] = (
    ("num_experts", _counts, _experts),
    ("num_local_experts", _counts, _experts),
    ("n_routed_experts", _counts, lambda m: _experts(m) or m.family == "nemotron_h"),  # its pattern says
    ("moe_num_experts", _counts, _experts),
    ("kv_lora_rank", _counts, lambda m: any(block.attention.latent for block in m.block)),
    ("index_topk", _counts, lambda m: _recurrent(m) or any(block.attention.indexer for block in m.block)),
    ("sparse_attention_config", lambda v: isinstance(v, dict) and v.get("use_sparse_attention") is True,
     lambda m: any(block.attention.indexer for block in m.block)),
    ("linear_attn_config", _given, _recurrent),
    ("linear_num_value_heads", _counts, _recurrent),
    ("compress_ratios", _given, _recurrent),
    ("hc_mult", _counts, lambda m: any(block.streams for block in m.block)),
    ("attn_res_block_size", _counts, lambda m: any(block.joins for block in m.block)),
    ("attn_output_gate", lambda v: v is True, lambda m: any(block.attention.gate for block in m.block)),
    ("moe_latent_size", _counts, lambda m: any(block.ffn.latent for block in m.block)),
    ("routed_expert_hidden_size", _counts, lambda m: any(block.ffn.latent for block in m.block)),
    ("num_kv_shared_layers", _counts, lambda m: any(block.attention.shared_kv for block in m.block)),
    ("hidden_size_per_layer_input", _counts, lambda m: any(block.side for block in m.block)),
    ("block_configs", _given, lambda m: m.family == "nemotron_nas"),
    ("per_layer_config", _given, lambda m: m.family in ("llama", "gemma4", "deepseek")),
    ("zero_expert_num", _counts, lambda m: m.family == "longcat"),
    ("cross_attention_layers", _given, lambda m: m.family == "mllama"),
    ("is_encoder_decoder", lambda v: v is True, _never),
)  # fmt: skip


def check(model: ModelSpec, fields: Fields) -> None:
    """Raise `InputError` naming the first field that speaks of what the description lacks."""
    for name, speaks, shown in SIGNS:
        value = fields.raw.get(name)
        unused = name == "kv_lora_rank" and fields.raw.get("use_mla") is False  # the class's, of a plain model
        if speaks(value) and not shown(model) and not unused:
            raise InputError(
                f"the reader of {fields.word('model_type')} does not know this field", file=fields.file, field=name,
                value=value if not isinstance(value, list | dict) else "set", allowed="absent",
            )  # fmt: skip
