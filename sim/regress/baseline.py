"""The file of a baseline: scenarios with what each gave, as data that a person can read and a commit can show."""

import os
import pathlib
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kernels.errors import InputError, from_validation
from sim.record.export import write_json
from sim.record.provenance import versions
from workloads.files import read_json

DECIDED = ("prefill_token", "num_decode", "num_sampled", "moved_block")  # of a step, in this order in `Steps.first`
FORMAT: Literal["ridgeline-baseline/1"] = "ridgeline-baseline/1"
_Count = Annotated[int, Field(ge=0, lt=1 << 63)]
_Batch = Annotated[int, Field(ge=1, le=1 << 24)]


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class Probe(_Row):
    """A step that no scheduler decides: `num_seq` sequences, each with `query_token` new tokens over `kv_token`."""

    phase: Literal["prefill", "decode"]
    num_seq: _Batch
    query_token: _Batch
    kv_token: _Batch

    @property
    def title(self) -> str:
        """`decode 12 x 1,024`, as reports name it."""
        return f"{self.phase} {self.num_seq:,} x {self.kv_token:,}"


class Price(_Row):
    """What an operator costs in a probe, all layers and stages."""

    probe: _Count  # index into `probe`
    operator: str
    kind: str
    time_ps: _Count
    energy_nj: _Count


class Spent(_Row):
    """What an operator took in the run, all replicas."""

    operator: str
    kind: str
    time_ps: _Count


class Steps(_Row):
    """What the scheduler decided: of every step the prefill tokens, sequences that decode, tokens sampled and blocks
    moved; all of them in a digest, the first ones as numbers."""

    num: _Count
    digest: str
    first: list[list[_Count]]


class Entry(_Row):
    """A scenario with its results."""

    name: str = Field(min_length=1)
    scenario: dict[str, str | int | float | bool]  # fields that are not at their defaults
    file: dict[str, str]  # digest of each file that it names
    metric: dict[str, int | float | None]
    decision: dict[str, _Count]
    steps: Steps | None  # none where the load is too long to keep them
    host_ps: dict[str, _Count]
    probe: list[Probe]
    price: list[Price]
    spent: list[Spent]


class Baseline(_Row):
    """All scenarios, and the versions that gave their results."""

    format: Literal["ridgeline-baseline/1"]
    versions: dict[str, str]
    entry: list[Entry] = Field(min_length=1)


def write(path: str | os.PathLike[str], entries: Sequence[Entry]) -> None:
    """Writes a baseline, a line a scenario."""
    write_json(Baseline(format=FORMAT, versions=versions(), entry=list(entries)).model_dump(), path)


def read(path: str | os.PathLike[str]) -> Baseline:
    """Reads a baseline; whatever is wrong with it is an `InputError` that names the file and the field."""
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError("is no baseline", file=path, allowed="a file that `ridgeline regress --record` wrote")
    try:
        found = Baseline.model_validate(content)
    except ValidationError as error:
        raise from_validation(error, path, Entry.model_fields) from None
    names = [entry.name for entry in found.entry]
    for name in names:
        if names.count(name) > 1:
            raise InputError("two entries have this name", file=path, field="entry.name", value=name)
    for entry in found.entry:
        for price in entry.price:
            if price.probe >= len(entry.probe):
                raise InputError("no such probe", file=path, field=f"entry.{entry.name}.price.probe", value=price.probe,
                                 allowed=f"0 to {len(entry.probe) - 1}")  # fmt: skip
    return found


def chosen(baseline: Baseline, only: Sequence[str]) -> list[Entry]:
    """The entries of these names, all where none is given."""
    names = [entry.name for entry in baseline.entry]
    for name in only:
        if name not in names:
            raise InputError("no such entry in the baseline", field="only", value=name, allowed=names)
    return [entry for entry in baseline.entry if not only or entry.name in only]


def names_of(paths: Sequence[str]) -> dict[str, str]:
    """A name for each scenario's file: its stem, with its folder where two have the same."""
    stems = [pathlib.Path(path).stem for path in paths]
    found = {}
    for path, stem in zip(paths, stems, strict=True):
        name = stem if stems.count(stem) == 1 else str(pathlib.PurePath(path).with_suffix(""))
        if name in found:
            raise InputError("is given twice", field="scenario", value=path)
        found[name] = path
    return found
