"""MiniCPM-V and MiniCPM-o: the fields of a language model beside those of their encoders; which model that is follows
from `version` (2.5: Llama 3, 2.6: Qwen2, 4.0: MiniCPM 4, 4.5: Qwen3)."""

from dataclasses import replace

from kernels.errors import InputError
from workloads.models.families import llama
from workloads.models.fields import Fields
from workloads.models.spec import ModelSpec

MODEL_TYPES = ("minicpmv", "minicpmo")
BY_VERSION = {"2.5": "llama", "2.6": "qwen2", "4.0": "llama", "4": "llama", "4.5": "qwen3"}


def read(fields: Fields, name: str) -> ModelSpec:
    version = str(fields.raw.get("version", "2.6"))
    if version not in BY_VERSION:
        raise InputError("unknown version", file=fields.file, field="version", value=version, allowed=list(BY_VERSION))
    model = llama.read(Fields({**fields.raw, "model_type": BY_VERSION[version]}, fields.file), name)
    return replace(model, family="minicpmv")
