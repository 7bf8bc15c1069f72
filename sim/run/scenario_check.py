"""What a scenario may say: types and ranges of its fields as `Scenario` declares them, and fields that need another.

One check for the three forms of a scenario. Types are strict: `seed = true`, `run_ahead = "off"` and `tp = 2.0` are
errors, not conversions; numpy's scalars and paths count as the plain values that they hold.
"""

import dataclasses
import functools
import os
import typing
from collections.abc import Callable, Mapping
from typing import Any

from annotated_types import Ge, Gt, Le

from kernels.errors import InputError

NOT_APART = ("pp", "ep", "eplb", "speculate", "draft_model", "lora_rank", "attention", "kernels", "dispatch",
             "price_USDph")  # fmt: skip
"""Fields that nobody has carried over to layers on two machines."""
KIND_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def checked(values: Mapping[str, Any], file_of: Callable[[str], object] = lambda field: None) -> dict[str, Any]:
    """The same values in the types of the fields, or an `InputError` that names the first field that is wrong and its
    file (`file_of(field)`)."""
    from pydantic_core import ValidationError

    from sim.record.slo import parse_slo
    from sim.run.scenario import FIELD_NAMES

    plain = {name: _plain(value) for name, value in values.items()}
    for name in plain:
        if name not in FIELD_NAMES:
            raise InputError("unknown field", file=file_of(name), field=name, value=name, allowed=FIELD_NAMES)
    try:
        found: dict[str, Any] = {**_defaults(), **_validator().validate_python(plain)}
    except ValidationError as error:
        name = str(error.errors(include_url=False, include_context=False)[0]["loc"][0])
        raise _wrong(name, plain[name], file_of(name)) from None
    for name, value, message, may_be in _together(found):
        raise InputError(message, file=file_of(name), field=name, value=value, allowed=may_be)
    parse_slo(found["goodput"], file_of("goodput"))
    return {name: found[name] for name in plain}


@functools.cache
def hints() -> dict[str, Any]:
    """The type of each field, with its range."""
    from sim.run.scenario import Scenario

    return typing.get_type_hints(Scenario, include_extras=True)


def kind(hint: Any) -> type:
    """bool, int, float or str: what a field holds, whatever its range or choices.

    >>> kind(typing.Annotated[int, Ge(1)]), kind(typing.Literal["a", "b"])
    (<class 'int'>, <class 'str'>)
    """
    base = typing.get_args(hint)[0] if hasattr(hint, "__metadata__") else hint
    return str if typing.get_origin(base) is typing.Literal else base


def allowed(hint: Any) -> str | tuple[str, ...]:
    """What a field may hold, in words: its choices, or its range.

    >>> allowed(typing.Annotated[int, Ge(1), Le(1024)]), allowed(typing.Annotated[float, Gt(0), Le(1)]), allowed(bool)
    ('1 to 1024', 'above 0, at most 1', 'true or false')
    """
    if typing.get_origin(hint) is typing.Literal:
        return typing.get_args(hint)
    low, high, above = "", "", ""
    for bound in getattr(hint, "__metadata__", ()):
        low = _number(bound.ge) if isinstance(bound, Ge) else low
        high = _number(bound.le) if isinstance(bound, Le) else high
        above = _number(bound.gt) if isinstance(bound, Gt) else above
    if not high:
        return KIND_WORDS[kind(hint)]
    return f"above {above}, at most {high}" if above else f"{low} to {high}"


def _number(value: Any) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:g}"


@functools.cache
def _defaults() -> dict[str, Any]:
    from sim.run.scenario import Scenario

    return {field.name: field.default for field in dataclasses.fields(Scenario)}


@functools.cache
def _validator() -> Any:
    """Pydantic's own validator of the fields that are given. It is made from the types here, which takes a twentieth
    of the time of making a model."""
    from pydantic_core import SchemaValidator, core_schema

    made: dict[type, Callable[..., Any]] = {
        bool: core_schema.bool_schema,
        int: core_schema.int_schema,
        float: functools.partial(core_schema.float_schema, allow_inf_nan=False),
        str: core_schema.str_schema,
    }
    fields = {}
    for name, hint in hints().items():
        bounds = {
            key: value
            for bound in getattr(hint, "__metadata__", ())
            for key, value in dataclasses.asdict(bound).items()
        }
        schema = made[kind(hint)](strict=True, **bounds)
        if typing.get_origin(hint) is typing.Literal:
            schema = core_schema.literal_schema(list(typing.get_args(hint)))
        fields[name] = core_schema.typed_dict_field(schema, required=False)
    return SchemaValidator(core_schema.typed_dict_schema(fields))


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item()
    return value


def _wrong(name: str, value: Any, file: object) -> InputError:
    hint = hints()[name]
    expected = kind(hint)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    right_kind = {bool: isinstance(value, bool), str: isinstance(value, str), float: number}.get(
        expected, number and not isinstance(value, float)
    )
    message = f"not {KIND_WORDS[expected]}"
    if right_kind:
        message = f"no such {name}" if expected is str else "out of range"
    return InputError(message, file=file, field=name, value=value, allowed=allowed(hint))


def _together(value: dict[str, Any]) -> typing.Iterator[tuple[str, Any, str, str]]:
    """Field, value, message and what is allowed of everything that one range cannot say; each default is right."""
    for name, held in value.items():
        if isinstance(held, str) and "\0" in held:
            yield name, held, "holds a null character", "text without one"
    for name in ("model", "system", "requests", "policy", "router", "engine", "attention"):
        if not value[name].strip():
            yield name, value[name], "is empty", "a name or a path"
    if -1 < value["watermark"] < 0:
        yield "watermark", value["watermark"], "out of range", "0 to 0.5; or -1, the policy's"
    if -1 < value["expert_skew"] < 0:
        yield "expert_skew", value["expert_skew"], "out of range", "0 to 4; or -1, the engine profile's"
    if value["max_model_len"] == 1:
        yield "max_model_len", 1, "no room for a prompt and an output token", "0, the model's; or 2 and more"
    if value["sequence_parallel"] and value["tp"] == 1:
        yield "sequence_parallel", True, "has no effect at tp = 1", "false; or tp above 1"
    if value["preemption"] == "swap" and value["swap_GiB"] == 0:
        yield "swap_GiB", 0.0, "swapping needs host memory", "above 0"
    if value["preemption"] != "swap" and value["swap_GiB"] > 0:
        yield (
            "swap_GiB",
            value["swap_GiB"],
            f"has no effect with preemption = {value['preemption']}",
            "0; or preemption = swap",
        )
    if not value["speculate"].strip() and value["speculate"]:
        yield "speculate", value["speculate"], "is blank", "empty, or a progress model"
    if value["draft_model"] and not value["speculate"]:
        yield "draft_model", value["draft_model"], "has no effect without speculate", "empty; or speculate = chain"
    if value["draft_tp"] > 1 and not value["draft_model"]:
        yield "draft_tp", value["draft_tp"], "has no effect without draft_model", "1; or a draft model"
    if value["draft_tp"] > value["tp"]:
        yield "draft_tp", value["draft_tp"], f"more devices than tp = {value['tp']}", f"1 to {value['tp']}"
    if value["attention"] != _default("attention") and not value["prefix_cache"]:
        yield "attention", value["attention"], "has no effect: no block is shared without prefix_cache", "paged"
    if value["attention"] != _default("attention") and value["attn_dp"] > 1:
        yield "attention", value["attention"], "attention groups hold their prefixes apart", "paged; or attn_dp = 1"
    if value["attention"] != _default("attention") and value["speculate"]:
        yield "speculate", value["speculate"], "a verified span is read by its own row", "empty; or attention = paged"
    for name in ("ffn_tp", "ffn_ep", "num_microbatch"):
        if value[name] > 1 and not value["ffn_system"]:
            yield name, value[name], "has no effect without ffn_system", "1; or a machine for the feed-forward parts"
    if value["ffn_system"]:
        for name in NOT_APART:
            if value[name] != _default(name):
                yield name, value[name], "is not done on two machines (ffn_system)", f"{_default(name)!r}"
        if value["fidelity"] == "replay":
            yield "fidelity", "replay", "layers on two machines (ffn_system) are not replayed", "sol, calibrated"
    if value["kv_budget"] and value["speculate"]:
        yield "speculate", value["speculate"], "what a budget of tokens drops is decided a token a step", "empty"
    if value["lora_rank"] and value["speculate"]:
        yield "speculate", value["speculate"], "nothing is known of drafts for adapters", "empty"
    if value["attention"] != _default("attention") and value["kv_budget"]:
        yield "attention", value["attention"], "has no effect: a sequence with a kv_budget shares no block", "paged"
    for name in ("kv_tiers", "kv_evict"):
        if value[name] != _default(name):
            neutral = _default(name) or "empty"
            if not value["prefix_cache"]:
                yield name, value[name], "has no effect without prefix_cache", neutral
            if value["kv_budget"]:
                yield name, value[name], "has no effect: a sequence with a kv_budget shares no block", neutral
    if value["kv_tiers"] and value["fidelity"] == "replay":
        yield "kv_tiers", value["kv_tiers"], "moves between tiers are not replayed", "empty; or fidelity = calibrated"
    if value["kv_tiers"] and value["attn_dp"] > 1:
        yield "kv_tiers", value["kv_tiers"], "attention groups hold their prefixes apart", "empty; or attn_dp = 1"
    if value["fidelity"] == "sol" and value["engine"] not in (_default("engine"), "none"):
        yield "engine", value["engine"], "has no effect at the speed of light, which has no host time", "none"


def _default(name: str) -> Any:
    from sim.run.scenario import Scenario

    return Scenario.__dataclass_fields__[name].default
