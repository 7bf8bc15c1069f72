"""The JSON that vLLM's serving benchmark saves in detail: `input_lens`, `output_lens`, and when they started.

Where the file has no `start_times`, arrivals are made anew from its `request_rate` and `burstiness` (the shape
of the gamma gaps; "inf" requests a second: all at once) and stretched, as that benchmark does, to last exactly the
number of requests over the rate. Requests without output had failed; they are left out.
"""

import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.content import MAX_JSON_BYTE, json_of
from kernels.errors import InputError, NothingServedError
from kernels.units import PS_PER_S
from workloads.arrivals import check_times, gaps
from workloads.parameters import Parameter
from workloads.requests import MAX_TIME_S, MAX_TOKEN, Requests, build
from workloads.seeds import generator
from workloads.traces._table import read_byte

HELP = "vLLM serving benchmark, detailed JSON: input_lens, output_lens, start_times or request_rate"
OPTIONS: dict[str, Parameter] = {
    "rate": Parameter("requests a second, instead of the recorded arrivals", low=1e-6, high=1e6),
}


def sniff(head: bytes) -> bool:
    """Whether this is one JSON object of a benchmark run."""
    return head.lstrip().startswith(b"{") and (b'"input_lens"' in head or b'"total_input_tokens"' in head)


def read(path: pathlib.Path, options: Mapping[str, Any], seed: int) -> Requests:
    """The requests that were answered."""
    found = json_of(read_byte(path, MAX_JSON_BYTE), path)
    if not isinstance(found, dict):
        raise InputError("not a JSON object", file=path)
    prompt = _column(path, found, "input_lens", 0, MAX_TOKEN)
    output = _column(path, found, "output_lens", 0, MAX_TOKEN)
    if len(prompt) != len(output):
        raise InputError(
            "not as long as input_lens", file=path, field="output_lens", value=len(output), allowed=str(len(prompt))
        )
    arrival_s = _arrivals(path, found, options["rate"], len(prompt), seed)
    keep = np.flatnonzero((prompt > 0) & (output > 0))
    if not len(keep):
        raise NothingServedError("no request was answered", file=path)
    keep = keep[np.argsort(arrival_s[keep], kind="stable")]
    num_failed = len(prompt) - len(keep)
    note = f"{num_failed} failed requests (no token) left out" if num_failed else ""
    arrival_ps = np.rint(arrival_s[keep] * PS_PER_S).astype(np.int64)
    return build(arrival_ps, prompt[keep].astype(np.int64), output[keep].astype(np.int64), note=note)


def _arrivals(
    path: pathlib.Path, found: dict[str, Any], rate: float | None, num: int, seed: int
) -> npt.NDArray[np.float64]:
    if rate is None and "start_times" in found:
        start_s = _column(path, found, "start_times", -1e15, 1e15, whole=False)
        if len(start_s) != num:
            raise InputError(
                "not as long as input_lens", file=path, field="start_times", value=len(start_s), allowed=str(num)
            )
        since = start_s - start_s.min()
        if since.max() > MAX_TIME_S:
            raise InputError(
                "spans too long", file=path, field="start_times", value=float(since.max()), allowed="104 days"
            )
        return since
    given = found.get("request_rate") if rate is None else rate
    if given in ("inf", math.inf):
        return np.zeros(num)
    if isinstance(given, bool) or not isinstance(given, int | float) or not 1e-6 <= given <= 1e6:
        raise InputError("give rate=", file=path, field="request_rate", value=given, allowed='1e-06 to 1e+06 or "inf"')
    shape = found.get("burstiness", 1.0)
    if isinstance(shape, bool) or not isinstance(shape, int | float) or not shape >= 0.0025:
        raise InputError("out of range", file=path, field="burstiness", value=shape, allowed=">= 0.0025")
    count = np.cumsum(gaps(generator(seed, "arrival"), num, 1.0 / math.sqrt(shape)))
    return check_times(count / count[-1] * (num / given))


def _column(
    path: pathlib.Path, found: dict[str, Any], field: str, low: float, high: float, whole: bool = True
) -> npt.NDArray[np.float64]:
    """A list of numbers within a range."""
    values = found.get(field)
    if values == []:
        raise NothingServedError("holds no request", file=path, field=field, value=values)
    if not isinstance(values, list) or not values:
        raise InputError(
            "a list of numbers is missing (save the benchmark's details)", file=path, field=field, value=values
        )
    for index, value in enumerate(values):
        kinds = int if whole else int | float
        if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
            name = f"{field}[{index}]"
            raise InputError("out of range", file=path, field=name, value=value, allowed=f"{low:.15g} to {high:.15g}")
    return np.array(values, np.float64)
