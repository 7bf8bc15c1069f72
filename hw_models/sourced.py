"""Numbers of hardware files: each with its source, its range and its unit at the end of its key."""

import math
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from kernels.errors import InputError, from_validation

SI = {
    "TFLOPs": 1e12, "TOPs": 1e12, "GBps": 1e9, "Gbps": 1e9, "GiB": 2.0**30, "MiB": 2.0**20,
    "MHz": 1e6, "us": 1e-6, "W": 1.0, "USDph": 1.0, "bit": 1.0,
}  # fmt: skip
"""The ends that a key may have: what one unit is in FLOP/s, byte/s, bit/s, byte, hertz, second, watt, USD/hour."""

F = TypeVar("F", bound="Table")


class Sourced(BaseModel):
    """A number and where it comes from."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    value: float
    source: str = ""

    @model_validator(mode="before")
    @classmethod
    def _bare_number(cls, given: Any) -> Any:
        if isinstance(given, bool) or not isinstance(given, int | float | dict):
            raise PydanticCustomError("number", 'expected a number or { value = number, source = "..." }')
        return given if isinstance(given, dict) else {"value": given}


def quantity(low: float, high: float, *, whole: bool = False, absent: float | None = None) -> Any:
    """A field with its allowed range (refused outside: no such machine exists); `absent`: value where not given."""
    limits: dict[str, Any] = {"low": low, "high": high, "whole": whole}
    if absent is None:
        return Field(json_schema_extra=limits)
    return Field(default=Sourced(value=absent, source="absent"), json_schema_extra=limits)


class Table(BaseModel):
    """A table of a hardware file."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True, strict=True)


class HardwareFile(Table):
    """What every kind of file shares."""

    kind: str
    title: str
    alias: list[str] = []


def parse(schema: type[F], raw: Mapping[str, Any], file: str) -> F:
    """Validate a file's table; `InputError` names file, field, value and what is allowed."""
    try:
        parsed = schema.model_validate(dict(raw))
    except ValidationError as error:
        raise from_validation(error, file, [name for name in schema.model_fields if name != "kind"]) from None
    for name, number in numbers(parsed).items():
        _check_range(schema, name, number.value, file)
    return parsed


def numbers(parsed: Table) -> dict[str, Sourced]:
    """Field name to number, in the order of the schema, those that were given."""
    given = parsed.model_fields_set
    return {name: value for name, value in parsed if isinstance(value, Sourced) and name in given}


def _check_range(schema: type[Table], name: str, value: float, file: str) -> None:
    limits = schema.model_fields[name].json_schema_extra
    assert isinstance(limits, dict)
    low, high = float(str(limits["low"])), float(str(limits["high"]))
    unit = name.rsplit("_", 1)[-1]
    allowed = f"{low:g} to {high:g}" + (f" {unit}" if unit in SI else "")
    if not (math.isfinite(value) and low <= value <= high):
        raise InputError("out of range", file=file, field=name, value=value, allowed=allowed)
    if limits["whole"] and value != int(value):
        raise InputError("not a whole number", file=file, field=name, value=value, allowed=allowed)


def si(parsed: Table, name: str) -> float:
    """A number of a parsed file in SI units (the end of its name says what it was written in)."""
    return float(getattr(parsed, name).value) * SI.get(name.rsplit("_", 1)[-1], 1.0)


def sources(parsed: Table) -> dict[str, str]:
    """Field name to source ("" where none is given)."""
    return {name: number.source for name, number in numbers(parsed).items()}
