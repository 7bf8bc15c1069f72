"""The JSON that vLLM's serving benchmark saves, with its per-request lists."""

from typing import TYPE_CHECKING

from sim.record.export import benchmark_json, json_bytes

if TYPE_CHECKING:
    from sim.run.simulate import Simulation

HELP = "vLLM's benchmark (--save-result --save-detailed)"


def export(done: "Simulation") -> bytes:
    """Times in ms and s under that benchmark's names."""
    return json_bytes(benchmark_json(done.run, done.metrics, details=True))
