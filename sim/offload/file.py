"""An offloading run as a TOML file: names and lengths at the top, and the policy's fields beside them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pydantic

from hw_models.files import read_toml
from kernels.errors import InputError, from_validation
from sim.offload.policy import BlockPolicy


class RunFile(pydantic.BaseModel):
    """What a run is: every field an option of `ridgeline offload`."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True)
    model: str = "opt-30b"
    system: str = "n1_t4"
    prompt: int = pydantic.Field(default=512, ge=1, le=10_000_000)
    output: int = pydantic.Field(default=32, ge=1, le=100_000)
    fidelity: str = "calibrated"
    stack: str = "sol"
    weight_format: str = "fp16"
    find: bool = False
    batch: int = 1
    num_batch: int = 1
    weight: list[float] = [1.0, 0.0, 0.0]
    cache: list[float] = [1.0, 0.0, 0.0]
    hidden: list[float] = [1.0, 0.0, 0.0]
    host_attention: bool = False
    pack_weight: bool = False
    pack_cache: bool = False
    schedule: str = "stream"


POLICY = tuple(field.name for field in dataclasses.fields(BlockPolicy))
SOUGHT = ("batch", "num_batch", "weight", "cache", "hidden")


def read(path: str) -> dict[str, Any]:
    """The values of a file."""
    return read_toml(path)


def build(values: Mapping[str, Any], file: str | None = None) -> dict[str, Any]:
    """Keyword arguments of `sim.offload.simulate.offload`; `InputError` names what is wrong, and what has no effect
    (sizes and shares beside `find`, which finds them)."""
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
    try:
        parsed = RunFile.model_validate(plain)
    except pydantic.ValidationError as error:
        raise from_validation(error, file, list(RunFile.model_fields)) from None
    if parsed.find:
        for name in SOUGHT:
            if name in plain:
                raise InputError("is found by the search", file=file, field=name, value=plain[name],
                                 allowed="without find")  # fmt: skip
    every = {name: getattr(parsed, name) for name in RunFile.model_fields}
    policy = {name: every.pop(name) for name in POLICY}
    if parsed.find and policy["host_attention"]:
        policy["cache"] = [0.0, 1.0, 0.0]  # a place to start from, which the search replaces
    for name in ("weight", "cache", "hidden"):
        policy[name] = tuple(policy[name])
    return {**every, "policy": BlockPolicy(**policy)}
