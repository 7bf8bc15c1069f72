"""The JSON that vLLM's serving benchmark saves, with its per-request lists."""

from typing import TYPE_CHECKING

import numpy as np

from kernels.units import PS_PER_S
from sim.record.export import benchmark_json, json_bytes
from sim.show.exports._numbers import config, num_device, served

if TYPE_CHECKING:
    from sim.run.simulate import Simulation

HELP = "vLLM's benchmark (--save-result --save-detailed)"


def export(done: "Simulation") -> bytes:
    """Times in ms and s under that benchmark's names, and the sizes of parallelism, by whose product its Pareto plot
    divides throughput. Of a load with a cap on concurrency, the cap and how long the client held each request back
    (`queue_times`): with them the file is read back as the same load."""
    found = benchmark_json(done.run, done.metrics, details=True) | parallel_sizes(done)
    if cap := done.load.max_concurrency:
        found["max_concurrency"] = cap
        if (done.load.parent < 0).all():
            rows = served(done)
            asked_s = done.load.arrival_ps[np.asarray(rows["request"])] / PS_PER_S
            found["queue_times"] = np.maximum(np.asarray(rows["arrival_s"]) - asked_s, 0.0).tolist()
    return json_bytes(found)


def parallel_sizes(done: "Simulation") -> dict[str, int]:
    """Devices of a stage, stages of a replica, replicas: their product is all devices."""
    stages, replicas = int(config(done)["pp"]), int(config(done)["dp"])
    devices = num_device(done) // (stages * replicas)
    return {"tensor_parallel_size": devices, "pipeline_parallel_size": stages, "data_parallel_size": replicas}
