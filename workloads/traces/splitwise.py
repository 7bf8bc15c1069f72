"""Traces of splitwise-sim (Patel et al., ISCA 2024): CSV with `request_id`, `request_type`, `application_id`,
`arrival_timestamp` in seconds, `batch_size`, `prompt_size`, `token_size`."""

import pathlib
from collections.abc import Mapping
from typing import Any

from workloads.parameters import Parameter
from workloads.requests import Requests, build
from workloads.traces._clock import TIME_UNIT, unit_ps
from workloads.traces._table import column_index, numbers, read_table, rebase, tokens

HELP = "splitwise-sim trace, CSV: arrival_timestamp (s), prompt_size, token_size, batch_size, ids"
OPTIONS: dict[str, Parameter] = {**TIME_UNIT}


def sniff(head: bytes) -> bool:
    """Whether the header has the columns of time and lengths."""
    names = head.split(b"\n", 1)[0].replace(b'"', b"").replace(b"\r", b"").split(b",")
    return {b"arrival_timestamp", b"prompt_size", b"token_size"} <= set(names)


def read(path: pathlib.Path, options: Mapping[str, Any], seed: int) -> Requests:
    """The requests of a trace, the clock starting with the first."""
    del seed  # everything is in the file
    table = read_table(path, header=True)
    if "batch_size" in table.names:
        numbers(table, "batch_size", 1, 1, whole=True)  # a request of several sequences is nothing that we serve
    times = numbers(table, "arrival_timestamp", -1e15, 1e15)
    scale = unit_ps(path, options["time_unit"], "s", times)
    arrival_ps, order = rebase(table, column_index(table, "arrival_timestamp"), times - times.min(), scale)
    return build(arrival_ps, tokens(table, "prompt_size")[order], tokens(table, "token_size")[order])
