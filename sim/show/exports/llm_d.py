"""A benchmark report of llm-d, version 0.2.1.

Its schema: llmdbenchmark/analysis/benchmark_report/br_v0_2_1_json_schema.json of github.com/llm-d/llm-d-benchmark.
Nothing in it is the time of day: a run has no start, only a duration.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from sim.record.export import json_bytes
from sim.run.ffn_part import one_machine
from sim.show.exports._numbers import Floats, config, quantiles, served

if TYPE_CHECKING:
    from sim.run.simulate import Simulation

HELP = "llm-d's benchmark report 0.2.1, as JSON"
PERCENTS = {"p0p1": 0.1, "p1": 1, "p5": 5, "p10": 10, "p25": 25, "p50": 50, "p75": 75, "p90": 90, "p95": 95, "p99": 99,
            "p99p9": 99.9}  # fmt: skip


def export(done: "Simulation") -> bytes:
    """The stack (an engine), the load, and what was measured, in seconds and tokens."""
    one_machine(done.setup.scenario, "this format knows")
    rows, metrics, about = served(done), done.metrics, done.run.about
    tpot = np.asarray(rows["tpot_s"], float)
    latency: dict[str, Any] = {
        "time_to_first_token": _statistics("s", rows["ttft_s"]),
        "normalized_time_per_output_token": _statistics("s/token", rows["e2e_s"] / rows["committed_token"]),
        "request_latency": _statistics("s", rows["e2e_s"]),
    }
    if (~np.isnan(tpot)).any():
        latency["time_per_output_token"] = _statistics("s/token", tpot[~np.isnan(tpot)])
    if metrics["mean_itl_ms"] is not None:
        latency["inter_token_latency"] = {
            "units": "ms/token", "mean": metrics["mean_itl_ms"], "stddev": metrics["std_itl_ms"],
            "p50": metrics["median_itl_ms"], **{name: metrics[f"{name}_itl_ms"] for name in ("p90", "p95", "p99")},
        }  # fmt: skip
    rate = {
        "input_token_rate": ("tokens/s", metrics["total_token_throughput"] - metrics["output_throughput"]),
        "output_token_rate": ("tokens/s", metrics["output_throughput"]),
        "total_token_rate": ("tokens/s", metrics["total_token_throughput"]),
        "request_rate": ("queries/s", metrics["request_throughput"]),
    }
    aggregate = {
        "requests": {
            "total": metrics["num_prompts"],
            "failures": metrics["failed"],
            "input_length": _statistics("count", rows["prompt_token"]),
            "output_length": _statistics("count", rows["committed_token"]),
        },
        "latency": latency,
        "throughput": {name: {"units": unit, "mean": value} for name, (unit, value) in rate.items()},
    }
    run = {
        "uid": about["config_hash"],
        "time": {"duration": f"PT{metrics['duration']:.6f}S"},
        "description": f"simulated by Ridgeline, {about['fidelity']}",
    }
    results: dict[str, Any] = {"request_performance": {"aggregate": aggregate}}
    if metrics["mean_power_w"] is not None:
        power = {"power_consumption": {"units": "Watts", "mean": metrics["mean_power_w"]}}
        results["observability"] = {"components": [{"component_label": "engine", "aggregate": power}]}
    scenario = {"stack": [_engine(done)], "load": _load(done, rows)}
    return json_bytes({"version": "0.2.1", "run": run, "scenario": scenario, "results": results})


def _engine(done: "Simulation") -> dict[str, Any]:
    said, setup, about = config(done), done.setup, done.run.about
    tool, _, version = str(said["engine"]).partition("_")
    groups = int(said["dp"]) * int(said["attn_dp"])
    return {
        "metadata": {"label": "engine", "cfg_id": about["config_hash"]},
        "standardized": {
            "kind": "inference_engine", "tool": tool, "tool_version": version or "0", "role": "replica",
            "replicas": int(said["dp"]), "model": {"name": str(said["model"])},
            "accelerator": {
                "model": setup.system.device.name,
                "count": int(said["tp"]) * int(said["pp"]) * int(said["attn_dp"]),
                "parallelism": {
                    "tp": int(said["tp"]), "pp": int(said["pp"]), "ep": int(said["ep"]), "dp": groups,
                    "dp_local": int(said["attn_dp"]), "workers": 1,
                },
            },
        },
        "native": {"config": dict(said)},
    }  # fmt: skip


def _load(done: "Simulation", rows: Any) -> dict[str, Any]:
    def length(values: Any) -> dict[str, Any]:
        found = np.asarray(values, float)
        kind = "fixed" if found.min() == found.max() else "other"
        return {"distribution": kind, "value": float(found.mean()), "std_dev": float(found.std()),
                "min": int(found.min()), "max": int(found.max())}  # fmt: skip

    asked = str(config(done)["requests"])
    return {
        "metadata": {},
        "standardized": {
            "tool": "ridgeline", "tool_version": str(done.run.about["versions"]["ridgeline"]), "source": "unknown",
            "input_seq_len": length(rows["prompt_token"]), "output_seq_len": length(rows["committed_token"]),
        },
        "native": {"args": {"requests": asked}},
    }  # fmt: skip


def _statistics(unit: str, values: Any) -> dict[str, Any]:
    found: Floats = np.asarray(values, float)
    said = {"units": unit, "mean": float(found.mean()), "stddev": float(found.std()), "min": float(found.min())}
    return said | quantiles(found, list(PERCENTS.values()), list(PERCENTS)) | {"max": float(found.max())}
