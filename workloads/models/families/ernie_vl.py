"""ERNIE 4.5 VL (arXiv: technical report of June 2025): ERNIE's layers whose experts come in two sets, one for text and
a narrower one for images; lists of two numbers are of these. A token of text meets the first set alone."""

from dataclasses import replace
from typing import Any

from workloads.models.families import llama
from workloads.models.fields import Fields
from workloads.models.spec import ModelSpec, pattern

MODEL_TYPES = ("ernie4_5_vl_moe", "ernie4_5_moe_vl")
PAIRS = ("moe_intermediate_size", "moe_num_experts", "moe_layer_start_index", "moe_layer_end_index", "moe_capacity")


def read(fields: Fields, name: str) -> ModelSpec:
    text, image = _set(fields, 0), _set(fields, 1)
    model = llama.read(text, name)
    value = image.size("moe_num_experts") * (3 * image.size("moe_intermediate_size") * model.hidden + model.hidden + 1)
    blocks = [replace(each, idle_value=value if each.ffn.num_expert else 0) for each in model.block]
    block, layer = pattern([blocks[i] for i in model.layer])
    return replace(model, family="ernie_vl", block=block, layer=layer)


def _set(fields: Fields, which: int) -> Fields:
    """The fields of one set of experts."""
    raw: dict[str, Any] = {**fields.raw, "model_type": "ernie4_5_moe"}
    for name in PAIRS:
        if isinstance(raw.get(name), list):
            raw[name] = raw[name][min(which, len(raw[name]) - 1)] if raw[name] else None
    return Fields(raw, fields.file)
