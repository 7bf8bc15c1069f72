"""What a user's file imports from outside the project is run as that file is: from its text, its loops counted.

Packages that are installed, and the standard library, are imported as they are.
"""

import contextlib
import importlib.abc
import importlib.machinery
import pathlib
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from kernels import blame, cache, turns


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Within: files that are imported for the first time are bounded, and their errors name their lines."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds what Python would, and hands files of users to `_Loader`."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        """By the name, as the interface has it."""
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and type(spec.loader) is importlib.machinery.SourceFileLoader and spec.origin:
            file = pathlib.Path(spec.origin)
            if not cache.is_own(file.resolve()) and not cache.is_installed(file):
                spec.loader = _Loader(name, spec.origin)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        """Run the file's text in `module`; its bytecode, which is not bounded, is neither read nor written."""
        path = str(self.path)
        blame.FILES.add(path)
        tree = turns.bounded(self.get_data(path), path, module.__dict__)
        exec(compile(tree, path, "exec", dont_inherit=True), module.__dict__)
