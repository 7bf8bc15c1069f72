"""A production conversation load on one DGX-H100 and on four: what the simulator says."""

from typing import TYPE_CHECKING

import pandas as pd

from sim.run.scenario import Scenario
from sim.run.simulate import simulate
from sim.show.plot_style import BLUE, ORANGE, new_figure, styled, suptitle
from studies._verdict import frame, order, point

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Llama-3-70B serves the Azure 2023 conversation load (19,366 requests, 5.5 a second) on one DGX-H100"
SMALL = {"requests": "conversation:n=300", "fidelity": "sol"}
SETUPS = {"one DGX-H100": 1, "four DGX-H100": 4}
SAID = {
    "request throughput (1/s)": "request_throughput", "median TTFT (ms)": "median_ttft_ms",
    "p99 TTFT (ms)": "p99_ttft_ms",
    "median TPOT (ms)": "median_tpot_ms", "p99 TPOT (ms)": "p99_tpot_ms", "p99 end to end (ms)": "p99_e2el_ms",
    "joules a million output tokens": "energy_j_per_million_output_token",
    "dollars a million output tokens": "usd_per_million_output_token",
}  # fmt: skip


def middle_rate(second: "pd.Series[float]") -> float:
    """Events a second between the 5th and the 95th percentile of their times: the last answers that drain do not count.

    >>> round(middle_rate(pd.Series(range(0, 200, 2))), 9)
    0.5
    """
    low, high = (float(second.quantile(q)) for q in (0.05, 0.95))
    return 0.9 * (int(second.notna().sum()) - 1) / (high - low)


def run(requests: str = "conversation:n=19366", fidelity: str = "calibrated") -> pd.DataFrame:
    """Rows for one replica and for four behind a router that looks at their load. `requests`: the shipped generator
    with the trace's moments, or `azure:FILE` for the trace itself. The only thing to check against is that the load is
    served as it is offered; everything else is what the simulator says."""
    rows = []
    for setup, replicas in SETUPS.items():
        router = "least_token" if replicas > 1 else "round_robin"
        scenario = Scenario(model="llama-3-70b", system="dgx_h100", tp=8, dp=replicas, router=router,
                            requests=requests, fidelity=fidelity)  # type: ignore[arg-type]  # fmt: skip
        done = simulate(scenario)
        requests_of = done.run.requests
        offered, served = (
            middle_rate(requests_of["arrival_s"]),
            middle_rate(requests_of["arrival_s"] + requests_of["e2e_s"]),
        )
        for claim, name in SAID.items():
            value, note = float(done.metrics[name]), "prompts beyond 8,192 tokens are refused"
            if name == "request_throughput":
                text = f"{served:.3g} of {offered:.3g} a second, from the 5th to the 95th percentile of their times"
                kept = abs(served / offered - 1) <= 0.05
                rows.append(
                    order("Ridgeline", "order: the load is served as it is offered", setup, kept, f"{text}; {note}")
                )
                rows.append(point("Ridgeline", claim, setup, served, f"{text}; {note}"))
            else:
                rows.append(point("Ridgeline", claim, setup, value, note))
    return frame(rows)


@styled
def plot(table: pd.DataFrame) -> "Figure":
    """Latencies of both setups, side by side."""
    shown = table[table["claim"].str.endswith("(ms)")]
    claims = list(dict.fromkeys(shown["claim"]))
    figure, axis = new_figure(1, 1, (8, 4))
    for at, (setup, colour) in enumerate(zip(SETUPS, (ORANGE, BLUE), strict=True)):
        part = shown[shown["setup"] == setup].set_index("claim")["simulated"].loc[claims]
        axis.barh([place + 0.38 * (at - 0.5) for place in range(len(claims))], part, 0.36, color=colour, label=setup)
    axis.set_yticks(range(len(claims)), claims)
    axis.set_xscale("log")
    axis.set_xlabel("milliseconds")
    axis.grid(axis="y", visible=False)
    axis.invert_yaxis()
    axis.legend()
    suptitle(figure, "Azure conversation load, Llama-3-70B")
    return figure
