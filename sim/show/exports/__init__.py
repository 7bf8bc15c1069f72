"""A finished run in the formats that other tools read, a file a format: `HELP`, and `export(done)` as bytes.

`ridgeline simulate --export FORMAT=FILE`; a new format is one new file here.
"""

import importlib
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kernels.errors import InputError

if TYPE_CHECKING:
    from sim.run.simulate import Simulation


def formats() -> dict[str, str]:
    """The formats and what each is."""
    names = sorted(path.stem for path in pathlib.Path(__file__).parent.glob("[a-z]*.py"))
    return {name: str(importlib.import_module(f"{__name__}.{name}").HELP) for name in names}


def export(done: "Simulation", name: str) -> bytes:
    """The run in a format. Raises `InputError` where there is no such format, or it cannot say this run."""
    if name not in formats():
        raise InputError("no such format", field="export", value=name, allowed=list(formats()))
    found = importlib.import_module(f"{__name__}.{name}").export(done)
    assert isinstance(found, bytes)
    return found


def parse(words: Sequence[str]) -> dict[pathlib.Path, str]:
    """`FORMAT=FILE` of the command line: the format of each file.

    >>> parse(["aiperf=out.json"])
    {PosixPath('out.json'): 'aiperf'}
    """
    found: dict[pathlib.Path, str] = {}
    for word in words:
        name, equals, file = word.partition("=")
        if not equals or not file:
            raise InputError("not a format and a file", field="export", value=word, allowed="FORMAT=FILE")
        if name not in formats():
            raise InputError("no such format", field="export", value=name, allowed=list(formats()))
        if pathlib.Path(file) in found:
            raise InputError("two formats would be written to it", field="export", value=file)
        found[pathlib.Path(file)] = name
    return found
