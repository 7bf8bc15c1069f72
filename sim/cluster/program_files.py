"""Kinds of programs as files: found by name or path, with their options."""

import importlib
import inspect
import pathlib
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from kernels.errors import InputError
from sim.serving.plugin import module_from, options_of

FOLDER = pathlib.Path(__file__).parent / "programs"


@dataclass(frozen=True)
class Job:
    """What a program is to do: tokens of its prompt, of the answer if nobody stops it, and what is predicted of it."""

    prompt: int
    output: int
    predicted: int


@dataclass(frozen=True)
class ProgramKind:
    """A kind with its options set."""

    name: str
    module: ModuleType
    option: Mapping[str, float]

    def body(self, job: Job) -> Callable[[Any], Generator[Any, Any, None]]:
        """The generator of one program."""
        program, option = self.module.program, self.option
        return lambda p: program(p, job, option)


def names() -> list[str]:
    """The kinds that come with the project."""
    return sorted(path.stem for path in FOLDER.glob("[a-z]*.py"))


def find(text: str) -> ProgramKind:
    """The kind that `text` names: `NAME`, `NAME:option=value,...`, or a path of a `.py` file.

    >>> find("chain_of_thought:chunk=128").option["chunk"]
    128.0
    """
    name, _, rest = text.partition(":")
    if name.endswith(".py"):
        module = module_from("program", pathlib.Path(name))
    elif name in names():
        module = importlib.import_module(f"sim.cluster.programs.{name}")
    else:
        raise InputError("no such program", field="program", value=name, allowed=[*names(), "a path of a .py file"])
    function = getattr(module, "program", None)
    if not inspect.isgeneratorfunction(function) or len(inspect.signature(function).parameters) != 3:
        raise InputError("has no generator program(p, job, option)", file=module.__file__, field="program", value=name)
    options = options_of(module)
    given: dict[str, str] = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if key not in options or not equals or key in given:
            raise InputError("not an option of it, once", field=f"program {name}", value=part, allowed=list(options))
        given[key] = value
    value_of = {
        key: option.parse(f"program {name}: {key}", given.get(key, str(option.default)))
        for key, option in options.items()
    }
    return ProgramKind(pathlib.Path(name).stem if name.endswith(".py") else name, module, value_of)
