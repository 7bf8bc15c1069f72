"""A production conversation load on one DGX-H100 and on four: what the simulator says."""

from typing import TYPE_CHECKING

import pandas as pd

from sim.run.scenario import Scenario
from sim.run.simulate import simulate
from studies._table import COLUMNS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Llama-3-70B serves the Azure 2023 conversation load (19,366 requests, 5.5 a second) on one DGX-H100"
SETUPS = {"one DGX-H100": 1, "four DGX-H100": 4}
SAID = {
    "request throughput (1/s)": "request_throughput", "median TTFT (ms)": "median_ttft_ms",
    "p99 TTFT (ms)": "p99_ttft_ms",
    "median TPOT (ms)": "median_tpot_ms", "p99 TPOT (ms)": "p99_tpot_ms", "p99 end to end (ms)": "p99_e2el_ms",
    "joules a million output tokens": "energy_j_per_million_output_token",
    "dollars a million output tokens": "usd_per_million_output_token",
}  # fmt: skip


def run(requests: str = "conversation:n=19366", fidelity: str = "calibrated") -> pd.DataFrame:
    """Rows for one replica and for four behind a router that looks at their load. `requests`: the shipped generator
    with the trace's moments, or `azure:FILE` for the trace itself. The only thing to check against is that the load is
    served as it is offered; everything else is what the simulator says."""
    rows = []
    for setup, replicas in SETUPS.items():
        scenario = Scenario(model="llama-3-70b", system="dgx_h100", tp=8, dp=replicas, router="least_token",
                            requests=requests, fidelity=fidelity)  # type: ignore[arg-type]  # fmt: skip
        done = simulate(scenario)
        offered = (len(done.run.requests) - 1) / float(done.run.requests["arrival_s"].max())
        for claim, name in SAID.items():
            served = name == "request_throughput"
            value = float(done.metrics[name])
            error = value / offered - 1 if served else float("nan")
            verdict = ("served" if abs(error) < 0.05 else "overloaded") if served else "said"
            paper = f"{offered:.4g}" if served else ""
            values = (
                "Ridgeline",
                claim,
                setup,
                paper,
                value,
                error,
                verdict,
                "prompts beyond 8,192 tokens are refused",
            )
            rows.append(dict(zip(COLUMNS, values, strict=True)))
    return pd.DataFrame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Latencies of both setups, side by side."""
    from matplotlib import pyplot as plt

    shown = table[table["claim"].str.endswith("(ms)")].pivot_table("simulated", "claim", "setup", sort=False)
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    shown.plot.barh(ax=axes, logx=True, color=["#d8933c", "#4c78c8"], title="Azure conversation load, Llama-3-70B")
    axes.set(xlabel="milliseconds", ylabel="")
    axes.invert_yaxis()
    axes.legend(title="")
    return figure
