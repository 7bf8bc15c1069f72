"""Policies and routers as files: found by name, by entry point or by path, and compiled when asked for.

A policy file has a docstring, `HELP`, `OPTIONS` and `plan(replica) -> repeat`; a router file `route(fleet,
request) -> replica`. The function is compiled by numba unless the file says `COMPILED = False`: then it is plain
Python, and the engine steps one iteration at a time with the same semantics.
"""

import hashlib
import importlib
import importlib.metadata
import importlib.util
import pathlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.errors import InputError


@dataclass(frozen=True)
class Option:
    """One option of a policy or router: a number within bounds, or a choice (passed on as its index)."""

    default: float | str
    help: str
    low: float = 1
    high: float = 2**24
    choices: tuple[str, ...] = ()

    def parse(self, field: str, text: str) -> float:
        """The option as a number; `InputError` names what is allowed."""
        if self.choices:
            if text not in self.choices:
                raise InputError("no such choice", field=field, value=text, allowed=self.choices)
            return float(self.choices.index(text))
        allowed = f"{self.low:.12g} to {self.high:.12g}"
        try:
            value = float(text)
        except ValueError:
            raise InputError("not a number", field=field, value=text, allowed=allowed) from None
        if not self.low <= value <= self.high:
            raise InputError("out of range", field=field, value=text, allowed=allowed)
        if isinstance(self.default, int) and value != int(value):
            raise InputError("not a whole number", field=field, value=text, allowed=allowed)
        return value


@dataclass(frozen=True)
class Plugin:
    """A policy or router with its options set."""

    name: str
    kind: str  # "policy" or "router"
    module: ModuleType
    value: Mapping[str, float] = field(default_factory=dict)

    @property
    def compiled(self) -> bool:
        """Whether numba compiles its function."""
        return bool(getattr(self.module, "COMPILED", True))

    @property
    def function(self) -> Callable[..., int]:
        """The plain function."""
        function: Callable[..., int] = getattr(self.module, FUNCTION[self.kind])
        return function

    def vector(self) -> npt.NDArray[np.float64]:
        """Its options in the order of `OPTIONS`, shape `[max(1, len(OPTIONS))]`."""
        return np.array([self.value[name] for name in options_of(self.module)] or [0.0])

    def flag(self, name: str) -> bool:
        """A constant of the file, False where it is not there."""
        return bool(getattr(self.module, name, False))


FUNCTION = {"policy": "plan", "router": "route"}
PACKAGE = {"policy": "sim.serving.policies", "router": "sim.serving.routers"}
_compiled: dict[str, Callable[..., int]] = {}


def options_of(module: ModuleType) -> dict[str, Option]:
    """The options that a file declares."""
    return dict(getattr(module, "OPTIONS", {}))


def names(kind: str) -> list[str]:
    """Names of the policies or routers that come with the project or are installed beside it."""
    folder = pathlib.Path(__file__).parent / PACKAGE[kind].rpartition(".")[2]
    found = {path.stem for path in folder.glob("[a-z]*.py")}
    return sorted(found | {entry.name for entry in _entry_points(kind)})


def find(kind: str, text: str) -> Plugin:
    """The policy or router that `text` names: `NAME`, `NAME:option=value,...`, or a path of a `.py` file.

    >>> find("policy", "sarathi:max_token=256").value["max_token"]
    256.0
    """
    name, _, rest = text.partition(":")
    module = _module(kind, name)
    options = options_of(module)
    given: dict[str, str] = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if key not in options:
            raise InputError("unknown option", field=f"{kind} {name}", value=key, allowed=list(options))
        if not equals:
            raise InputError("an option without a value", field=f"{kind} {name}", value=part, allowed=f"{key}=VALUE")
        given[key] = value
    values = {
        key: option.parse(f"{kind} {name}: {key}", given.get(key, str(option.default)))
        for key, option in options.items()
    }
    return Plugin(pathlib.Path(name).stem if name.endswith(".py") else name, kind, module, values)


def compile_function(plugin: Plugin) -> Callable[..., int]:
    """The plugin's function compiled for the type of the engine's arrays; kept for the process."""
    from kernels.jit import njit_as
    from kernels.serving.types import PLAN_SIGNATURE, ROUTE_SIGNATURE

    key = f"{plugin.kind} {plugin.module.__file__}"
    if key not in _compiled:
        signature = PLAN_SIGNATURE if plugin.kind == "policy" else ROUTE_SIGNATURE
        _compiled[key] = njit_as(signature)(plugin.function)
    return _compiled[key]


def _module(kind: str, name: str) -> ModuleType:
    if name.endswith(".py"):
        module = _from_path(kind, pathlib.Path(name))
    elif name in _own(kind):
        module = importlib.import_module(f"{PACKAGE[kind]}.{name}")
    else:
        entries = [entry for entry in _entry_points(kind) if entry.name == name]
        if not entries:
            raise InputError(f"no such {kind}", field=kind, value=name, allowed=[*names(kind), "a path of a .py file"])
        module = entries[0].load()
    if not callable(getattr(module, FUNCTION[kind], None)):
        raise InputError(f"has no function {FUNCTION[kind]}", file=module.__file__, field=kind, value=name)
    if kind == "policy" and not {"max_seq", "max_token"} <= set(options_of(module)):
        raise InputError("has no options max_seq and max_token", file=module.__file__, field=kind, value=name)
    return module


def _own(kind: str) -> set[str]:
    folder = pathlib.Path(__file__).parent / PACKAGE[kind].rpartition(".")[2]
    return {path.stem for path in folder.glob("[a-z]*.py")}


def _from_path(kind: str, path: pathlib.Path) -> ModuleType:
    if not path.is_file():
        raise InputError("no such file", field=kind, value=str(path))
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    name = f"ridgeline_{kind}_{path.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError("cannot be read as Python", field=kind, value=str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (SyntaxError, ImportError, AttributeError, NameError, TypeError, ValueError) as error:
        raise InputError(f"cannot be read: {error}", file=path, field=kind, value=path.stem) from error
    return module


def _entry_points(kind: str) -> list[Any]:
    return list(importlib.metadata.entry_points(group=f"ridgeline.{kind}"))
