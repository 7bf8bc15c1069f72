"""Modules that are whatever is asked of them, so that a scheduler is imported without the stack that serves with it."""

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class Blank(type):
    """A class of which every attribute is another one, and which decorates what it is called with."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return blank(name)

    def __call__(cls, *given: Any, **named: Any) -> Any:
        if "is_blank" not in vars(cls):
            return super().__call__(*given, **named)  # a real class that inherits from one
        return given[0] if len(given) == 1 and callable(given[0]) and not named else blank(cls.__name__)

    def __getitem__(cls, key: Any) -> Any:
        return cls

    def __or__(cls, other: Any) -> Any:
        return cls

    __ror__ = __or__

    def __iter__(cls) -> Any:
        return iter(())

    def __get_pydantic_core_schema__(cls, *_: Any) -> Any:
        from pydantic_core.core_schema import any_schema

        return any_schema()


def blank(name: str) -> Blank:
    """A new one."""
    return Blank(name, (), {"is_blank": True})


class BlankModule(ModuleType):
    """A module of such classes."""

    __path__: list[str]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = blank(name)
        setattr(self, name, made)
        return made


class Finder(MetaPathFinder, Loader):
    """Finds the named modules and those below them blank."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Of a module, if it is to be blank."""
        if any(fullname == name or fullname.startswith(f"{name}.") for name in self.names):
            return ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The blank one."""
        made = BlankModule(spec.name)
        made.__path__ = []
        made.__version__ = "0"  # type: ignore[attr-defined]
        return made

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run."""


def install(*names: str) -> None:
    """From now on these modules are blank."""
    sys.meta_path.insert(0, Finder(names))
