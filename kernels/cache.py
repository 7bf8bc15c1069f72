"""Where compiled kernels are kept: a folder a source file, named by that file and every kernel file it imports.

Numba notices a change in the file of a cached function but not in another file that it calls. The folder's name
therefore holds a hash of the file's import closure within this package: a change in one kernel compiles anew what calls
it, and nothing else.
"""

import functools
import hashlib
import os
import pathlib
import re

ROOT = pathlib.Path(__file__).parent
_IMPORT = re.compile(r"^\s*(?:from\s+(kernels[\w.]*)\s+import\s+(\([^)]*\)|[^\n]+)|import\s+(kernels[\w.]*))", re.M)


def base() -> pathlib.Path:
    """`RIDGELINE_CACHE_DIR`, else the user's cache folder."""
    chosen = os.environ.get("RIDGELINE_CACHE_DIR")
    root = pathlib.Path(chosen) if chosen else pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return root.expanduser() / "ridgeline"


def folder(source: str | pathlib.Path) -> pathlib.Path:
    """Folder of what is compiled from the file `source`, inside the package or outside (a policy, say)."""
    digest = hashlib.sha256()
    for path in sorted(closure(pathlib.Path(source))):
        digest.update(path.name.encode())
        digest.update(_bytes(path))
    return base() / digest.hexdigest()[:16]


def closure(source: pathlib.Path) -> set[pathlib.Path]:
    """The file itself and all files of this package that it imports, directly or through others.

    >>> sorted(path.name for path in closure(ROOT / "units.py"))
    ['cache.py', 'jit.py', 'units.py']
    """
    met: set[pathlib.Path] = set()
    left = [source.resolve()]
    while left:
        path = left.pop()
        if path not in met:
            met.add(path)
            left.extend(_imported(path))
    return met


@functools.cache
def _imported(path: pathlib.Path) -> tuple[pathlib.Path, ...]:
    names: set[str] = set()
    for package, members, module in _IMPORT.findall(_bytes(path).decode()):
        names.add(package or module)
        names.update(f"{package}.{word}" for word in re.findall(r"\w+", members))
    files = (ROOT.parent.joinpath(*name.split(".")).with_suffix(".py") for name in names)
    return tuple(file.resolve() for file in files if file.is_file())


@functools.cache
def _bytes(path: pathlib.Path) -> bytes:
    return path.read_bytes()
