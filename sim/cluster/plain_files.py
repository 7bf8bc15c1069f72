"""Files that Python calls (rules of scaling, programs, rules of transfer): a module of a package here, or a path."""

import importlib
import pathlib
from types import ModuleType

from kernels.errors import InputError
from sim.serving.plugin import module_from

HERE = pathlib.Path(__file__).parent
PACKAGE = {"scaler": "scalers", "program": "programs", "transfer": "transfers"}  # by kind


def names(kind: str) -> list[str]:
    """Those of a kind that come with the project.

    >>> names("transfer")
    ['layered', 'whole']
    """
    return sorted(path.stem for path in (HERE / PACKAGE[kind]).glob("[a-z]*.py"))


def load(kind: str, name: str) -> ModuleType:
    """The file of a kind that `name` says: one that comes with the project, or the path of a `.py` file."""
    if name.endswith(".py"):
        return module_from(kind, pathlib.Path(name))
    if name not in names(kind):
        raise InputError(f"no such {kind}", field=kind, value=name, allowed=[*names(kind), "a path of a .py file"])
    return importlib.import_module(f"sim.cluster.{PACKAGE[kind]}.{name}")
