"""Where compiled kernels are kept: a folder a source file, named by that file and all that it imports.

Numba notices a change in the file of a cached function but not in another file that it calls. The folder's name
therefore holds a hash of the text of the file and of all that it imports: kernels, and for a file from outside (a
policy, say) also what that imports from outside the project, and the constants that numba would freeze. A change in one
kernel compiles anew what calls it, and nothing else.

Compiled code is read back by unpickling, which runs what it reads. A folder that others can write to is refused, every
file carries a hash of its content, and what is damaged is compiled again with one line on standard error. Where nothing
can be written, code lives in memory for the process and one line says so.
"""

import ast
import contextlib
import functools
import hashlib
import importlib.metadata
import os
import pathlib
import re
import secrets
import stat
import sys
import sysconfig
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from kernels.errors import InputError

ROOT = pathlib.Path(__file__).parent
PROJECT = ("kernels", "hw_models", "workloads", "sim", "studies")
NOT_COMPILED = {"kernels.cache", "kernels.errors", "sim.serving.plugin"}  # imported, and never part of the code
KEYED_BY_VERSION = ("numpy", "numba", "llvmlite")  # compiled against, and in every key by version
_IMPORT = re.compile(r"^\s*(?:from\s+(kernels[\w.]*)\s+import\s+(\([^)]*\)|[^\n]+)|import\s+(kernels[\w.]*))", re.M)
_STANDARD = tuple(pathlib.Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))
_MAGIC = b"ridgeline kernel 1\n"
_said: set[str] = set()


def base() -> pathlib.Path | None:
    """`RIDGELINE_CACHE_DIR`, else the user's cache folder; None where it cannot be written. An `InputError` where
    somebody else may write to it."""
    return _base(os.environ.get("RIDGELINE_CACHE_DIR") or None, os.environ.get("XDG_CACHE_HOME") or "~/.cache")


@functools.cache
def _base(chosen: str | None, usual: str) -> pathlib.Path | None:
    root = pathlib.Path(chosen or usual)
    try:
        held = root.expanduser().absolute() / "ridgeline"
        held.parent.mkdir(parents=True, exist_ok=True)
        held.mkdir(mode=0o700, exist_ok=True)
        if not os.access(held, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError("no permission")
        own, above = os.stat(held), os.stat(held.parent)
    except (OSError, RuntimeError, ValueError) as error:  # no home, no such folder, a read-only disk
        _say(f"compiled kernels are not kept, {root} cannot be written ({_reason(error)}): the next run compiles again")
        return None
    others = own.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    replaced = above.st_mode & stat.S_IWOTH and not above.st_mode & stat.S_ISVTX
    if others or replaced or own.st_uid not in (0, os.geteuid()):
        raise InputError(
            "others can write to this folder of compiled code, which runs as it is read: remove it, or take their "
            "permission (chmod go-w)", file=held if not replaced else held.parent, field="RIDGELINE_CACHE_DIR",
            value=chosen,
        )  # fmt: skip
    return held


def folder(source: str | pathlib.Path) -> pathlib.Path | None:
    """Folder of what is compiled from the file `source`, inside the package or outside; None as in `base`."""
    held = base()
    return None if held is None else held / key_of(source)


def key_of(source: str | pathlib.Path) -> str:
    """Sixteen hexadecimal digits that change with whatever can change the code compiled from `source`."""
    path = pathlib.Path(source)
    return _own_key(path) if is_own(path.resolve()) else _key(path)


def _key(source: pathlib.Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(closure(source)):
        digest.update(path.name.encode(errors="surrogateescape"))
        digest.update(_bytes(path))
        if not is_own(path):
            for name, value in _version(path) if is_installed(path) else _constants(path):
                digest.update(f"{name}={value}".encode(errors="backslashreplace"))
    return digest.hexdigest()[:16]


_own_key = functools.cache(_key)


def closure(source: pathlib.Path) -> set[pathlib.Path]:
    """The file itself and all files that it imports, directly or through others: of this package, and of a file from
    outside the project also those from outside that are loaded (without the standard library, numpy and numba); of
    installed packages those that it names.

    >>> sorted(path.name for path in closure(ROOT / "units.py"))
    ['jit.py', 'parts.py', 'units.py']
    """
    met: set[pathlib.Path] = set()
    first = source.resolve()
    left = [first]
    while left:
        path = left.pop()
        if path not in met:
            met.add(path)
            if is_own(path):
                left.extend(_imported(path))
            else:
                found = _imported_outside(path)
                if path != first and is_installed(path):  # what a package stands on comes with its version
                    found = [each for each in found if is_own(each)]
                left.extend(found)
    return met


def outside(source: pathlib.Path) -> dict[str, ModuleType]:
    """The loaded modules from outside the project that the file `source` stands on, by name."""
    files = {path for path in closure(source) if not is_own(path)}
    return {name: module for name, module in list(sys.modules.items()) if _file(module) in files}


@functools.cache
def is_own(path: pathlib.Path) -> bool:
    """Whether the file (an absolute path without links) is one of the project's."""
    return any(path.is_relative_to(ROOT.parent / room) for room in PROJECT)


@functools.cache
def _imported(path: pathlib.Path) -> tuple[pathlib.Path, ...]:
    names: set[str] = set()
    for package, members, module in _IMPORT.findall(_bytes(path).decode()):
        names.add(package or module)
        names.update(f"{package}.{word}" for word in re.findall(r"\w+", members))
    return _own_files(names)


def _own_files(names: set[str]) -> tuple[pathlib.Path, ...]:
    files = (f"{os.path.join(ROOT.parent, *name.split('.'))}.py" for name in names - NOT_COMPILED)
    return tuple(_resolved(file) for file in files if os.path.isfile(file))


def _imported_outside(path: pathlib.Path) -> list[pathlib.Path]:
    """What a file from outside imports: kernels, and modules from outside that are loaded."""
    if path.suffix != ".py":
        return []
    try:
        tree = ast.parse(_bytes(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    package = next((module.__package__ or "" for module in list(sys.modules.values()) if _file(module) == path), "")
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            start = ".".join([*above, *([node.module] if node.module else [])])
            names.update([start, *(f"{start}.{each.name}" for each in node.names)])
    names |= {name.rpartition(".")[0] for name in names} - {""}
    found = list(_own_files({name for name in names if name.split(".")[0] in PROJECT}))
    for name in names:
        top = name.split(".")[0]
        file = _file(sys.modules.get(name))
        if top not in PROJECT + KEYED_BY_VERSION and file is not None and not _is_standard(file):
            found.append(file)
    return found


def _file(module: Any) -> pathlib.Path | None:
    name = getattr(module, "__file__", None)
    return _resolved(name) if isinstance(name, str) and name[:1] != "<" else None


@functools.cache
def _resolved(name: str) -> pathlib.Path:
    return pathlib.Path(name).resolve()


def is_installed(file: pathlib.Path) -> bool:
    """Whether the file is of an installed package or of the standard library."""
    return not {"site-packages", "dist-packages"}.isdisjoint(file.parts) or _is_standard(file)


def _is_standard(file: pathlib.Path) -> bool:
    return any(file.is_relative_to(each) for each in _STANDARD) and "site-packages" not in file.parts


def _constants(path: pathlib.Path) -> Iterator[tuple[str, str]]:
    """Names and values that compiled code of this file would hold frozen: numbers, texts, tuples and arrays."""
    for module in [module for module in list(sys.modules.values()) if _file(module) == path]:
        for name, value in sorted(vars(module).items()):
            if isinstance(value, np.ndarray):
                yield name, f"{value.dtype}{value.shape}{hashlib.sha256(value.tobytes()).hexdigest()}"
            elif isinstance(value, int | float | complex | str | bytes | tuple | np.generic) and name[:2] != "__":
                yield name, repr(value)


def _version(path: pathlib.Path) -> Iterator[tuple[str, str]]:
    """The version of the package that an installed file is of."""
    for name in [name for name, module in list(sys.modules.items()) if _file(module) == path]:
        top = name.split(".")[0]
        try:
            yield name, str(getattr(sys.modules.get(top), "__version__", "") or importlib.metadata.version(top))
        except importlib.metadata.PackageNotFoundError:  # its own text is all that is known of it
            yield name, ""


def _bytes(path: pathlib.Path) -> bytes:
    return _own_bytes(path) if is_own(path) else path.read_bytes()


@functools.cache
def _own_bytes(path: pathlib.Path) -> bytes:
    return path.read_bytes()


def keep(dispatcher: Any, source: str, kind: str) -> None:
    """Let a numba dispatcher keep what it compiles from the file `source`, and read it back: code of a `kind` of its
    own (`kernels.parts`)."""
    from numba.core import caching

    class Kept(caching.NullCache):
        """Numba's interface of a cache, over `_load` and `_save`; the folder is asked for when it is needed, so that
        a module's constants are there."""

        def load_overload(self, sig: Any, target_context: Any) -> Any:
            target_context.refresh()
            file, key = self._place(sig, target_context.codegen())
            if file is None:
                return None
            return _load(file, key, lambda content: caching.compiler.CompileResult._rebuild(target_context, *content))

        def save_overload(self, sig: Any, cres: Any) -> None:
            if any(not each.can_cache for each in cres.lifted) or cres.library.has_dynamic_globals:
                return  # holds an address of this process
            file, key = self._place(sig, cres.codegen)
            if file is not None:
                _save(file, key, caching.dumps(cres._reduce()))

        def _place(self, sig: Any, codegen: Any) -> tuple[pathlib.Path | None, bytes]:
            held = folder(source)
            if held is None:
                return None, b""
            function = dispatcher.py_func
            cells = [repr(cell.cell_contents) for cell in function.__closure__ or ()]
            named: tuple[Any, ...] = (function.__module__, numba_version(), np.__version__)  # it is read back by module
            named += ("checked",) if dispatcher.targetoptions.get("boundscheck") else ()
            text = repr((kind, named, str(sig), codegen.magic_tuple(), cells))
            key = hashlib.sha256(text.encode() + function.__code__.co_code).hexdigest()
            name = re.sub(r"\W", "", function.__qualname__)[:80]
            return held / f"{name}-{function.__code__.co_firstlineno}-{key[:16]}.bin", key.encode()

    dispatcher._cache = Kept()


def numba_version() -> str:
    """Its version; another one compiles anew."""
    import numba

    return str(numba.__version__)


def _load(file: pathlib.Path, key: bytes, rebuild: Callable[[Any], Any]) -> Any:
    """What `_save` wrote under this key, or None; a damaged file is removed and said."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    head = len(_MAGIC) + 64 + 64
    body = content[head:]
    if content[:head] == _MAGIC + hashlib.sha256(key + body).hexdigest().encode() + key:
        import pickle

        try:
            return rebuild(pickle.loads(body))
        except Exception as error:
            _say(f"a compiled kernel cannot be read ({type(error).__name__}) and is compiled again: {file}")
    else:
        _say(f"a compiled kernel is damaged and is compiled again: {file}")
    with contextlib.suppress(OSError):
        file.unlink()
    return None


def _save(file: pathlib.Path, key: bytes, body: bytes) -> None:
    """Write whole or not at all; a full disk costs the cache and not the run."""
    new = file.with_name(f".{secrets.token_hex(8)}.part")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(new, "xb") as out:
            out.write(_MAGIC + hashlib.sha256(key + body).hexdigest().encode() + key + body)
        os.replace(new, file)
    except OSError as error:
        _say(f"compiled kernels are not kept, {file.parent.parent} cannot be written ({_reason(error)})")
        with contextlib.suppress(OSError):
            new.unlink()


def mark(source: str | pathlib.Path, name: str) -> None:
    """Leave a mark that the code of `source` is compiled."""
    held = folder(source)
    if held is not None:
        _save(held / name, b"0" * 64, b"")


def is_marked(source: str | pathlib.Path, name: str) -> bool:
    """Whether `mark` was called, now or by an earlier process."""
    held = folder(source)
    return held is not None and (held / name).exists()


def _say(text: str) -> None:
    if text.partition("(")[0] not in _said and sys.stderr is not None:
        _said.add(text.partition("(")[0])
        print(f"ridgeline: {text}", file=sys.stderr)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
