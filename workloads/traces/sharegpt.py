"""Pairs of lengths without a clock, such as ShareGPT's: rows of `prompt,output`, no header."""

import pathlib
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.errors import InputError
from kernels.units import PS_PER_S
from workloads.arrivals import check_times, renewal
from workloads.parameters import Parameter
from workloads.requests import Requests, build
from workloads.seeds import generator
from workloads.traces._table import NUM_ROW, read_table, tokens

HELP = "lengths alone, CSV without a header: prompt, output; arrivals are made"
OPTIONS: dict[str, Parameter] = {
    "rate": Parameter("requests a second (absent: all at 0)", low=1e-6, high=1e6),
    "cv": Parameter("variation of the gaps: 1 Poisson, 0 constant", default=1.0, high=20.0),
    "shuffle": Parameter("1: in a shuffled order, 0: as listed", "int", default=0, high=1),
}


def sniff(head: bytes) -> bool:
    """Whether the first line is two whole numbers."""
    return re.match(rb"\s*\d+\s*,\s*\d+\s*(\r|\n|$)", head) is not None


def read(path: pathlib.Path, options: Mapping[str, Any], seed: int) -> Requests:
    """The rows of a file as requests."""
    if options["rate"] is None and options["cv"] != OPTIONS["cv"].default:
        raise InputError("has no effect without rate=", field="cv", value=options["cv"], allowed="1")
    rows = read_pairs(path)
    if options["shuffle"]:
        rows = generator(seed, "shuffle").permutation(rows)
    if options["rate"] is None:
        return build(np.zeros(len(rows), np.int64), rows[:, 0], rows[:, 1])
    arrival_s = check_times(renewal(generator(seed, "arrival"), len(rows), options["rate"], options["cv"]))
    return build(np.rint(arrival_s * PS_PER_S).astype(np.int64), rows[:, 0], rows[:, 1])


def read_pairs(file: str | pathlib.Path) -> npt.NDArray[np.int64]:
    """Prompt and output lengths [rows, 2] of a CSV without a header, kept until the file changes."""
    path = pathlib.Path(file)
    return _pairs(str(path), path.stat().st_mtime_ns if path.exists() else 0, NUM_ROW.get())


@lru_cache(maxsize=4)
def _pairs(file: str, changed_ns: int, num_row: int | None) -> npt.NDArray[np.int64]:
    del changed_ns, num_row  # another time, another content
    table = read_table(pathlib.Path(file))
    if table.num_column != 2:
        raise InputError("not two columns", file=file, field="columns", value=table.num_column, allowed="prompt,output")
    return np.stack([tokens(table, 0), tokens(table, 1)], axis=1)
