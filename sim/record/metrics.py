"""The numbers of a run, under the names and by the definitions of vLLM's serving benchmark.

Latencies come as mean, median, std and percentiles; `METRICS` says what each is. Statistics without a single value (no
request finished) are None.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.errors import InputError
from sim.record.columns import Columns
from sim.record.load_state import load_state
from sim.record.records import TOTALS, Run
from sim.record.slo import SLO_NAMES, parse_slo

Floats = npt.NDArray[np.float64]

PERCENTILES: tuple[float, ...] = (90, 95, 99)

METRICS: dict[str, str] = {
    "num_prompts": "requests of the load",
    "completed": "requests that finished",
    "failed": "all others (refused, unfinished)",
    "duration": "seconds from the first arrival to the last finish",
    "total_input_tokens": "prompt tokens of completed requests",
    "total_output_tokens": "output tokens that they got",
    "request_throughput": "completed requests a second",
    "request_goodput": "completed requests a second that meet every part of the SLO",
    "output_throughput": "output tokens a second",
    "total_token_throughput": "prompt and output tokens a second",
    "max_output_tokens_per_s": "most tokens in one second, a request's tokens taken as evenly spaced",
    "max_concurrent_requests": "most requests in the system at once (of those that finished)",
    "ttft_ms": "from the arrival to the first token",
    "tpot_ms": "(e2el - ttft) / (output tokens - 1); left out for one token, 0 where goodput asks",
    "itl_ms": "times between two tokens of a request, from the engine's histogram",
    "e2el_ms": "from the arrival to the last answer",
    "load_state": "whether the system keeps up: stable, backlogged, overloaded (`sim.record.load_state`)",
    "queue_drift": "share of what arrives by which the queue before the first token grows",
    "energy_j": "joules of all devices, idle time included",
    "mean_power_w": "watts of all devices, over the time in which their joules are counted",
    "mean_wall_power_w": "with host, switches, ports and fans: the devices' share of their box",
    "request_goodput_per_kw": "request_goodput a kilowatt of mean_wall_power_w",
    "peak_power_w": "of the operator that draws most, on all devices of a stage",
    "energy_j_per_million_token": "joules over prompt and output tokens; `_output_token`: over output tokens",
    "usd_per_million_token": "rent over prompt and output tokens; `_output_token`: over output tokens",
    "spec_decode_num_drafts": "verifications of drafts, of all requests",
    "spec_decode_draft_tokens": "tokens drafted, `_accepted_tokens`: of these, committed",
    "spec_decode_acceptance_rate": "one over the other, in per cent",
    "spec_decode_acceptance_length": "tokens that a verification committed, the next one included",
}
"""What each number is; latencies (`ttft_ms`) stand behind `mean_`, `median_`, `std_` and `p99_`."""


def measure(
    run: Run,
    *,
    goodput: str | Sequence[str] | Mapping[str, float] | None = None,
    percentiles: Sequence[float] = PERCENTILES,
) -> dict[str, Any]:
    """All numbers of a run as one flat mapping; see this file's head for the definitions."""
    slo = parse_slo(goodput)
    for p in percentiles:
        if not 0 <= p <= 100:
            raise InputError("no such percentile", field="percentiles", value=p, allowed="0 to 100")
    frame = run.request
    done = frame.rows(frame.equal("status", "finished"))
    duration = float(done["finish_s"].max() - frame["arrival_s"].min()) if len(done) else 0.0
    num_input, num_output = int(done["prompt_token"].sum()), int(done["committed_token"].sum())

    def rate(count: float) -> float:
        return count / duration if duration > 0 else 0.0

    found: dict[str, Any] = {
        "num_prompts": len(frame),
        "completed": len(done),
        "failed": len(frame) - len(done),
        "duration": duration,
        "total_input_tokens": num_input,
        "total_output_tokens": num_output,
        "request_throughput": rate(len(done)),
        "request_goodput": rate(int(meets(done, slo).sum())) if slo else None,
        "output_throughput": rate(num_output),
        "total_token_throughput": rate(num_input + num_output),
        "max_output_tokens_per_s": peak_token_rate(done),
        "max_concurrent_requests": peak_concurrency(done),
    }
    for name, column in (("ttft", "ttft_s"), ("tpot", "tpot_s")):
        found |= statistics(name, done[column][~np.isnan(done[column])], percentiles)
    if run.gap_edge_s is not None and run.gap_count is not None:
        found |= gap_statistics(frame, run.gap_edge_s, run.gap_count, percentiles)
    found |= statistics("e2el", done["e2e_s"], percentiles)
    found |= speculation(frame)
    kept = frame.rows(~frame.equal("status", "refused"))
    state, drift = load_state(kept["arrival_s"], kept["first_token_s"], int(run.totals.get("num_replica", 1)))
    found |= {"load_state": state, "queue_drift": drift}
    found |= energy_and_cost(run, duration, num_input, num_output)
    good, wall_w = found["request_goodput"], found["mean_wall_power_w"]
    return found | {"request_goodput_per_kw": None if good is None or not wall_w else good / wall_w * 1e3}


def speculation(frame: Columns) -> dict[str, float]:
    """What was drafted and what was committed of it; nothing where no step verified a draft."""
    num, drafted, accepted = (
        int(frame[name].sum()) for name in ("num_verification", "drafted_token", "accepted_token")
    )
    if not num:
        return {}
    return {
        "spec_decode_num_drafts": num,
        "spec_decode_draft_tokens": drafted,
        "spec_decode_accepted_tokens": accepted,
        "spec_decode_acceptance_rate": 100.0 * accepted / drafted,
        "spec_decode_acceptance_length": 1.0 + accepted / num,
    }


def meets(done: Columns, slo: Mapping[str, float]) -> npt.NDArray[np.bool_]:
    """Which finished requests meet every part of the SLO (a single output token has a TPOT of 0)."""
    good = np.ones(len(done), np.bool_)
    for name, limit in slo.items():
        good &= np.nan_to_num(done[SLO_NAMES[name]]) <= limit
    return good


def percentile_word(p: float) -> str:
    """How a percentile is written in a field name.

    >>> percentile_word(99.0), percentile_word(99.9)
    ('99', '99.9')
    """
    return str(int(p)) if int(p) == p else str(p)


def statistics(name: str, values_s: Floats, percentiles: Sequence[float]) -> dict[str, float | None]:
    """Mean, median, standard deviation (of the population) and percentiles (linear) in milliseconds."""
    names = [f"mean_{name}_ms", f"median_{name}_ms", f"std_{name}_ms"]
    names += [f"p{percentile_word(p)}_{name}_ms" for p in percentiles]
    if not len(values_s):
        return dict.fromkeys(names)
    values = [values_s.mean(), np.median(values_s), values_s.std(), *np.percentile(values_s, list(percentiles))]
    return {key: float(value) * 1e3 for key, value in zip(names, values, strict=True)}


def gap_statistics(
    frame: Columns, edge_s: Floats, count: npt.NDArray[np.int64], percentiles: Sequence[float]
) -> dict[str, float | None]:
    """Inter-token latency: the mean from the records, exactly; the rest from the histogram, to a bucket's width."""
    total = int(count.sum())
    found = statistics("itl", np.empty(0), percentiles)
    if not total:
        return found
    middle = 0.5 * (edge_s[:-1] + edge_s[1:])
    spoken = frame["committed_token"] > 1
    num_gap = int((frame["committed_token"][spoken] - 1).sum())
    mean = (
        float(np.nansum((frame["last_token_s"] - frame["first_token_s"])[spoken])) / num_gap
        if num_gap == total
        else (float((count * middle).sum()) / total)
    )
    found["mean_itl_ms"] = mean * 1e3
    found["std_itl_ms"] = math.sqrt(float((count * (middle - mean) ** 2).sum()) / total) * 1e3
    found["median_itl_ms"] = histogram_percentile(edge_s, count, 50.0) * 1e3
    for p in percentiles:
        found[f"p{percentile_word(p)}_itl_ms"] = histogram_percentile(edge_s, count, p) * 1e3
    return found


def histogram_percentile(edge: Floats, count: npt.NDArray[np.int64], p: float) -> float:
    """The p-th percentile of counted values, each bucket's taken as evenly spread.

    >>> histogram_percentile(np.array([0.0, 1.0, 2.0]), np.array([0, 4]), 50.0)
    1.5
    """
    rank = p / 100.0 * (int(count.sum()) - 1)  # as a list of values would be indexed
    cumulative = np.cumsum(count)
    bucket = int(np.searchsorted(cumulative, rank, side="right"))
    inside = (rank - (cumulative[bucket] - count[bucket]) + 0.5) / count[bucket]
    return float(edge[bucket] + min(inside, 1.0) * (edge[bucket + 1] - edge[bucket]))


def peak_concurrency(done: Columns) -> int:
    """Most finished requests that were in the system at once, each from its arrival until just before its finish."""
    if not len(done):
        return 0
    start, stop = np.sort(done["arrival_s"]), np.sort(done["finish_s"])
    gone = np.searchsorted(stop, start, side="right")  # by the time of each arrival
    return int((np.arange(1, len(start) + 1) - gone).max())


def token_rate(done: Any, edge_s: Floats) -> Floats:
    """Output tokens between consecutive `edge_s`, each request's taken as evenly spaced from first to last.

    Every request adds its first token and a ramp of the others; the sum of all ramps is piecewise linear, so its
    value at the edges is an interpolation between the sorted ends of ramps.
    """
    first, last = np.asarray(done["first_token_s"], np.float64), np.asarray(done["last_token_s"], np.float64)
    rest = np.asarray(done["committed_token"], np.float64) - 1.0
    ramp = (last > first) & (rest > 0)
    jump = np.sort(np.concatenate([first, np.repeat(first[~ramp], np.maximum(rest[~ramp], 0).astype(np.int64))]))
    total = np.searchsorted(jump, edge_s, side="left").astype(np.float64)
    if ramp.any():
        slope = rest[ramp] / (last[ramp] - first[ramp])
        at = np.concatenate([first[ramp], last[ramp]])
        order = np.argsort(at, kind="stable")
        at = at[order]
        rate = np.cumsum(np.concatenate([slope, -slope])[order])
        height = np.concatenate([[0.0], np.cumsum(rate[:-1] * np.diff(at))])
        total += np.interp(edge_s, at, height)
    return np.diff(total)


def peak_token_rate(done: Columns) -> float:
    """Most output tokens in one second of the clock."""
    if not len(done):
        return 0.0
    origin, end = float(done["arrival_s"].min()), float(done["finish_s"].max())
    edges = origin + np.arange(math.floor(end - origin) + 2, dtype=np.float64)
    return float(round(token_rate(done, edges).max(), 6))


POWER = ("peak_power_w", *(name for name in TOTALS if name.startswith("energy_") and name != "energy_j"))


def energy_and_cost(run: Run, duration: float, num_input: int, num_output: int) -> dict[str, float | None]:
    """Joules by engine and level of memory, watts, and joules and dollars a million tokens: of all tokens, and of
    output tokens alone."""
    energy_j, rest_j = (float(run.totals.get(name, math.nan)) for name in ("energy_j", "rest_j"))
    span_s = float(run.totals.get("span_s", duration))
    usd = float(run.totals.get("usd_per_h", math.nan)) * duration / 3600.0

    def per_million(amount: float, num_token: int) -> float | None:
        return amount / num_token * 1e6 if num_token and math.isfinite(amount) else None

    return {
        "energy_j": energy_j if math.isfinite(energy_j) else None,
        "mean_power_w": energy_j / span_s if duration > 0 and math.isfinite(energy_j) else None,
        "mean_wall_power_w": (energy_j + rest_j) / span_s if duration > 0 and math.isfinite(rest_j) else None,
        **{name: value for name, value in run.totals.items() if name in POWER},
        "energy_j_per_million_token": per_million(energy_j, num_input + num_output),
        "energy_j_per_million_output_token": per_million(energy_j, num_output),
        "usd_per_million_token": per_million(usd, num_input + num_output),
        "usd_per_million_output_token": per_million(usd, num_output),
    }
