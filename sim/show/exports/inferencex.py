"""A row as InferenceX (formerly InferenceMAX) aggregates its benchmarks: utils/process_result.py of
github.com/SemiAnalysisAI/InferenceX. Latencies in seconds, throughput a GPU, `intvty` tokens a second and user."""

from typing import TYPE_CHECKING, Any

import numpy as np

from sim.record.export import json_bytes
from sim.run.ffn_part import one_machine
from sim.show.exports._numbers import config, num_device, served

if TYPE_CHECKING:
    from sim.run.simulate import Simulation

HELP = "a row of InferenceX"


def export(done: "Simulation") -> bytes:
    """One object; `conc` is the cap on concurrency, of a load without one the most requests that were there at once."""
    one_machine(done.setup.scenario, "this format knows")
    rows, metrics, said = served(done), done.metrics, config(done)
    devices = num_device(done)
    asked, made = metrics["total_token_throughput"], metrics["output_throughput"]
    found: dict[str, Any] = {
        "hw": done.setup.system.device.name,
        "conc": done.load.max_concurrency or metrics["max_concurrent_requests"],
        "image": f"ridgeline:{done.run.about['versions']['ridgeline']}",
        "model": said["model"],
        "infmax_model_prefix": said["model"],
        "framework": str(said["engine"]).partition("_")[0],
        "precision": done.run.about["formats"],
        "spec_decoding": said["speculate"] or "none",
        "disagg": False,
        "isl": round(float(np.mean(rows["prompt_token"]))),
        "osl": round(float(np.mean(rows["committed_token"]))),
        "is_multinode": False,
        "tp": said["tp"],
        "ep": said["ep"],
        "dp_attention": int(said["attn_dp"]) > 1,
        "tput_per_gpu": asked / devices,
        "output_tput_per_gpu": made / devices,
        "input_tput_per_gpu": (asked - made) / devices,
    }
    for name, value in metrics.items():
        if name.endswith("_ms") and value is not None:
            found[name.removesuffix("_ms")] = value / 1e3
            if "tpot" in name and value > 0:
                found[name.removesuffix("_ms").replace("tpot", "intvty")] = 1e3 / value
    return json_bytes(found | {"ridgeline": dict(done.run.about)})
