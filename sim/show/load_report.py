"""What a load holds, as a table of words: the functions behind `ridgeline traces`."""

import math
from typing import Any

import pandas as pd

from kernels.errors import InputError
from workloads.generators import BODY, OPEN, PROCESSES
from workloads.lengths import DISTRIBUTIONS
from workloads.load import Load, load_requests, parse_load, trace_parameters
from workloads.parameters import NUM_REQUEST
from workloads.requests import PERCENTILES, describe, digest
from workloads.trace_formats import formats


def list_sources() -> pd.DataFrame:
    """Generators, the keys that they share, length distributions and trace formats: kind, name, help, keys."""
    rows = []
    for name, process in PROCESSES.items():
        own = [key for key in process.parameters if key not in BODY]
        rows += [("generator", name, process.help, ", ".join(own))]
    rows += [("key", key, parameter.help, "") for key, parameter in ({"n": NUM_REQUEST} | OPEN).items()]
    rows += [("length", name, item.help, ", ".join(item.keys)) for name, item in DISTRIBUTIONS.items()]
    rows += [("format", name, item.HELP, ", ".join(trace_parameters(item))) for name, item in formats().items()]
    return pd.DataFrame(rows, columns=["kind", "name", "help", "keys"])


def show_sources(sources: pd.DataFrame) -> str:
    """The list as text, a block a kind."""
    titles = {
        "generator": "Load generators (NAME:key=value,key=value,...)",
        "key": "Keys of generators",
        "length": "Length distributions (a number, or NAME:key=value:key=value...)",
        "format": "Trace formats (a file whose content tells, or NAME:FILE,key=value,...)",
    }
    lines: list[str] = []
    for kind, rows in sources.groupby("kind", sort=False):
        lines += [titles[str(kind)]]
        width = max(13, int(rows["name"].str.len().max()))
        for name, text, keys in rows[["name", "help", "keys"]].to_numpy(str):
            lines += [f"  {name:<{width}} {text}"]
            lines += [f"  {'':<{width}}   keys: {keys}"] if keys else []
        lines += [""]
    return "\n".join(lines).rstrip()


def describe_load(given: str | Load, seed: int = 0) -> dict[str, Any]:
    """Source, count, duration, rate, burstiness, lengths, shared prefix, hash of a load."""
    if seed < 0:
        raise InputError("negative", field="seed", value=seed, allowed=">= 0")
    load = parse_load(given)
    requests = load_requests(load, seed)
    found: dict[str, Any] = {"requests": str(load), "note": requests.note, **describe(requests)}
    found = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in found.items()
    }
    if requests.max_concurrency:
        found["max_concurrency"] = requests.max_concurrency
    return found | {"hash": digest(requests)}


def show_load(found: dict[str, Any]) -> str:
    """The description as text."""
    rate = "all at once" if found["request_per_s"] is None else f"{found['request_per_s']:.4g} /s"
    lines = [found["requests"]] + ([f"  note: {found['note']}"] if found["note"] else [])
    lines += [
        f"  requests        {found['num_request']:,}"
        + (f" ({found['num_chained']:,} wait for another)" if found["num_chained"] else ""),
        f"  duration        {found['duration_s']:,.1f} s",
        f"  rate            {rate} (gap variation {found['arrival_cv']:.2f})",
        *([f"  under way       {found['max_concurrency']:,} at most"] if "max_concurrency" in found else []),
        f"  shared prefix   {found['shared_prefix_share']:.1%} of prompt tokens",
        f"  hash            {found['hash']}",
        "",
        f"  {'tokens':<8}{'sum':>14}{'mean':>9}{'std':>9}{'min':>7}"
        + "".join(f"{f'p{p}':>8}" for p in PERCENTILES)
        + f"{'max':>9}",
    ]
    for name in ("prompt", "output"):
        stats = {
            key.removeprefix(f"{name}_token_"): value
            for key, value in found.items()
            if key.startswith(f"{name}_token_")
        }
        lines += [
            f"  {name:<8}{stats['sum']:>14,}{stats['mean']:>9.1f}{stats['std']:>9.1f}{stats['min']:>7,}"
            + "".join(f"{stats[f'p{p}']:>8.0f}" for p in PERCENTILES)
            + f"{stats['max']:>9,}"
        ]
    return "\n".join(lines)
