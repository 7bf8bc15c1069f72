"""The load as text: `poisson:rate=2,n=1000,prompt=...,output=...`, a trace `azure:FILE,n=1000`, or a TOML table.

`load_requests` takes any of these and returns `Requests`; `parse_load` and `str` are each other's inverse.
"""

import os
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kernels.errors import InputError
from workloads.generators import PROCESSES, generate
from workloads.parameters import MAX_CONCURRENCY, NUM_REQUEST, Parameter, Value, parse_values, show_value, table_value
from workloads.requests import Requests, capped, head, scale_rate
from workloads.trace_formats import TraceFormat, formats, read_trace, sniff
from workloads.traces._table import NUM_ROW

if TYPE_CHECKING:
    import pandas as pd

TRACE_KEYS: dict[str, Parameter] = {
    "file": Parameter("the trace", "text", required=True),
    "n": NUM_REQUEST._replace(help="keep the first n requests"),
    "max_concurrency": MAX_CONCURRENCY,
    "scale": Parameter("replay at this multiple of the recorded rate", low=1e-6, high=1e6),
}


@dataclass(frozen=True)
class Load:
    """Where requests come from: a generator's or a trace format's name and the values given."""

    source: str
    values: tuple[tuple[str, Value], ...]

    def __str__(self) -> str:
        pairs = dict(self.values)
        first = [str(pairs.pop("file"))] if self.source in formats() else []
        body = ",".join([*first, *(f"{key}={show_value(value)}" for key, value in pairs.items())])
        return f"{self.source}:{body}" if body else self.source

    def table(self) -> dict[str, Any]:
        """The TOML form: `parse_load(load.table()) == load`."""
        return {"source": self.source, **{key: table_value(value) for key, value in self.values}}


def parse_load(given: "str | os.PathLike[str] | Mapping[str, Any] | Load") -> Load:
    """A `Load` from text, from the path of a trace (its format is told by its content) or from a TOML table.

    >>> str(parse_load("poisson:rate=2,n=10,prompt=512,output=lognormal:mean=247:max=1000"))
    'poisson:rate=2,n=10,prompt=fixed:token=512,output=lognormal:mean=247:max=1000'
    >>> parse_load({"source": "poisson", "rate": 2, "n": 10, "prompt": 5, "output": 5}).source
    'poisson'
    >>> parse_load("poison:rate=2")
    Traceback (most recent call last):
    ...
    kernels.errors.InputError: requests = 'poison': no such file, ...; allowed: ... (nearest: poisson)
    """
    if isinstance(given, Load):
        return given
    if isinstance(given, Mapping):
        table = dict(given)
        source = str(table.pop("source", ""))
        if not source and "file" in table:
            source = sniff(pathlib.Path(str(table["file"])))
        return _checked(source, table)
    text = os.fspath(given).strip()
    source, colon, body = text.partition(":")
    if source in PROCESSES:
        return _checked(source, _pairs(body) if colon else {})
    if source in formats():
        path, _, options = body.partition(",")
        return _checked(source, {"file": path, **_pairs(options)})
    path, _, options = text.partition(",")
    if path and os.path.exists(path):  # False also for what no file system takes as a name
        return _checked(sniff(pathlib.Path(path)), {"file": path, **_pairs(options)})
    raise InputError(
        "no such file, generator or trace format",
        field="requests",
        value=source if colon or not options else path,
        allowed=[*PROCESSES, *formats()],
    )


def _pairs(body: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for part in filter(None, body.split(",")):
        key, equals, value = part.partition("=")
        if not equals or not key or not value:
            raise InputError("not a key=value", field="requests", value=part, allowed="key=value,key=value,...")
        if key in pairs:
            raise InputError("given twice", field=key, value=value)
        pairs[key] = value
    return pairs


def _checked(source: str, table: Mapping[str, Any]) -> Load:
    if source in PROCESSES:
        parameters = PROCESSES[source].parameters
    elif source in formats():
        parameters = trace_parameters(formats()[source])
    else:
        raise InputError(
            "no such generator or trace format", field="source", value=source, allowed=[*PROCESSES, *formats()]
        )
    return Load(source, tuple(parse_values(parameters, table, source).items()))


def trace_parameters(trace_format: TraceFormat) -> dict[str, Parameter]:
    """The keys that a trace of this format takes."""
    return TRACE_KEYS | dict(trace_format.OPTIONS)


def load_requests(
    given: "str | os.PathLike[str] | Mapping[str, Any] | Load | Requests | pd.DataFrame", seed: int = 0
) -> Requests:
    """The requests that `given` names: text, path, table, `Load`; `Requests` pass through, and a frame is a row a
    request with the columns of the `plain` format (`arrival_s`, `prompt_token`, `output_token`, ...).

    >>> len(load_requests("batch:n=3,prompt=8,output=2"))
    3
    """
    if isinstance(given, Requests):
        return given
    if hasattr(given, "to_csv"):
        from workloads.traces.plain import of_frame

        return of_frame(given)
    load = parse_load(given)
    values = dict(load.values)
    if load.source in PROCESSES:
        return generate(load.source, values, seed)
    num, scale, file = values.pop("n", None), values.pop("scale", None), values.pop("file")
    cap = values.pop("max_concurrency", None)
    wanted = NUM_ROW.set(num if isinstance(num, int) else None)
    try:
        requests = read_trace(load.source, pathlib.Path(str(file)), values, seed)
    finally:
        NUM_ROW.reset(wanted)
    if isinstance(num, int):
        requests = head(requests, num)
    if isinstance(cap, int):
        requests = capped(requests, cap)
    return scale_rate(requests, scale) if isinstance(scale, float) else requests
