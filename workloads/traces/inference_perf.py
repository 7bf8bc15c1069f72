"""inference-perf's `per_request_lifecycle_metrics.json`: a list of requests with `start_time` (seconds of a clock that
begins anywhere; `scheduled_time`, where it is written, is when the load had it) and `info` of their lengths."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from workloads.parameters import Parameter
from workloads.requests import MAX_TOKEN, Requests
from workloads.traces._client import OPTIONS as CLIENT
from workloads.traces._client import Client, requests_of
from workloads.traces._clock import TIME_UNIT, unit_ps
from workloads.traces._rows import MAX_CLOCK, Row, array

HELP = "inference-perf per_request_lifecycle_metrics.json: start_time (s), info of input and output tokens"
OPTIONS: dict[str, Parameter] = {**CLIENT, **TIME_UNIT}


def sniff(head: bytes) -> bool:
    """Whether this is a list of objects with a start and an info."""
    mine = b'"start_time"' in head and b'"info"' in head
    return head.lstrip().startswith(b"[") and mine and b'"conversations"' not in head


def read(path: pathlib.Path, options: Mapping[str, Any], seed: int) -> Requests:
    """The requests that were answered."""
    rows = list(array(path))
    field = "scheduled_time" if all(row.has("scheduled_time") for row in rows) else "start_time"
    start = np.array([row.number(field, -MAX_CLOCK, MAX_CLOCK) for row in rows], np.float64)
    scale = unit_ps(path, options["time_unit"], "s", start)
    lengths = np.array([(0, 0) if row.has("error") else _lengths(row) for row in rows])
    order = np.argsort(start, kind="stable")
    since_s = (start[order] - start.min()) * (scale * 1e-12)
    return requests_of(path, lengths[order, 0], lengths[order, 1], since_s, Client(None), options, seed)


def _lengths(row: Row) -> tuple[int, int]:
    """Of this release (metrics of request and response), or of those before (both in `info`)."""
    info = row.inner("info")
    asked = info.inner("request_metrics").inner("text") if info.has("request_metrics") else info
    answer = info.inner("response_metrics") if info.has("response_metrics") else info
    prompt, output = asked.number("input_tokens", 0, MAX_TOKEN), answer.number("output_tokens", 0, MAX_TOKEN)
    return int(prompt), int(output)
