"""AIPerf's `profile_export.jsonl`: a record a request, with when it started (nanoseconds since 1970) and its lengths.

Failed and cancelled requests, and those of a warm-up, are left out. The file does not say what the client was asked
for: a cap that it kept is given as `max_concurrency=`, and a rate as `rate=`.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from kernels.errors import InputError, NothingServedError
from workloads.parameters import Parameter
from workloads.requests import MAX_TOKEN, Requests
from workloads.traces._client import OPTIONS as CLIENT
from workloads.traces._client import Client, requests_of
from workloads.traces._rows import NS_SINCE_1970, Row, lines

HELP = "AIPerf profile_export.jsonl: request_start_ns, input_sequence_length, output_sequence_length"
OPTIONS: dict[str, Parameter] = dict(CLIENT)


def sniff(head: bytes) -> bool:
    """Whether this holds records of AIPerf, or its statistics (which are then refused by name)."""
    first = head.lstrip().split(b"\n", 1)[0]
    records = b'"metadata"' in first and b'"request_start_ns"' in first
    return head.lstrip().startswith(b"{") and (records or _statistics(head))


def _statistics(head: bytes) -> bool:
    return b'"request_start_ns"' not in head and b'"input_sequence_length"' in head and b'"avg"' in head


def read(path: pathlib.Path, options: Mapping[str, Any], seed: int) -> Requests:
    """The requests that were answered."""
    from workloads.traces._table import read_head

    if _statistics(read_head(path)):
        raise InputError("statistics of a run, without its requests", file=path, field="file",
                         allowed="profile_export.jsonl beside it")  # fmt: skip
    start, prompt, output, num_other = [], [], [], 0
    for row in lines(path):
        about = row.inner("metadata")
        if about.value.get("benchmark_phase", "profiling") != "profiling":
            num_other += 1
            continue
        start.append(about.number("request_start_ns", *NS_SINCE_1970, whole=True))
        failed = row.has("error") or about.value.get("was_cancelled") is True
        prompt.append(0 if failed else _length(row, "input_sequence_length"))
        output.append(0 if failed else _length(row, "output_sequence_length"))
    if not start:
        raise NothingServedError("holds no request", file=path)
    first = min(start)
    since_s = np.array([time - first for time in start]) * 1e-9
    said = (f"{num_other} requests of a warm-up left out",) if num_other else ()
    return requests_of(path, np.array(prompt), np.array(output), since_s, Client(None), options, seed, said)


def _length(row: Row, name: str) -> int:
    metric = row.inner("metrics").inner(name)
    if metric.value.get("unit") != "tokens":
        raise metric.error("unit", "not the unit of a length", "tokens")
    return int(metric.number("value", 0, MAX_TOKEN))
