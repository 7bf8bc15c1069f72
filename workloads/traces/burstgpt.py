"""BurstGPT: `Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type`, seconds from the start.

Requests without a response had failed; they are left out and counted in the note.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from kernels.errors import InputError, NothingServedError
from workloads.parameters import Parameter
from workloads.requests import Requests, build
from workloads.traces._table import read_table, since_first_ps, tokens

HELP = "BurstGPT trace, CSV: Timestamp, Model, Request tokens, Response tokens, Total tokens, Log Type"
OPTIONS: dict[str, Parameter] = {
    "model": Parameter("only requests to this model, as the trace names it", "text"),
}


def sniff(head: bytes) -> bool:
    """Whether the header is that of a BurstGPT trace."""
    return head.startswith(b"Timestamp,Model,Request tokens,")


def read(path: pathlib.Path, options: Mapping[str, Any], seed: int) -> Requests:
    """The requests that were answered, the clock starting with the first of the file."""
    del seed  # everything is in the file
    table = read_table(path, header=True, text=["Model", "Log Type"])
    prompt, output = tokens(table, "Request tokens", low=0), tokens(table, "Response tokens", low=0)
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
    arrival_ps, order = since_first_ps(table, "Timestamp", 10**12)
    order_kept = keep[order]
    order = order[order_kept]
    note = f"{num_failed} failed requests (no token) left out" if num_failed else ""
    return build(arrival_ps[order_kept], prompt[order], output[order], note=note)
