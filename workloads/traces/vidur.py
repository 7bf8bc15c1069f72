"""Traces of Vidur: CSV with `num_prefill_tokens`, `num_decode_tokens` and, where the requests have times, `arrived_at`
in seconds. Lengths alone (its processed traces, with `num_total_tokens` and `pd_ratio` beside) get arrivals by `rate`.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from kernels.errors import InputError
from kernels.units import PS_PER_S
from workloads.arrivals import check_times, renewal
from workloads.parameters import Parameter
from workloads.requests import Requests, build
from workloads.seeds import generator
from workloads.traces._clock import TIME_UNIT, unit_ps
from workloads.traces._table import column_index, numbers, read_table, rebase, tokens

HELP = "Vidur trace, CSV: num_prefill_tokens, num_decode_tokens, optional arrived_at (s)"
OPTIONS: dict[str, Parameter] = {
    "rate": Parameter("requests a second, where the file has no times", low=1e-6, high=1e6),
    "cv": Parameter("variation of their gaps: 1 Poisson, 0 constant", default=1.0, high=20.0),
    **TIME_UNIT,
}


def sniff(head: bytes) -> bool:
    """Whether the header names both columns of lengths."""
    names = head.split(b"\n", 1)[0].replace(b'"', b"").replace(b"\r", b"").split(b",")
    return b"num_prefill_tokens" in names and b"num_decode_tokens" in names


def read(path: pathlib.Path, options: Mapping[str, Any], seed: int) -> Requests:
    """The requests of a trace, the clock starting with the first."""
    table = read_table(path, header=True)
    prompt, output = tokens(table, "num_prefill_tokens"), tokens(table, "num_decode_tokens")
    if "arrived_at" not in table.names:
        if options["rate"] is None:
            raise InputError("the file has lengths alone: give rate=", file=path, field="rate", value=None)
        arrival_s = check_times(renewal(generator(seed, "arrival"), len(prompt), options["rate"], options["cv"]))
        return build(np.rint(arrival_s * PS_PER_S).astype(np.int64), prompt, output)
    if options["rate"] is not None:
        raise InputError("has no effect: the file has times", field="rate", value=options["rate"], allowed="none")
    times = numbers(table, "arrived_at", -1e15, 1e15)
    scale = unit_ps(path, options["time_unit"], "s", times)
    arrival_ps, order = rebase(table, column_index(table, "arrived_at"), times - times.min(), scale)
    return build(arrival_ps, prompt[order], output[order])
