"""Qwen's first models and Qwen-VL: Llama's layers with biases of queries, keys and values, a key-value head for each
query head; `intermediate_size` counts both up projections."""

from dataclasses import replace

from workloads.models.families import llama
from workloads.models.fields import Fields
from workloads.models.spec import ModelSpec

MODEL_TYPES = ("qwen",)


def read(fields: Fields, name: str) -> ModelSpec:
    inter = fields.size("intermediate_size") // 2
    own = {"model_type": "qwen2", "intermediate_size": inter, "head_dim": fields.raw.get("kv_channels")}
    return replace(llama.read(Fields({**fields.raw, **own}, fields.file), name), family="qwen")
