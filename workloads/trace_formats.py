"""The trace formats: one file each in `workloads/traces/`, or an entry point of the group `ridgeline.traces`.

Such a module has `HELP`, `OPTIONS` (keys of its own), `sniff(head: bytes) -> bool` and
`read(path, options, seed) -> Requests`.
"""

import functools
import importlib
import importlib.metadata
import importlib.util
import pathlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Protocol, cast

from kernels.errors import InputError
from workloads.parameters import Parameter
from workloads.requests import Requests
from workloads.traces._table import read_head

GROUP = "ridgeline.traces"


class TraceFormat(Protocol):
    """What a module of `workloads/traces/` provides."""

    HELP: str
    OPTIONS: Mapping[str, Parameter]

    def sniff(self, head: bytes) -> bool:
        """Whether a file that begins so is of this format."""

    def read(self, path: pathlib.Path, options: Mapping[str, Any], seed: int) -> Requests:
        """The requests of a file."""


def find_formats(folder: pathlib.Path) -> dict[str, TraceFormat]:
    """Every format in `folder` (a file whose name starts with a letter) and of the entry point group."""
    found: dict[str, TraceFormat] = {}
    for path in sorted(folder.glob("[a-z]*.py")):
        found[path.stem] = _checked(_module(path), path.stem)
    for entry in importlib.metadata.entry_points(group=GROUP):
        try:
            found[entry.name] = _checked(entry.load(), entry.name)
        except (ImportError, AttributeError, SyntaxError) as error:
            raise InputError(f"cannot be loaded: {error}", field=GROUP, value=entry.value) from None
    return found


def _module(path: pathlib.Path) -> ModuleType:
    if path.parent == pathlib.Path(__file__).parent / "traces":
        return importlib.import_module(f"workloads.traces.{path.stem}")
    spec = importlib.util.spec_from_file_location(f"ridgeline_trace_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputError("not a Python file", file=path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _checked(module: object, name: str) -> TraceFormat:
    for attribute in ("HELP", "OPTIONS", "sniff", "read"):
        if not hasattr(module, attribute):
            raise InputError(f"trace format {name} has no {attribute}", field=GROUP, value=name)
    return cast(TraceFormat, module)


@functools.cache
def formats() -> dict[str, TraceFormat]:
    """Every trace format by name."""
    return find_formats(pathlib.Path(__file__).parent / "traces")


def sniff(path: pathlib.Path) -> str:
    """The one format that the file's beginning fits."""
    first = read_head(path)
    names = [name for name, trace_format in formats().items() if trace_format.sniff(first)]
    if len(names) != 1:
        how = "fits " + " and ".join(names) if names else "fits no trace format"
        raise InputError(f"{how}; name it as FORMAT:FILE", file=path, field="format", value="", allowed=list(formats()))
    return names[0]


def read_trace(name: str, path: pathlib.Path, options: Mapping[str, Any], seed: int) -> Requests:
    """The requests of a trace file; `options` hold values checked against the format's `OPTIONS`."""
    trace_format = formats()[name]
    defaults = {key: parameter.default for key, parameter in trace_format.OPTIONS.items()}
    return trace_format.read(path, {**defaults, **options}, seed)
