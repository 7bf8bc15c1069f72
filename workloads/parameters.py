"""Named values of a load: what a key means, the range it may take, and how it reads and writes as text."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from kernels.errors import InputError
from workloads.lengths import Length, parse_length, show


class Parameter(NamedTuple):
    """One key: its meaning, kind, default (None: none) and allowed range."""

    help: str
    kind: str = "float"  # float, int, length, stages, shares, text
    default: Any = None
    low: float = 0.0
    high: float = 1e9
    required: bool = False


Value = float | int | str | Length | tuple[float, ...] | tuple[tuple[float, float], ...]


def parse_values(parameters: Mapping[str, Parameter], given: Mapping[str, Any], owner: str) -> dict[str, Value]:
    """Checked values of the keys that are given, in the order in which `parameters` declares them.

    An unknown key, a value out of range or a missing one is an `InputError`.
    """
    for key in given:
        if key not in parameters:
            raise InputError(f"unknown parameter of {owner}", field="requests", value=key, allowed=parameters)
    for key, parameter in parameters.items():
        if parameter.required and key not in given:
            raise InputError(f"{owner} needs {key}= ({parameter.help})", field="requests", value=owner)
    return {key: parse_value(parameters[key], given[key], key) for key in parameters if key in given}


def parse_value(parameter: Parameter, given: Any, field: str) -> Value:
    """One value from text or from TOML."""
    if parameter.kind == "length":
        return parse_length(given, field)
    if parameter.kind == "text":
        if not str(given):
            raise InputError("is empty", field=field, value=given)
        return str(given)
    if parameter.kind == "stages":
        return _stages(parameter, given, field)
    if parameter.kind == "shares":
        return _shares(given, field)
    number = _number(given, field, parameter.low, parameter.high)
    if parameter.kind == "int":
        if not number.is_integer():
            raise InputError("not a whole number", field=field, value=given)
        return int(number)
    return number


def _number(given: Any, field: str, low: float, high: float) -> float:
    allowed = f"{show(float(low))} to {show(float(high))}"
    try:
        number = float(given)
    except OverflowError:  # a whole number that no float holds
        number = math.inf
    except (TypeError, ValueError):
        raise InputError("not a number", field=field, value=given, allowed=allowed) from None
    if isinstance(given, bool) or (isinstance(given, str) and "_" in given) or not low <= number <= high:
        raise InputError("out of range", field=field, value=given, allowed=allowed)
    return number


def _stages(parameter: Parameter, given: Any, field: str) -> tuple[tuple[float, float], ...]:
    """`5:600+10:600` or `[[5, 600], [10, 600]]`: requests a second, seconds."""
    rows = [row.split(":") for row in given.split("+")] if isinstance(given, str) else given
    allowed = "rate:seconds+rate:seconds+..."
    if not isinstance(rows, list | tuple) or not rows:
        raise InputError("not a list of stages", field=field, value=given, allowed=allowed)
    stages = []
    for row in rows:
        if not isinstance(row, list | tuple) or len(row) != 2:
            raise InputError("not a stage", field=field, value=row, allowed=allowed)
        rate = _number(row[0], f"{field} rate", parameter.low, parameter.high)
        stages.append((rate, _number(row[1], f"{field} seconds", 1e-6, 9e6)))
    if not any(rate for rate, _ in stages):
        raise InputError("no stage has a rate", field=field, value=given, allowed=allowed)
    return tuple(stages)


def _shares(given: Any, field: str) -> tuple[float, ...]:
    """`0.8+0.2` or `[0.8, 0.2]`: parts that add up to 1."""
    items = given.split("+") if isinstance(given, str) else given
    if not isinstance(items, list | tuple) or not 1 <= len(items) <= 128:
        raise InputError("not a list of shares", field=field, value=given, allowed="share+share+..., 128 at most")
    shares = tuple(_number(item, field, 0.0, 1.0) for item in items)
    if abs(sum(shares) - 1.0) > 1e-6:
        raise InputError("the shares do not add up to 1", field=field, value=given, allowed="share+share+...")
    return shares


def show_value(value: Value) -> str:
    """The text that `parse_value` reads back.

    >>> show_value(((5.0, 600.0), (10.0, 600.0))), show_value((0.8, 0.2)), show_value(2.0)
    ('5:600+10:600', '0.8+0.2', '2')
    """
    if isinstance(value, tuple):
        return "+".join(":".join(map(show, item)) if isinstance(item, tuple) else show(item) for item in value)
    return str(value) if isinstance(value, Length | str) else show(float(value))


def table_value(value: Value) -> Any:
    """The TOML form of a value."""
    if isinstance(value, tuple):
        return [list(item) if isinstance(item, tuple) else item for item in value]
    if isinstance(value, Length):
        return {"distribution": value.distribution, **dict(value.values)}
    return value


MAX_CONCURRENCY = Parameter(
    "requests (with turns: sessions) under way at most; who arrives meanwhile is sent when one ends",
    "int", low=1, high=10_000_000,
)  # fmt: skip
NUM_REQUEST = Parameter("requests to make", "int", low=1, high=20_000_000)
