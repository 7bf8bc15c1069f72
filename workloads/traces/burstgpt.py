"""BurstGPT: `Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type`, seconds; its second release has
`Session ID` and `Elapsed time` beside.

Requests without a response had failed; they are left out and counted in the note.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from kernels.errors import InputError, NothingServedError
from workloads.parameters import Parameter
from workloads.requests import Requests, build
from workloads.traces._clock import TIME_UNIT, unit_ps
from workloads.traces._table import column_index, numbers, read_table, rebase, tokens

HELP = "BurstGPT trace (v1, v2), CSV: Timestamp (s), Model, Request tokens, Response tokens, Log Type"
OPTIONS: dict[str, Parameter] = {
    "model": Parameter("only requests to this model, as the trace names it", "text"),
    **TIME_UNIT,
}


def sniff(head: bytes) -> bool:
    """Whether the header is that of a BurstGPT trace."""
    names = head.split(b"\n", 1)[0].replace(b'"', b"").replace(b"\r", b"").split(b",")
    return {b"Timestamp", b"Request tokens", b"Response tokens"} <= set(names)


def read(path: pathlib.Path, options: Mapping[str, Any], seed: int) -> Requests:
    """The requests that were answered, the clock starting with the first of the file."""
    del seed  # everything is in the file
    table = read_table(path, header=True, text=["Model", "Log Type", "Session ID"])
    prompt, output = tokens(table, "Request tokens", low=0), tokens(table, "Response tokens", low=0)
    if "Log Type" in table.names and (empty := table.columns["Log Type"].isna().to_numpy()).any():
        row = int(np.argmax(empty))
        raise table.error(row, column_index(table, "Log Type"), "the row ends early", "a type in every row")
    keep = (output > 0) & (prompt > 0)
    num_failed = int(len(keep) - keep.sum())
    if options["model"] is not None:
        models = table.columns["Model"].fillna("").to_numpy(str)
        if options["model"] not in models:
            raise InputError(
                "no such model", file=path, field="model", value=options["model"], allowed=np.unique(models)
            )
        keep &= models == options["model"]
    if not keep.any():
        raise NothingServedError("no request was answered", file=path)
    times = numbers(table, "Timestamp", -1e15, 1e15)
    scale = unit_ps(path, options["time_unit"], "s", times)
    arrival_ps, order = rebase(table, column_index(table, "Timestamp"), times - times.min(), scale)
    order_kept = keep[order]
    order = order[order_kept]
    note = f"{num_failed} failed requests (no token) left out" if num_failed else ""
    return build(arrival_ps[order_kept], prompt[order], output[order], note=note)
