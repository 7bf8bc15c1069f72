"""The cheapest mix of H100 and A100 that serves Llama-3-70B under the Azure conversation load, at several rates."""

import os
import pathlib
import sys

import matplotlib.pyplot as plt
import pandas as pd

import ridgeline

TRACE = pathlib.Path(os.environ.get("RIDGELINE_SHARED_DATA", "shared/data"), "traces/AzureLLMInferenceTrace_conv.csv")
RATE = 4.71  # requests a second of its first 2,000; where it is not there, its published moments at this rate


def run(scales: tuple[float, ...] = (1, 1.25, 2), n: int = 2000, **option: object) -> pd.DataFrame:
    """The cheapest deployment of H100 alone, of A100 alone and of both, at each multiple of the recorded rate."""
    rows = []
    for scale in scales:
        load = f"azure:{TRACE},n={n},scale={scale}" if TRACE.is_file() else f"conversation:n={n},rate={RATE * scale:g}"
        scenario = ridgeline.Scenario(model="llama-3-70b", requests=load)
        found = ridgeline.recommend(scenario, 1.0, 0.06, systems=["h100_sxm", "a100_sxm"], **option).frame
        meets = found[found["status"] == "meets"].assign(rate=RATE * scale)
        meets["machines"] = ["+".join(m for m in ("h100", "a100") if m in pools) for pools in meets["pools"]]
        rows.append(meets.groupby("machines", sort=False).head(1))
    return pd.concat(rows, ignore_index=True)


if __name__ == "__main__":
    best = run(over={"token_budget": [0]})  # the engine's own
    print(best[["rate", "pools", "options", "usd_per_h", "p99_ttft_ms", "p99_tpot_ms", "binds"]].to_string(index=False))
    costs = best.pivot(index="rate", columns="machines", values="usd_per_h")
    costs.plot(style="o", xlabel="requests/s", ylabel="$/h", title="Cheapest at P99 TTFT 1 s, TPOT 60 ms").set_ylim(0)
    plt.savefig(sys.argv[1] if len(sys.argv) > 1 else "cheapest_mix.png")
