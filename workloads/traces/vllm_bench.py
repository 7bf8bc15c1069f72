"""The JSON that vLLM's serving benchmark saves in detail: `input_lens`, `output_lens`, and when they started.

With a cap on concurrency (`max_concurrency`) the load is what the client asked for: arrivals by `request_rate` ("inf":
all at once) and at most so many under way; the recorded `start_times` are then its server's doing, but for the
`queue_times` that the client held each request back (vLLM 0.33 writes them). Without a cap they
are the arrivals; where there are none, these are made anew from `request_rate` and `burstiness` (the shape of the gamma
gaps) and stretched, as that benchmark does, to last exactly the number of requests over the rate. Requests without
output had failed; they are left out. A file that was appended to (`--append-result`) has a run a line: `run=` says
which.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.errors import InputError, NothingServedError
from workloads.parameters import Parameter
from workloads.requests import MAX_TOKEN, Requests
from workloads.traces import sglang_bench
from workloads.traces._client import OPTIONS as CLIENT
from workloads.traces._client import RUN, client_of, requests_of, said_of
from workloads.traces._rows import Row, documents, pick

HELP = "vLLM serving benchmark, detailed JSON: input_lens, output_lens, start_times, request_rate, max_concurrency"
OPTIONS: dict[str, Parameter] = {**CLIENT, **RUN}
SLACK = 1.05  # of the run's duration, which begins before the first start and ends after the last


def sniff(head: bytes) -> bool:
    """Whether this is one JSON object of a benchmark run (and not of SGLang's, which has the same lists)."""
    mine = head.lstrip().startswith(b"{") and (b'"input_lens"' in head or b'"total_input_tokens"' in head)
    return mine and not sglang_bench.sniff(head)


def read(path: pathlib.Path, options: Mapping[str, Any], seed: int) -> Requests:
    """The requests of one run that were answered."""
    rows = list(documents(path))
    row = rows[pick(path, [said_of(row) for row in rows], options["run"])]
    prompt, output = lengths(row)
    starts = None
    if row.has("start_times"):
        starts = numbers(row, "start_times", -1e15, 1e15)
        _check_length(row, "start_times", len(starts), len(prompt))
        span = float(starts.max() - starts.min())
        if row.has("duration") and span > SLACK * row.number("duration", 0, 1e12):
            raise InputError("not seconds: the run lasted no longer than its duration", file=path, field="start_times",
                             value=span, allowed=f"{row.value['duration']:g} s")  # fmt: skip
    elif row.has("ramp_up_strategy"):
        raise row.error("ramp_up_strategy", "a rate that grows is replayed from start_times alone", "null")
    asked = None
    if starts is not None and row.has("queue_times"):
        queued = numbers(row, "queue_times", 0, 1e12)
        _check_length(row, "queue_times", len(queued), len(prompt))
        asked = starts - queued
    return requests_of(path, prompt, output, starts, client_of(row), options, seed, asked_s=asked)


def lengths(row: Row) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """`input_lens` and `output_lens`, as long as each other."""
    prompt = numbers(row, "input_lens", 0, MAX_TOKEN, whole=True)
    output = numbers(row, "output_lens", 0, MAX_TOKEN, whole=True)
    _check_length(row, "output_lens", len(output), len(prompt))
    return prompt, output


def _check_length(row: Row, field: str, num: int, need: int) -> None:
    if num != need:
        raise InputError("not as long as input_lens", file=row.path, line=row.line, field=field, value=num,
                         allowed=str(need))  # fmt: skip


def numbers(row: Row, field: str, low: float, high: float, whole: bool = False) -> npt.NDArray[np.float64]:
    """A list of numbers within a range."""
    values = row.value.get(field)
    if values == []:
        raise NothingServedError("holds no request", file=row.path, line=row.line, field=field, value=values)
    if not isinstance(values, list) or not values:
        raise row.error(field, "a list of numbers is missing (save the benchmark's details)")
    for index, value in enumerate(values):
        kinds = int if whole else int | float
        if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
            raise InputError("out of range", file=row.path, line=row.line, field=f"{field}[{index}]", value=value,
                             allowed=f"{low:.15g} to {high:.15g}")  # fmt: skip
    return np.array(values, np.float64)
