"""Which spans of keys a step's decodes read together: one TOML a variant in `sim/serving/attention/`, or a user's
file."""

import dataclasses
import pathlib

from kernels.errors import InputError
from sim.serving.rules import Spans

MOST = 1 << 24  # rows and tokens, as of a step
FOLDER = pathlib.Path(__file__).parent / "attention"


def names() -> list[str]:
    """The variants that come with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str) -> Spans:
    """The rule of a variant by name or by the path of its TOML (`title`, `source`, and the fields of `Spans`); an
    `InputError` names what is wrong.

    >>> load("relay"), load("paged") == Spans()
    (Spans(least_row=2, least_token=1, common=True), True)
    """
    from sim.run.scenario import read_toml

    if not name.endswith(".toml") and name not in names():
        raise InputError(
            "no such attention", field="attention", value=name, allowed=[*names(), "a path of a .toml file"]
        )
    path = pathlib.Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    values = read_toml(path)
    for key in ("title", "source"):
        if not isinstance(values.pop(key, None), str):
            raise InputError("is missing, or no text", file=path, field=key, value="")
    known = {field.name: field.default for field in dataclasses.fields(Spans)}
    for key, value in values.items():
        if key not in known:
            raise InputError("unknown field", file=path, field=key, value=value, allowed=list(known))
        if type(value) is not type(known[key]):
            allowed = "true or false" if isinstance(known[key], bool) else "a whole number"
            raise InputError("of another type", file=path, field=key, value=value, allowed=allowed)
    rule = Spans(**values)
    if rule.least_row != 0 and not 2 <= rule.least_row <= MOST:
        raise InputError("one row shares nothing", file=path, field="least_row", value=rule.least_row,
                         allowed=f"2 to {MOST}; or 0: every row reads its own")  # fmt: skip
    if not 1 <= rule.least_token <= MOST:
        raise InputError("no span", file=path, field="least_token", value=rule.least_token, allowed=f"1 to {MOST}")
    return rule
