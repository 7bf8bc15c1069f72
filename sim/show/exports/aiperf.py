"""AIPerf's summary, `profile_export_aiperf.json`.

Its pages: docs/reference/json-export-schema.md and metrics-reference.md of github.com/ai-dynamo/aiperf. Metrics of
requests have a distribution with count and sum, derived ones `unit` and `avg` alone. Its inter-token latency is the
mean gap of a request, (request latency - TTFT) / (output tokens - 1): our TPOT.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from sim.record.export import json_bytes
from sim.show.exports._numbers import Floats, quantiles, served

if TYPE_CHECKING:
    from sim.run.simulate import Simulation

HELP = "AIPerf's profile_export_aiperf.json (schema 1.4)"
PERCENTS = (1, 5, 10, 25, 50, 75, 90, 95, 99)


def export(done: "Simulation") -> bytes:
    """Milliseconds and tokens, as AIPerf has them."""
    rows, metrics = served(done), done.metrics
    ttft, e2e, tpot = (np.asarray(rows[name], float) for name in ("ttft_s", "e2e_s", "tpot_s"))
    output, prompt = np.asarray(rows["committed_token"], float), np.asarray(rows["prompt_token"], float)
    several = ~np.isnan(tpot)
    found: dict[str, Any] = {
        "schema_version": "1.4",
        "request_throughput": _one("requests/sec", metrics["request_throughput"]),
        "request_latency": _many("ms", e2e * 1e3),
        "request_count": _one("requests", float(len(rows))),
        "time_to_first_token": _many("ms", ttft * 1e3),
        "output_token_throughput": _one("tokens/sec", metrics["output_throughput"]),
        "output_sequence_length": _many("tokens", output),
        "input_sequence_length": _many("tokens", prompt),
        "output_token_count": _many("tokens", output),
        "benchmark_duration": _one("sec", metrics["duration"]),
        "total_isl": _one("tokens", float(prompt.sum())),
        "total_osl": _one("tokens", float(output.sum())),
        "total_output_tokens": _one("tokens", float(output.sum())),
        "error_request_count": _one("requests", float(metrics["failed"])),
    }
    if several.any():
        found["inter_token_latency"] = _many("ms", tpot[several] * 1e3)
        found["output_token_throughput_per_user"] = _many("tokens/sec/user", 1.0 / tpot[several])
    if metrics["request_goodput"] is not None:
        found["goodput"] = _one("requests/sec", metrics["request_goodput"])
    found |= {"was_cancelled": not done.result.complete, "is_complete": done.result.complete}
    return json_bytes(found | {"ridgeline": dict(done.run.about)})


def _one(unit: str, value: float) -> dict[str, Any]:
    return {"unit": unit, "avg": value}


def _many(unit: str, values: Floats) -> dict[str, Any]:
    found: dict[str, Any] = {"unit": unit, "avg": float(values.mean()), "min": values.min(), "max": values.max()}
    found |= quantiles(values, PERCENTS, [f"p{percent}" for percent in PERCENTS])
    sample = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return found | {"std": sample, "count": len(values), "sum": float(values.sum())}
