"""What a sweep varies: `FIELD=VALUES` as text, or a field and a list, and the scenario at a point.

`VALUES` are separated by commas, or by semicolons where a value holds commas of its own (a comma before `key=` belongs
to the value: `policy=vllm_v1,sarathi:max_token=512,max_seq=8` are two). A number may be a range `low:high:step` whose
end is included. A field that is itself a text of options has parts: `requests.rate`, `requests.prompt.mean`,
`policy.max_token`.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from kernels.errors import InputError
from sim.run.scenario import FIELD_NAMES, Scenario, from_mapping
from sim.run.scenario_arguments import read_text
from sim.run.scenario_check import hints, kind

MAX_POINT = 1_000_000
PARTED = ("requests", "policy", "router", "speculate", "dispatch")  # `NAME:key=value,...`
_RANGE = re.compile(r"[+-]?[0-9.]+(?:e[+-]?[0-9]+)?(?::[+-]?[0-9.]+(?:e[+-]?[0-9]+)?){1,2}", re.I)
_OPTION = re.compile(r"[\w.]+=")


@dataclasses.dataclass(frozen=True)
class Axis:
    """A field (or a part of one) and the values that it takes, in order."""

    name: str
    values: tuple[Any, ...]

    @property
    def field(self) -> str:
        """The scenario's field that it changes."""
        return self.name.partition(".")[0]


def parse_axes(given: Sequence[str] | Mapping[str, Any]) -> list[Axis]:
    """Axes of `FIELD=VALUES` texts, or of a mapping from names to values (a text as in `FIELD=VALUES`, or a sequence).

    >>> parse_axes(["seed=0:2:1", "policy=vllm_v1,sarathi"])
    [Axis(name='seed', values=(0, 1, 2)), Axis(name='policy', values=('vllm_v1', 'sarathi'))]
    >>> parse_axes(["sed=0:2:1"])
    Traceback (most recent call last):
    ...
    kernels.errors.InputError: over = 'sed': no such field; allowed: model, ... (nearest: seed)
    """
    pairs: list[tuple[str, Any]]
    if isinstance(given, Mapping):
        pairs = list(given.items())
    else:
        pairs = []
        for text in given:
            name, equals, values = text.partition("=")
            if not equals:
                raise InputError("not FIELD=VALUES", field="over", value=text, allowed=FIELD_NAMES)
            pairs.append((name.strip(), values))
    if not pairs:
        raise InputError("names no field to vary", field="over", value="", allowed="FIELD=VALUES")
    found: list[Axis] = []
    for name, values in pairs:
        axis = Axis(name, _values(_checked_name(name), values))
        for other in found:
            if axis.name == other.name or (axis.field == other.field and "." not in axis.name + other.name):
                raise InputError("given twice", field="over", value=name)
        whole = {one.name for one in (*found, axis)}
        if any("." in one.name and one.field in whole for one in (*found, axis)):
            raise InputError("varied whole and in part", field="over", value=name, allowed="one of the two")
        found.append(axis)
    if math.prod(len(axis.values) for axis in found) > MAX_POINT:
        raise InputError("too many points", field="over", value=", ".join(axis.name for axis in found),
                         allowed=f"{MAX_POINT:,} at most")  # fmt: skip
    return found


def grid(axes: Sequence[Axis]) -> Iterator[tuple[Any, ...]]:
    """Every combination, the last axis fastest."""
    return itertools.product(*(axis.values for axis in axes))


def at(base: Scenario, axes: Sequence[Axis], values: Sequence[Any]) -> Scenario:
    """The scenario at a point.

    >>> at(Scenario(requests="poisson:rate=2,n=10"), parse_axes(["requests.rate=1,4"]), (4,)).requests
    'poisson:rate=4,n=10'
    """
    changed = dataclasses.asdict(base)
    for axis, value in zip(axes, values, strict=True):
        if "." not in axis.name:
            changed[axis.field] = value
        else:
            changed[axis.field] = _with_part(axis.name, changed[axis.field], axis.name.split(".")[1:], str(value))
    return from_mapping(changed)


def _checked_name(name: str) -> str:
    field, dot, _ = name.partition(".")
    if field not in FIELD_NAMES:
        raise InputError("no such field", field="over", value=field, allowed=FIELD_NAMES)
    if dot and field not in PARTED:
        raise InputError("has no parts", field="over", value=name, allowed=[f"{each}.KEY" for each in PARTED])
    if dot and not 2 <= len([part for part in name.split(".") if part]) == name.count(".") + 1 <= 3:
        raise InputError("not a part", field="over", value=name, allowed="FIELD.KEY or FIELD.KEY.KEY")
    return name


def _values(name: str, given: Any) -> tuple[Any, ...]:
    if not isinstance(given, str):
        if isinstance(given, Mapping) or not hasattr(given, "__iter__"):
            given = [given]
        held = tuple(itertools.islice(given, MAX_POINT + 1))
        if not held:
            raise InputError("has no values", field=name, value="")
        return held
    numeric = "." in name or kind(hints()[name]) in (int, float)
    found: list[Any] = []
    for piece in _pieces(given):
        if numeric and _RANGE.fullmatch(piece):
            found.extend(_range(name, piece))
        elif "." in name:
            found.append(_number(piece))
        elif kind(hints()[name]) is bool:
            found.append({"true": True, "false": False}.get(piece, piece))
        else:
            found.append(read_text(name, piece))
        if len(found) > MAX_POINT:
            raise InputError("too many values", field=name, value=given, allowed=f"{MAX_POINT:,} at most")
    return tuple(found)


def _pieces(text: str) -> list[str]:
    if ";" in text:
        return [piece.strip() for piece in text.split(";")]
    pieces: list[str] = []
    for piece in text.split(","):
        if pieces and _OPTION.match(piece.strip()):
            pieces[-1] += f",{piece}"
        else:
            pieces.append(piece)
    return [piece.strip() for piece in pieces]


def _range(name: str, text: str) -> Iterator[int | float]:
    """Numbers from low to high, the end included, exact in decimal."""
    try:
        low, high, step = (Decimal(part) for part in (text if text.count(":") == 2 else f"{text}:1").split(":"))
    except InvalidOperation:
        raise InputError("not a range", field=name, value=text, allowed="low:high:step") from None
    if not step > 0 or not high >= low:
        raise InputError("not a range", field=name, value=text, allowed="low:high:step, low at most high, step above 0")
    if (high - low) / step > MAX_POINT:
        raise InputError("too many values", field=name, value=text, allowed=f"{MAX_POINT:,} at most")
    num = int((high - low) // step)
    if low + num * step != high:
        near = f"{_plain(low + num * step)} or {_plain(low + (num + 1) * step)}"
        raise InputError("its steps do not meet its end", field=name, value=text, allowed=f"an end of {near}")
    whole = all(part == part.to_integral_value() for part in (low, step))
    if not whole and "." not in name and kind(hints()[name]) is int:
        raise InputError("not whole numbers", field=name, value=text)
    for k in range(num + 1):
        yield int(low + k * step) if whole else float(low + k * step)


def _plain(value: Decimal) -> str:
    return f"{float(value):.12g}"


def _number(text: str) -> int | float | str:
    for made in (int, float):
        try:
            value = made(text)
        except ValueError:
            continue
        return value if math.isfinite(value) else text
    return text


def _with_part(name: str, text: str, keys: Sequence[str], value: str) -> str:
    """`NAME:key=value,...` with one of its values (or an option of that value) set."""
    head, colon, body = text.partition(":")
    if not text:
        raise InputError(f"is empty, so that {name} is no part of it", field=name.partition(".")[0], value=text)
    parts = [part for part in body.split(",") if part] if colon else []
    at_key = next((k for k, part in enumerate(parts) if part.partition("=")[0] == keys[0]), None)
    if len(keys) == 2:
        if at_key is None:
            raise InputError(f"has no {keys[0]}, of which {name} is a part", field=name.partition(".")[0], value=text)
        inner, *options = parts[at_key].partition("=")[2].split(":")
        options = [part for part in options if part.partition("=")[0] != keys[1]]
        value = ":".join([inner, *options, f"{keys[1]}={value}"])
    made = f"{keys[0]}={value}"
    parts = [*parts, made] if at_key is None else [*parts[:at_key], made, *parts[at_key + 1 :]]
    return f"{head}:{','.join(parts)}"
