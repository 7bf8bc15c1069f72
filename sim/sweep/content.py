"""What names a point: a hash of what its scenario and everything that it names *contain*.

A scenario is texts and numbers; some of the texts are names of files. What those hold is part of the key: a model's
configuration, a machine and the calibration that prices it, an engine's profile, a rule of attention, a plug-in with
all that it imports, a trace, a file of lengths. So are the project's own sources and data, without which no price is
what it is, and the versions of what it computes with. Two equal keys are the same numbers.
"""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from hw_models import catalog
from hw_models.device import best_fidelity, calibration
from kernels import cache
from sim.record.provenance import versions
from sim.run.scenario import Scenario
from sim.serving import attention_rule, engine_profile
from sim.serving.plugin import find
from workloads import files, models
from workloads.lengths import Length
from workloads.load import parse_load

HOME = cache.ROOT.parent
DECIDE = ("kernels", "hw_models", "workloads", "sim/run", "sim/serving", "sim/cluster", "sim/record", "sim/fabric")
ENDINGS = (".py", ".toml", ".json", ".csv")
PLACES = ("file", "source")  # fields that say where a thing was read, not what it is


class Contents:
    """Keys of scenarios. What a name holds is read once an instance: make a new one for another look at the files."""

    def __init__(self) -> None:
        self.of_name = functools.cache(_held)
        self.plugin = functools.cache(find)

    def key(self, scenario: Scenario) -> str:
        """Thirty-two hexadecimal digits. Raises `InputError` for a name that is not there, so that a sweep is refused
        before it begins."""
        digest = hashlib.sha256(_project().encode())
        for name, value in sorted(dataclasses.asdict(scenario).items()):
            digest.update(f"{name}={value!r}\n".encode(errors="surrogateescape"))
        for kind, text in _names(scenario):
            digest.update(f"{kind} {self.of_name(kind, text)}\n".encode())
        return digest.hexdigest()[:32]


def _names(scenario: Scenario) -> Iterator[tuple[str, str]]:
    """Kinds and names of what a scenario stands on."""
    yield "model", scenario.model
    if scenario.draft_model:
        yield "draft_model", scenario.draft_model
    machine = "machine" if scenario.fidelity == "sol" else "calibrated machine"
    yield machine, scenario.system
    if scenario.ffn_system:
        yield machine, scenario.ffn_system
    yield "engine", scenario.engine
    yield "attention", scenario.attention
    if scenario.policy != "auto":
        yield "policy", scenario.policy
    yield "router", scenario.router
    if scenario.speculate:
        yield "progress", scenario.speculate
    yield "load", scenario.requests


def _held(kind: str, text: str) -> str:
    """The hash of what a name holds."""
    if kind in ("model", "draft_model"):
        return _hash(models.load(text, kind))
    if kind.endswith("machine"):
        system = catalog.system(text)
        fitted = kind != "machine" and best_fidelity(system.device) == "calibrated"
        return _hash([system, calibration(system.device) if fitted else ()])
    if kind == "engine":
        return _hash(engine_profile.load(text))
    if kind == "attention":
        return _hash(attention_rule.load(text))
    if kind in ("policy", "router", "progress"):
        plugin = find(kind, text)
        return _hash([cache.key_of(str(plugin.module.__file__)), dict(plugin.value)])
    load = parse_load(text)
    named = [value if key == "file" else _file_of(value) for key, value in load.values]
    return _hash([load.source, *(hashlib.sha256(files.read_byte(str(name))).hexdigest() for name in named if name)])


def _file_of(value: Any) -> Any:
    """The file that a value of a load is read from, a column of lengths."""
    return value.get("file") if isinstance(value, Length) else None


def _hash(value: Any) -> str:
    digest = hashlib.sha256()
    for part in _parts(value):
        digest.update(part)
    return digest.hexdigest()


def _parts(value: Any) -> Iterator[bytes]:
    """The content of nested dataclasses, sequences, mappings and arrays as bytes."""
    if isinstance(value, pathlib.PurePath):
        return
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield type(value).__name__.encode()
        for field in dataclasses.fields(value):
            if field.name not in PLACES:
                yield f"{field.name}=".encode()
                yield from _parts(getattr(value, field.name))
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype}{value.shape}".encode()
        yield np.ascontiguousarray(value).tobytes()
    elif isinstance(value, dict):
        yield b"{"
        for key, item in sorted(value.items(), key=lambda pair: str(pair[0])):
            yield f"{key!r}:".encode()
            yield from _parts(item)
        yield b"}"
    elif isinstance(value, list | tuple | set | frozenset):
        yield b"["
        for item in value if isinstance(value, list | tuple) else sorted(value, key=repr):
            yield from _parts(item)
            yield b","
        yield b"]"
    else:
        yield repr(value).encode()


@functools.cache
def _project() -> str:
    """The project's own sources and data as they were when this process began to look, and versions."""
    digest = hashlib.sha256(repr(sorted(versions().items())).encode())
    for room in DECIDE:
        for path in sorted((HOME / room).rglob("*")):
            if path.suffix in ENDINGS and path.is_file():
                digest.update(f"{path.relative_to(HOME)}\n".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()
