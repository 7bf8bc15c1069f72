"""Pipeline schedules: one file each, found by listing this folder.

A schedule file has a docstring (its first line is its help), and

    NAME                                   what the command line calls it, if not the file's name
    order(num_rank, num_microbatch, ...)   keyword options after these two -> Order

A file anywhere else is taken by its path. Options that an order does not take are refused by name.
"""

import importlib
import inspect
import pathlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

from kernels import blame, imports
from kernels.errors import InputError
from workloads.files import read_byte
from workloads.pipeline import Op, Order

FOLDER = pathlib.Path(__file__).parent
MAX_CELL = 2_000_000  # ranks x microbatches x chunks: a minute's work


class Schedule:
    """A schedule file: its name, its one-line help, its options with their defaults."""

    def __init__(self, path: pathlib.Path, module: Any) -> None:
        self.path = path
        self.name: str = getattr(module, "NAME", path.stem.replace("_", "-"))
        self.help: str = (module.__doc__ or "").strip().split("\n")[0]
        function: Callable[..., Order] | None = getattr(module, "order", None)
        if function is None:
            raise InputError("a schedule file needs a function order(num_rank, num_microbatch, ...)", file=path)
        try:
            parameters = list(inspect.signature(function).parameters.values())
            inspect.signature(function).bind_partial(1, 1)
        except (TypeError, ValueError) as error:
            code = getattr(function, "__code__", None)
            raise InputError(f"order(num_rank, num_microbatch, ...): {error}", file=path,
                             line=getattr(code, "co_firstlineno", None)) from None  # fmt: skip
        self.order = function
        self.option: dict[str, Any] = {parameter.name: parameter.default for parameter in parameters[2:]}

    def build(self, num_rank: int, num_microbatch: int, **option: Any) -> Order:
        """The order, after the checks that every schedule shares."""
        chunks = option.get("num_chunk", 1)
        for field, value in (("stages", num_rank), ("microbatches", num_microbatch), ("num_chunk", chunks)):
            if value < 1:
                raise InputError("too small", field=field, value=value, allowed=">= 1")
            if value > MAX_CELL:
                raise InputError("too many", field=field, value=value, allowed=f"1 to {MAX_CELL}")
        if num_rank * num_microbatch * chunks > MAX_CELL:
            most = max(1, MAX_CELL // (num_rank * chunks))
            raise InputError(f"too many operations for {num_rank} ranks", field="microbatches", value=num_microbatch,
                             allowed=f"1 to {most}")  # fmt: skip
        for name, value in option.items():
            if name not in self.option:
                raise InputError(f"schedule {self.name} has no option {name}", field=name, value=value,
                                 allowed=list(self.option) or "none")  # fmt: skip
        try:
            inspect.signature(self.order).bind(num_rank, num_microbatch, **option)
        except TypeError as error:
            raise InputError(f"order(num_rank, num_microbatch, ...): {error}", file=self.path,
                             line=self.order.__code__.co_firstlineno) from None  # fmt: skip
        made = self.order(num_rank, num_microbatch, **option)
        if not isinstance(made, list) or not all(isinstance(op, Op) for ops in made for op in ops):
            raise InputError("order(...) must return a list a rank of workloads.pipeline.Op", file=self.path,
                             field="order", value=type(made).__name__)  # fmt: skip
        return made


def catalogue() -> dict[str, Schedule]:
    """Every schedule of this folder by name.

    >>> "1f1b" in catalogue()
    True
    """
    found = [
        Schedule(path, importlib.import_module(f"{__name__}.{path.stem}")) for path in sorted(FOLDER.glob("[a-z]*.py"))
    ]
    return {schedule.name: schedule for schedule in found}


def load(name: str) -> Schedule:
    """The schedule of this name, or of the file at this path."""
    path = pathlib.Path(name)
    if path.suffix == ".py":
        if not path.is_file():
            raise InputError("no such file", file=path)
        module = ModuleType(f"ridgeline_schedule_{path.stem}")
        module.__file__ = str(path)
        with imports.bounded():
            blame.run_source(read_byte(path, blame.MAX_SOURCE_BYTE), str(path), module, "schedule")
        return Schedule(path, module)
    known = catalogue()
    if name not in known:
        raise InputError("no such schedule", field="schedule", value=name, allowed=sorted(known))
    return known[name]
