"""The one error that bad input raises: it names file, field, value, what is allowed, and the nearest match."""

from collections.abc import Iterable
from typing import Any


class InputError(ValueError):
    """Bad input from a user: a file, an option or an argument. The command line prints it as one line
    and leaves with `exit_code`.

    >>> raise InputError("no such policy", file="a.toml", field="policy", value="sarati", allowed=["sarathi"])
    Traceback (most recent call last):
    ...
    kernels.errors.InputError: a.toml: policy = 'sarati': no such policy; allowed: sarathi (nearest: sarathi)
    """

    exit_code = 2

    def __init__(
        self,
        message: str,
        *,
        file: object = None,
        line: int | None = None,
        field: str | None = None,
        value: Any = None,
        allowed: str | Iterable[str] | None = None,
    ) -> None:
        self.file, self.line, self.field, self.value = file, line, field, value
        where = [str(file) + (f":{line}" if line is not None else "")] if file is not None else []
        if field is not None:
            where.append(f"{field} = {_shown(value)}")
        text = ": ".join([*where, message])
        if isinstance(allowed, str):
            text += f"; allowed: {allowed}"
        elif allowed is not None:
            text += _choices(_shown(value) if not isinstance(value, str) else value, list(allowed))
        super().__init__(printable(" ".join(text.split())))


def printable(text: str) -> str:
    """The text with what a terminal would obey, or cannot show, written out.

    >>> printable("a\\x1b[31mb")
    'a\\\\x1b[31mb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


class NothingServedError(InputError):
    """Input that is well formed and holds nothing to do: a trace without a request. The command line prints it as one
    line and leaves with exit code 3, as for a run in which no request was served."""

    exit_code = 3


class PlanError(ValueError):
    """A policy or a router asks the engine for what there is not: raised by the functions that such a file imports,
    before anything is touched."""


def _shown(value: Any) -> str:
    try:
        shown = repr(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        shown = f"a whole number of {value.bit_length():,} bits" if isinstance(value, int) else type(value).__name__
    return shown if len(shown) <= 80 else shown[:77] + "..."


def _choices(value: str, allowed: list[str]) -> str:
    import difflib

    same = {name.casefold(): name for name in allowed}
    near = [same[name] for name in difflib.get_close_matches(value.casefold(), same, n=1, cutoff=0.5)]
    shown = ", ".join(allowed[:12]) + (f", ... ({len(allowed)} in all)" if len(allowed) > 12 else "")
    return f"; allowed: {shown}" + (f" (nearest: {near[0]})" if near else "")


def from_validation(error: Any, file: object, fields: Iterable[str] = ()) -> InputError:
    """The first finding of a pydantic `ValidationError` (duck-typed: `.errors()`) as an `InputError`.

    `fields`: the names that an unknown field may have meant.
    """
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or "file"
    if first["type"] == "extra_forbidden":
        return InputError(
            "unknown field",
            file=file,
            field=field.rsplit(".", 1)[-1],
            value=field.rsplit(".", 1)[-1],
            allowed=fields or None,
        )
    if first["type"] == "missing":
        return InputError(f"field {field} is missing", file=file)
    return InputError(first["msg"], file=file, field=field, value=first.get("input"))
