"""Policies, routers and progress models as files: found by name, by entry point or by path, compiled when asked for.

A policy file has a docstring, `HELP`, `OPTIONS` and `plan(replica) -> repeat`; a router file `route(fleet,
request) -> replica`; a progress file `propose(replica) -> repeat`, `accept(replica, sequence, num_token) -> num_token`
and, in plain Python, `most(value) -> num_token`. Functions are compiled by numba unless the file says
`COMPILED = False`: then they are plain Python, and the engine steps one iteration at a time with the same semantics.
"""

import ast
import hashlib
import importlib
import importlib.metadata
import inspect
import math
import os
import pathlib
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels import blame, cache, imports, turns, users
from kernels.engine.records import MAX_OPTION
from kernels.errors import InputError
from kernels.jit import PLAIN
from sim.run import stop


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
    """A policy, router or progress model with its options set; of a policy also the model that it plans under."""

    name: str
    kind: str  # of `FUNCTION`
    module: ModuleType
    value: Mapping[str, float] = field(default_factory=dict)
    progress: "Plugin | None" = None

    @property
    def compiled(self) -> bool:
        """Whether numba compiles its function."""
        own = bool(getattr(self.module, "COMPILED", True))
        return own and (self.progress is None or self.progress.compiled)

    @property
    def function(self) -> Callable[..., int]:
        """The plain function."""
        function: Callable[..., int] = getattr(self.module, FUNCTION[self.kind])
        if self.progress is not None:
            from sim.serving.speculation import planned

            return planned(function, self.progress.module)
        return _whole(function) if self.kind == "router" else function

    @property
    def line(self) -> int:
        """Where its function begins."""
        return int(getattr(self.module, FUNCTION[self.kind]).__code__.co_firstlineno)

    def vector(self) -> npt.NDArray[np.float64]:
        """Its options in the order of `OPTIONS`, shape `[max(1, len(OPTIONS))]`."""
        return np.array([self.value[name] for name in options_of(self.module)] or [0.0])

    def flag(self, name: str) -> bool:
        """A constant of the file, False where it is not there."""
        return bool(getattr(self.module, name, False))


FUNCTION = {"policy": "plan", "router": "route", "progress": "propose"}
PACKAGE = {"policy": "sim.serving.policies", "router": "sim.serving.routers", "progress": "sim.serving.progress"}
ARGUMENTS = {
    "policy": {"plan": "plan(replica)"}, "router": {"route": "route(fleet, request)"},
    "progress": {"propose": "propose(replica)", "accept": "accept(replica, sequence, num_token)",
                 "most": "most(value)"},
}  # fmt: skip
_compiled: dict[tuple[str, str], Callable[..., int]] = {}  # by file and key of its content
_stands_on: dict[str, dict[str, str]] = {}  # by file: modules from outside, and the keys of their content


def options_of(module: ModuleType) -> dict[str, Option]:
    """The options that a file declares."""
    return dict(getattr(module, "OPTIONS", {}))


def _check_options(module: ModuleType, kind: str) -> None:
    """`OPTIONS` is a dictionary of `Option`, each with a default that it would take itself."""
    declared = getattr(module, "OPTIONS", {})
    file, line = module.__file__, _line_of(module, "OPTIONS")
    if not isinstance(declared, Mapping):
        raise InputError("not a dictionary of Option", file=file, line=line, field="OPTIONS", value=declared)
    for name, option in declared.items():
        if not isinstance(name, str) or not name.isidentifier() or not isinstance(option, Option):
            raise InputError("an option is a name and an Option", file=file, line=line, field=str(name), value=option)
        try:
            usual = [option.low, option.high] if option.choices else [option.low, option.high, option.default]
            if not all(isinstance(each, int | float) and math.isfinite(each) for each in usual):
                raise InputError("default, low and high are finite numbers", field=name, value=option)
            option.parse(name, str(option.default))
        except (InputError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"a default that is not allowed: {error}", file=file, line=line) from None
    if len(declared) > MAX_OPTION:
        raise InputError("too many options", file=file, line=line, value=len(declared), allowed=f"{MAX_OPTION} at most")
    if kind == "policy" and not {"max_seq", "max_token"} <= set(declared):
        raise InputError("a policy has the options max_seq and max_token", file=file, line=line)


def _line_of(module: ModuleType, name: str) -> int | None:
    """Where a file gives a name its value; None where it cannot be told."""
    try:
        tree = ast.parse(pathlib.Path(str(module.__file__)).read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(getattr(target, "id", None) == name for target in targets):
            return node.lineno
    return None


def names(kind: str) -> list[str]:
    """Names of the plug-ins of a kind that come with the project or are installed beside it."""
    folder = pathlib.Path(__file__).parent / PACKAGE[kind].rpartition(".")[2]
    found = {path.stem for path in folder.glob("[a-z]*.py")}
    return sorted(found | {entry.name for entry in _entry_points(kind)})


def find(kind: str, text: str) -> Plugin:
    """The plug-in of a kind that `text` names: `NAME`, `NAME:option=value,...`, or a path of a `.py` file.

    >>> find("policy", "sarathi:max_token=256").value["max_token"]
    256.0
    """
    name, _, rest = text.partition(":")
    module = _module(kind, name)
    values = option_values(kind, name, rest, options_of(module))
    return Plugin(pathlib.Path(name).stem if name.endswith(".py") else name, kind, module, values)


def option_values(kind: str, name: str, text: str, options: Mapping[str, Option]) -> dict[str, float]:
    """The options of the file `name` where `text` gives some: `option=value,...`; an `InputError` names what is wrong.

    >>> option_values("scaler", "mine", "num=3", {"num": Option(1, "engines"), "share": Option(0.5, "of them", low=0)})
    {'num': 3.0, 'share': 0.5}
    """
    given: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if key not in options:
            raise InputError("unknown option", field=f"{kind} {name}", value=key, allowed=list(options))
        if not equals:
            raise InputError("an option without a value", field=f"{kind} {name}", value=part, allowed=f"{key}=VALUE")
        if key in given:
            raise InputError(f"option {key} is given twice", field=kind, value=f"{name}:{text}")
        given[key] = value
    return {
        key: option.parse(f"{kind} {name}: {key}", given.get(key, str(option.default)))
        for key, option in options.items()
    }


def compile_function(plugin: Plugin) -> Callable[..., int]:
    """The plugin's function compiled for the type of the engine's arrays; kept for the process."""
    from kernels.engine.types import PLAN_SIGNATURE, ROUTE_SIGNATURE
    from kernels.jit import njit_as

    file = str(plugin.module.__file__)
    model = plugin.progress
    model_file = str(model.module.__file__) if model is not None else ""
    content = cache.key_of(file) + (cache.key_of(model_file) if model_file else "")
    key = (f"{plugin.kind} {file} {model_file}", content)
    if key not in _compiled:
        signature = ROUTE_SIGNATURE if plugin.kind == "router" else PLAN_SIGNATURE
        function = getattr(plugin.module, FUNCTION[plugin.kind])
        try:
            checked = file in blame.FILES
            if model is not None:
                from sim.serving.speculation import planned

                function = planned(function, model.module, content)
            users.prepare(function)
            made = njit_as(signature, checked)(function)
        except (KeyboardInterrupt, InputError):
            raise
        except Exception as error:
            raise _compile_error(error, plugin) from error
        for found in getattr(made, "nopython_signatures", []):
            if found.return_type != signature.return_type:
                line = function.__code__.co_firstlineno
                why = f"{FUNCTION[plugin.kind]} returns {found.return_type}, not a whole number"
                raise InputError(why, file=file, line=line)
        if file in blame.FILES:
            stop.watch_compiled(file)
        _compiled[key] = made
    return _compiled[key]


def _compile_error(error: Exception, plugin: Plugin) -> InputError:
    """What numba cannot compile, with the last line of the user's files that it names."""
    text = str(error)
    modules = [plugin.module, *([plugin.progress.module] if plugin.progress is not None else [])]
    files = {str(_path(module)) for module in modules}
    files |= {str(_path(found)) for module in modules for found in cache.outside(_path(module)).values()}
    places = [(name, int(line)) for name, line in re.findall(r'(?:File "|at )([^"\n]+?)"?(?:, line | \()(\d+)', text)]
    where = getattr(error, "loc", None)
    if where is not None and where.line:
        places.insert(0, (where.filename, where.line))
    own = [(name, line) for name, line in places if str(pathlib.Path(name).resolve()) in files]
    function = getattr(plugin.module, FUNCTION[plugin.kind])
    file, line = own[0] if own else (str(plugin.module.__file__), function.__code__.co_firstlineno)
    said = [part.strip() for part in text.splitlines() if part.strip()]
    plain = [part for part in said if not part.startswith(("Failed in", "File ", "During: ", "def ", "<source", "^"))]
    why = (plain or said or [type(error).__name__])[0]
    own_kind = "progress" if plugin.progress is not None and file == str(_path(modules[-1])) else plugin.kind
    return InputError(f"numba cannot compile this {own_kind}: {why[:300]}", file=file, line=line)


def _path(module: ModuleType) -> pathlib.Path:
    return pathlib.Path(str(module.__file__)).resolve()


def _whole(route: Callable[..., int]) -> Callable[..., int]:
    """The router, held to answer with a whole number."""

    def checked(fleet: Any, request: int) -> int:
        answer = route(fleet, request)
        if isinstance(answer, bool) or not isinstance(answer, int | np.integer):
            code = route.__code__
            raise InputError("names a replica by its number", file=code.co_filename, line=code.co_firstlineno,
                             field=route.__name__, value=answer, allowed="a whole number")  # fmt: skip
        return int(answer)

    return checked


def _module(kind: str, name: str) -> ModuleType:
    if name.endswith(".py"):
        module = module_from(kind, pathlib.Path(name))
    elif name in _own(kind):
        module = importlib.import_module(f"{PACKAGE[kind]}.{name}")
    else:
        entries = [entry for entry in _entry_points(kind) if entry.name == name]
        if not entries:
            raise InputError(f"no such {kind}", field=kind, value=name, allowed=[*names(kind), "a path of a .py file"])
        module = _from_entry(entries[0], kind)
    _check_function(module, kind)
    _check_options(module, kind)
    return module


def _from_entry(entry: Any, kind: str) -> ModuleType:
    """The module that an installed package registers."""
    try:
        module = entry.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise InputError(f"cannot be loaded: {blame.describe(error)}", field=kind, value=entry.value) from error
    if not isinstance(module, ModuleType) or getattr(module, "__file__", None) is None:
        raise InputError("is no module with a file", field=kind, value=entry.value)
    blame.FILES.add(str(module.__file__))
    return module


def _check_function(module: ModuleType, kind: str) -> None:
    """The file has its functions, plain ones that take what the engine gives."""
    for name, shape in ARGUMENTS[kind].items():
        _check_one(module, kind, name, shape)


def _check_one(module: ModuleType, kind: str, name: str, shape: str) -> None:
    num = shape.count(",") + 1
    function = getattr(module, name, None)
    if function is None:
        raise InputError(f"has no function {name}", file=module.__file__, field=kind, allowed=shape,
                         value=module.__name__)  # fmt: skip
    if not inspect.isfunction(function):
        raise InputError("is no plain function", file=module.__file__, line=_line_of(module, name), field=name,
                         value=function, allowed=shape)  # fmt: skip
    line = function.__code__.co_firstlineno
    if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
        raise InputError("is a generator or a coroutine", file=module.__file__, line=line, field=name,
                         value=name, allowed=shape)  # fmt: skip
    try:
        inspect.signature(function).bind(*range(num))
    except TypeError as error:
        why = f"the engine calls it with {num} argument{'s' * (num > 1)}: {error}"
        raise InputError(why, file=module.__file__, line=line, field=name, value=str(inspect.signature(function)),
                         allowed=shape) from None  # fmt: skip


def _own(kind: str) -> set[str]:
    folder = pathlib.Path(__file__).parent / PACKAGE[kind].rpartition(".")[2]
    return {path.stem for path in folder.glob("[a-z]*.py")}


def module_from(kind: str, path: pathlib.Path) -> ModuleType:
    """The file as a module, run from its text as it stands now; what it imports from outside the project is imported
    anew where that has changed since an earlier load."""
    if not path.is_file():
        raise InputError("no such file", field=kind, value=str(path))
    path = path.resolve()
    try:
        if path.stat().st_size > blame.MAX_SOURCE_BYTE:
            raise InputError("too large for a source file", file=path, allowed=f"{blame.MAX_SOURCE_BYTE} bytes at most")
        source = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=path) from None
    stem = f"ridgeline_{kind}_{re.sub(r'[^0-9a-zA-Z_]', '_', path.stem)}_"
    _forget_changed(str(path))
    # kept code names its module: by the content, which is the same wherever the file lies
    module = ModuleType(stem + hashlib.sha256(source).hexdigest()[:16])
    module.__file__ = str(path)
    sys.modules[module.__name__] = sys.modules[stem + hashlib.sha256(os.fsencode(path)).hexdigest()[:16]] = module
    with imports.bounded():
        blame.run_source(source, str(path), module, kind)
    users.prepare_file(vars(module))
    below = {key: found for key, found in cache.outside(path).items() if found is not module}
    compiled = kind in FUNCTION and not PLAIN and getattr(module, "COMPILED", True)
    for each in (module, *(found for found in below.values() if turns.is_bounded(vars(found)))):
        turns.set_most(each.__dict__, turns.MOST if compiled else turns.MOST_OF_A_STEP)
    _stands_on[str(path)] = {key: cache.key_of(_path(found)) for key, found in below.items()}
    blame.FILES.update(str(found.__file__) for found in below.values())
    return module


def _forget_changed(path: str) -> None:
    """Unload the helpers of a plug-in where one of them has changed since it was loaded."""
    held = {name: key for name, key in _stands_on.get(path, {}).items() if name in sys.modules}
    gone = [name for name in held if not _path(sys.modules[name]).is_file()]
    if gone or any(cache.key_of(_path(sys.modules[name])) != key for name, key in held.items()):
        for name in held:
            del sys.modules[name]
        importlib.invalidate_caches()


def _entry_points(kind: str) -> list[Any]:
    return list(importlib.metadata.entry_points(group=f"ridgeline.{kind}"))
