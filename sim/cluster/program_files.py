"""Kinds of programs as files: found by name or path, with their options."""

import inspect
import pathlib
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from kernels.errors import InputError
from sim.cluster.plain_files import load
from sim.serving.plugin import option_values, options_of


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


def find(text: str) -> ProgramKind:
    """The kind that `text` names: `NAME`, `NAME:option=value,...`, or a path of a `.py` file.

    >>> find("chain_of_thought:chunk=128").option["chunk"]
    128.0
    """
    name, _, rest = text.partition(":")
    module = load("program", name)
    function = getattr(module, "program", None)
    if not inspect.isgeneratorfunction(function) or len(inspect.signature(function).parameters) != 3:
        raise InputError("has no generator program(p, job, option)", file=module.__file__, field="program", value=name)
    values = option_values("program", name, rest, options_of(module))
    return ProgramKind(pathlib.Path(name).stem if name.endswith(".py") else name, module, values)
