"""Objects of JSON files, read strictly: what is missing, of another kind or out of range is named with its line."""

import pathlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kernels.content import MAX_JSON_BYTE, json_of
from kernels.errors import InputError, NothingServedError
from workloads.requests import MAX_TOKEN
from workloads.traces._table import read_byte

MAX_CLOCK = 1e15  # of a reading in whatever unit, but for nanoseconds since 1970
NS_SINCE_1970 = (10**18, 4 * 10**18)  # 2001 to 2096


@dataclass(frozen=True)
class Row:
    """An object of a file: its line in JSON Lines, or the words before its fields elsewhere (`requests[3].`)."""

    path: pathlib.Path
    value: dict[str, Any]
    line: int | None = None
    prefix: str = ""

    def error(self, field: str, message: str, allowed: str | None = None) -> InputError:
        """The error of one field, with the value as it stands."""
        value = self.value.get(field)
        return InputError(
            message, file=self.path, line=self.line, field=self.prefix + field, value=value, allowed=allowed
        )

    def has(self, field: str) -> bool:
        """Whether the field is there and not null."""
        return self.value.get(field) is not None

    def number(self, field: str, low: float, high: float, whole: bool = False) -> Any:
        """A number within a range."""
        if field not in self.value:
            raise InputError(f"field {self.prefix}{field} is missing", file=self.path, line=self.line)
        found = self.value[field]
        if isinstance(found, bool) or not isinstance(found, int if whole else int | float) or not low <= found <= high:
            kind = "a whole number" if whole else "a number"
            raise self.error(field, f"not {kind} in range", f"{low:.15g} to {high:.15g}")
        return found

    def token(self, field: str, low: int = 1) -> int:
        """A count of tokens."""
        return int(self.number(field, low, MAX_TOKEN, whole=True))

    def text(self, field: str) -> str:
        """A text."""
        if not isinstance(self.value.get(field), str):
            raise self.error(field, "not a text")
        return str(self.value[field])

    def items(self, field: str) -> list[Any]:
        """A list."""
        if not isinstance(self.value.get(field), list):
            raise self.error(field, "not a list")
        return list(self.value[field])

    def ids(self, field: str) -> list[int]:
        """A list of whole numbers that name something."""
        found = self.items(field)
        for item in found:
            if isinstance(item, bool) or not isinstance(item, int) or not 0 <= item < 2**63:
                raise InputError("not a whole number in range", file=self.path, line=self.line,
                                 field=self.prefix + field, value=item, allowed=f"0 to {2**63 - 1}")  # fmt: skip
        return found

    def inner(self, field: str) -> "Row":
        """The object of a field."""
        if field not in self.value:
            raise InputError(f"field {self.prefix}{field} is missing", file=self.path, line=self.line)
        return self._of(self.value[field], field)

    def objects(self, field: str) -> "Iterator[Row]":
        """The objects of a list."""
        for index, item in enumerate(self.items(field)):
            yield self._of(item, f"{field}[{index}]")

    def _of(self, value: Any, name: str) -> "Row":
        if not isinstance(value, dict):
            raise InputError("not a JSON object", file=self.path, line=self.line, field=self.prefix + name, value=value)
        return Row(self.path, value, self.line, f"{self.prefix}{name}.")


def lines(path: pathlib.Path) -> Iterator[Row]:
    """The objects of a JSON Lines file; blank lines are none."""
    for number, line in enumerate(read_byte(path).rstrip().split(b"\n"), start=1):
        if not line.strip() and number > 1:
            continue
        try:
            value = json_of(line, path, number)
        except InputError:
            value = None
        if not isinstance(value, dict):
            shown = line[:60].decode(errors="replace")
            raise InputError("not a JSON object", file=path, line=number, field="line", value=shown)
        yield Row(path, value, number)


def whole(path: pathlib.Path) -> Row:
    """The one object of a JSON file."""
    value = json_of(read_byte(path, MAX_JSON_BYTE), path)
    if not isinstance(value, dict):
        raise InputError("not a JSON object", file=path)
    return Row(path, value)


def documents(path: pathlib.Path) -> Iterator[Row]:
    """The objects of a file that has one, over as many lines as it likes, or one a line."""
    data = read_byte(path, MAX_JSON_BYTE).strip()
    first, _, more = data.partition(b"\n")
    try:
        one_a_line = bool(more) and isinstance(json_of(first, path), dict)
    except InputError:
        one_a_line = False
    yield from lines(path) if one_a_line else [whole(path)]


def array(path: pathlib.Path) -> Iterator[Row]:
    """The objects of a JSON file that is a list."""
    value = json_of(read_byte(path, MAX_JSON_BYTE), path)
    if not isinstance(value, list):
        raise InputError("not a JSON list", file=path)
    if not value:
        raise NothingServedError("the list is empty", file=path)
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            raise InputError("not a JSON object", file=path, field=f"[{index}]", value=item)
        yield Row(path, item, None, f"[{index}].")


def pick(path: pathlib.Path, runs: list[str], given: int | None) -> int:
    """Which of several runs of a file is wanted, from 0; where there are several, `run=` says it."""
    if not runs:
        raise NothingServedError("holds no run", file=path)
    if given is None and len(runs) > 1:
        shown = "; ".join(f"run={k}: {run}" for k, run in enumerate(runs[:12], start=1))
        more = f"; ... ({len(runs)} in all)" if len(runs) > 12 else ""
        raise InputError("several runs in one file", file=path, field="run", value="", allowed=shown + more)
    index = 1 if given is None else given
    if not 1 <= index <= len(runs):
        raise InputError("no such run", file=path, field="run", value=index, allowed=f"1 to {len(runs)}")
    return index - 1
