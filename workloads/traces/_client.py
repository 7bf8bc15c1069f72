"""What the client of a benchmark asked for, out of its result file: arrivals by rate, or as they were recorded, and at
most so many requests under way.

Where a client held requests back (`max_concurrency`), the recorded starts are what the measured server made of the
load, not the load: arrivals are then those that the client recorded before it held them back, or where it recorded
none are made anew from the rate; the cap is kept.
"""

import math
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.errors import InputError, NothingServedError
from kernels.units import PS_PER_S
from workloads.arrivals import check_times, gaps
from workloads.parameters import Parameter
from workloads.requests import MAX_CONCURRENCY, MAX_TIME_S, Requests, build
from workloads.seeds import generator
from workloads.traces._rows import Row

Floats = npt.NDArray[np.float64]
CHOICES = ("recorded", "made")
OPTIONS: dict[str, Parameter] = {
    "rate": Parameter("requests a second, instead of the recorded arrivals", low=1e-6, high=1e6),
    "arrivals": Parameter(
        "recorded: as they started; made: anew, from rate and burstiness (with a cap: as asked, or made)", "text"
    ),
}
RUN = {"run": Parameter("which run of the file, from 1", "int", low=1, high=1e6)}


@dataclass(frozen=True)
class Client:
    """What was asked for: requests a second (inf: all at once; None: not said), the shape of the gamma gaps, the cap
    (0: none)."""

    rate: float | None
    burstiness: float = 1.0
    cap: int = 0


def client_of(row: Row) -> Client:
    """Fields `request_rate`, `burstiness` and `max_concurrency`, as the benchmarks of vLLM and SGLang write them."""
    rate, cap = row.value.get("request_rate"), 0
    if rate in ("inf", "trace", math.inf):
        rate = None if rate == "trace" else math.inf
    elif rate is not None:
        rate = row.number("request_rate", 1e-6, 1e6)
    shape = row.number("burstiness", 0.0025, 1e9) if row.has("burstiness") else 1.0
    if row.has("max_concurrency"):
        cap = row.number("max_concurrency", 1, MAX_CONCURRENCY, whole=True)
    return Client(rate, shape, cap)


def said_of(row: Row) -> str:
    """A run in a few words, to choose one of several by."""
    name = next((row.value[field] for field in ("tag", "label", "dataset_name") if row.value.get(field)), "run")
    said = (f"{field} {row.value.get(field)}" for field in ("request_rate", "max_concurrency"))
    return f"{name} at " + ", ".join(said)


def requests_of(
    path: pathlib.Path, prompt: npt.NDArray[Any], output: npt.NDArray[Any], recorded_s: Floats | None,
    client: Client, options: Mapping[str, Any], seed: int, notes: tuple[str, ...] = (), asked_s: Floats | None = None,
) -> Requests:  # fmt: skip
    """Requests that were answered (a token of prompt and output), in order of arrival, with the cap of the client.
    `recorded_s`: when they started; `asked_s`: when they would have, had the client not held them back."""
    if asked_s is not None and client.cap and options["arrivals"] is None and options["rate"] is None:
        arrival_s, made = _since(path, asked_s), True
    else:
        arrival_s, made = _arrivals(path, recorded_s, client, options, len(prompt), seed)
    keep = np.flatnonzero((prompt > 0) & (output > 0))
    if not len(keep):
        raise NothingServedError("no request was answered", file=path)
    keep = keep[np.argsort(arrival_s[keep], kind="stable")]
    num_failed = len(prompt) - len(keep)
    said = [f"{num_failed} failed requests (no token) left out"] if num_failed else []
    if client.cap and made:
        said += [f"the client kept {client.cap} requests under way at most: so does this load (max_concurrency)"]
    elif client.cap:
        said += ["arrivals are as they were recorded, that is as the measured server let them start"]
    cap = client.cap if made else 0
    return build(
        np.rint(arrival_s[keep] * PS_PER_S).astype(np.int64), prompt[keep].astype(np.int64),
        output[keep].astype(np.int64), max_concurrency=cap, note="; ".join([*said, *notes]),
    )  # fmt: skip


def _arrivals(
    path: pathlib.Path, recorded_s: Floats | None, client: Client, options: Mapping[str, Any], num: int, seed: int
) -> tuple[Floats, bool]:
    """Seconds of arrival, and whether they were made (else: recorded)."""
    want, rate = options["arrivals"], options["rate"]
    if want is not None and want not in CHOICES:
        raise InputError("no such way", field="arrivals", value=want, allowed=CHOICES)
    if want == "recorded" and (recorded_s is None or rate is not None):
        reason = "the file holds no starts" if recorded_s is None else f"rate={rate:g} makes them"
        raise InputError(reason, file=path, field="arrivals", value=want, allowed="made")
    if want == "recorded" or (want is None and rate is None and recorded_s is not None and not client.cap):
        assert recorded_s is not None
        return _since(path, recorded_s), False
    given = client.rate if rate is None else rate
    if given is None:
        raise InputError("give rate=", file=path, field="request_rate", value=None, allowed='1e-06 to 1e+06 or "inf"')
    if given == math.inf:
        return np.zeros(num), True
    count = np.cumsum(gaps(generator(seed, "arrival"), num, 1.0 / math.sqrt(client.burstiness)))
    return check_times(count / count[-1] * (num / given)), True  # stretched to the rate, as that client does


def _since(path: pathlib.Path, start_s: Floats) -> Floats:
    since: Floats = start_s - start_s.min()
    if since.max() > MAX_TIME_S:
        raise InputError("spans too long", file=path, field="start_times", value=float(since.max()), allowed="104 days")
    return since
