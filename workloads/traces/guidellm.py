"""GuideLLM's `benchmarks.json`: benchmarks, each with its strategy (synchronous, concurrent, throughput, constant,
poisson) and its requests: start in seconds since 1970, tokens of prompt and output. Of several, `run=` says which.

Failed and incomplete requests are left out. Every strategy of that client has a cap on concurrency; where the rows say
when they were due (`info.timings.targeted_start`), that is when they arrive, and not when the cap let them start.
"""

import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from kernels.errors import NothingServedError
from workloads.parameters import Parameter
from workloads.requests import MAX_CONCURRENCY, MAX_TOKEN, Requests
from workloads.traces._client import OPTIONS as CLIENT
from workloads.traces._client import RUN, Client, requests_of
from workloads.traces._rows import Row, pick, whole

HELP = "GuideLLM benchmarks.json: strategy, and requests with start, prompt_tokens, output_tokens"
OPTIONS: dict[str, Parameter] = {**CLIENT, **RUN}
S_SINCE_1970 = (1e9, 4e9)
STARTS = ("request_start_time", "start_time")
LENGTHS = {"prompt_tokens": "input_metrics", "output_tokens": "output_metrics"}


def sniff(head: bytes) -> bool:
    """Whether this is an object of benchmarks with a strategy."""
    mine = b'"benchmarks"' in head and (b'"strategy"' in head or b'"guidellm_version"' in head)
    return head.lstrip().startswith(b"{") and mine


def read(path: pathlib.Path, options: Mapping[str, Any], seed: int) -> Requests:
    """The requests of one benchmark that were answered."""
    runs = list(whole(path).objects("benchmarks"))
    strategies = [_strategy(run) for run in runs]
    said = [f"{kind.value.get('type_', 'unknown')} {_number(kind) or ''}".strip() for kind in strategies]
    at = pick(path, said, options["run"])
    requests = runs[at].inner("requests")
    done = list(requests.objects("successful"))
    left = sum(len(requests.value.get(name) or ()) for name in ("incomplete", "errored"))
    if not done:
        raise NothingServedError("no request was answered", file=path)
    start = np.array([_start(row) for row in done])
    prompt, output = (np.array([_length(row, name) for row in done]) for name in LENGTHS)
    order = np.argsort(start, kind="stable")
    notes = (f"{left} incomplete or failed requests left out",) if left else ()
    due = [_due(row) for row in done]
    client, asked = _client(strategies[at], all(due)), None
    if client.rate != math.inf and all(due):
        asked = np.array(due, np.float64)[order]
    return requests_of(path, prompt[order], output[order], start[order] - start.min(), client, options, seed, notes,
                       asked_s=asked)  # fmt: skip


def _strategy(run: Row) -> Row:
    for name in ("config", "args", "scheduler"):
        if isinstance(run.value.get(name), dict) and isinstance(run.value[name].get("strategy"), dict):
            return run.inner(name).inner("strategy")
    return Row(run.path, {}, None, f"{run.prefix}config.strategy.")


def _number(kind: Row) -> Any:
    return next((kind.value[name] for name in ("streams", "rate", "max_concurrency") if kind.has(name)), None)


def _due(row: Row) -> float | None:
    """When the client's schedule had a request, where the row says it."""
    if not row.has("info") or not row.inner("info").has("timings"):
        return None
    timings = row.inner("info").inner("timings")
    return float(timings.number("targeted_start", *S_SINCE_1970)) if timings.has("targeted_start") else None


def _client(kind: Row, due: bool) -> Client:
    """The client that a strategy is; of one that its schedule alone describes (a replay), the cap if rows are due."""
    name = kind.value.get("type_")
    cap = kind.number("max_concurrency", 1, MAX_CONCURRENCY, whole=True) if kind.has("max_concurrency") else 0
    if name == "synchronous":
        return Client(math.inf, cap=1)
    if name == "concurrent":
        return Client(math.inf, cap=kind.number("streams", 1, MAX_CONCURRENCY, whole=True))
    if name == "throughput":
        return Client(math.inf, cap=cap)
    if name in ("constant", "poisson"):
        rate = kind.number("rate", 1e-6, 1e6)
        return Client(rate, 1e9 if name == "constant" else 1.0, cap)
    return Client(None, cap=cap if due else 0)


def _start(row: Row) -> float:
    name = next((name for name in STARTS if row.has(name)), STARTS[0])
    return float(row.number(name, *S_SINCE_1970))


def _length(row: Row, name: str) -> int:
    if row.has(name) or not row.has(LENGTHS[name]):
        return int(row.number(name, 0, MAX_TOKEN, whole=True))
    inner = row.inner(LENGTHS[name])
    return int(inner.number("total_tokens" if inner.has("total_tokens") else "text_tokens", 0, MAX_TOKEN, whole=True))
