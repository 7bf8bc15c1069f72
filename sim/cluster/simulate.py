"""A scenario served by two pools: prompts on one kind of engine, decodes on another, KV handed over between them."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from kernels.engine.records import FINISHED, REFUSED
from kernels.errors import InputError
from kernels.units import PS_PER_S
from sim.cluster.parts import pool_part
from sim.cluster.pool import PoolPart
from sim.cluster.world import ClusterResult, serve_pools
from sim.record.load_state import load_state
from sim.run.effect import check_load
from sim.run.scenario import FIELD_NAMES, Scenario, check_scenarios
from sim.serving.limits import Options
from workloads.load import load_requests
from workloads.requests import Requests, check_no_image

if TYPE_CHECKING:
    import pandas as pd

SHARED = ("requests", "model", "seed", "order", "goodput")  # of the whole, not of a pool
IDLE = ("price_USDph", "run_ahead", "timeout_s")  # what nothing here asks for
LINK_BYTE_PER_S = 1e7, 1e15  # so that the clock holds the time of what is sent
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


@dataclasses.dataclass(frozen=True, eq=False)
class PooledRun:
    """What came of requests and pools, and what was measured of both."""

    result: ClusterResult
    requests: "pd.DataFrame"  # a row a request: seconds, tokens, engines
    summary: "pd.DataFrame"  # a row a metric: mean, p50, p90, p99 in seconds
    pools: "pd.DataFrame"  # a row a pool: engines, steps, tokens, busy and KV shares
    load_state: str  # stable, backlogged, overloaded (`sim.record.load_state`)
    queue_drift: float

    def trace(self, file: "str | pathlib.Path") -> None:
        """Writes requests, transfers and links as a Chrome trace, which Perfetto opens."""
        from sim.record.write import write_files
        from sim.show.pool_trace import pool_events
        from sim.show.trace_events import trace_bytes

        found = trace_bytes(pool_events(self.result), {"pools": list(self.result.pool)})
        write_files({pathlib.Path(file): found})

    def __repr__(self) -> str:
        return f"<PooledRun: {len(self.requests):,} requests, {', '.join(self.result.pool)}>"

    def _repr_html_(self) -> str:
        from sim.show.tables import html_frame

        return html_frame(repr(self).strip("<>"), self.summary, top=20)


def simulate_pools(
    scenario: Scenario,
    prefill: Mapping[str, Any],
    decode: Mapping[str, Any],
    *,
    transfer: str = "whole",
    latency_s: float = 0.0,
    link_byte_per_s: float = 0.0,
) -> PooledRun:
    """Serves the scenario's load on a pool that prefills and one that decodes.

    `prefill` and `decode` are fields of a scenario in which each pool differs from `scenario` (`dp` is its engines).
    `transfer`: a rule of `sim.cluster.transfers` or the path of one; `latency_s` is added to each hand-over;
    `link_byte_per_s`: an engine's link, a direction (0: the ports of its machine). Raises `InputError` for fields that
    cannot differ, and for all that `simulate` refuses.
    """
    parts = list(pool_parts(pool_scenarios(scenario, prefill, decode), link_byte_per_s).values())
    load = pool_load(scenario)
    result = serve_pools(cast(Any, load), parts, transfer, latency_s, Options(order=scenario.order, seed=scenario.seed))
    requests = request_table(result)
    num_engine = sum(len(pool.stage_busy_ps) for pool in result.pool.values())
    state = pools_load_state(result, requests, num_engine)
    return PooledRun(result, requests, summary_table(requests), pool_table(result), *state)


def pool_scenarios(
    scenario: Scenario, prefill: Mapping[str, Any], decode: Mapping[str, Any]
) -> dict[str, Scenario]:  # fmt: skip
    """Each pool as a scenario of its own, by role."""
    check_scenarios(scenario)
    own = {}
    for role, change in (("prefill", prefill), ("decode", decode)):
        for name in change:
            if name not in FIELD_NAMES or name in (*SHARED, *IDLE):
                raise InputError(
                    "no field in which pools differ", field=role, value=name,
                    allowed=[field for field in FIELD_NAMES if field not in (*SHARED, *IDLE)],
                )  # fmt: skip
        own[role] = dataclasses.replace(scenario, **change)
        if own[role].fidelity == "replay":
            raise InputError("pools have no operator-by-operator replay", field="fidelity", value="replay")
    return own


def pool_parts(own: Mapping[str, Scenario], link_byte_per_s: float) -> dict[str, PoolPart]:
    """The pools of these scenarios, by role."""
    low, high = LINK_BYTE_PER_S
    if link_byte_per_s and not low <= link_byte_per_s <= high:
        raise InputError("out of range", field="link_byte_per_s", value=link_byte_per_s,
                         allowed=f"{low:g} to {high:g}; or 0: the machine's own")  # fmt: skip
    return {role: pool_part(one, cast(Any, role), link_byte_per_s=link_byte_per_s) for role, one in own.items()}


def pool_load(scenario: Scenario) -> Requests:
    """The scenario's load, as pools can serve it."""
    load = load_requests(scenario.requests, scenario.seed)
    check_load(scenario, load)
    check_no_image(load, "in pools")
    return load


def pools_load_state(result: ClusterResult, requests: "pd.DataFrame", num_engine: int) -> tuple[str, float]:
    """Whether so many engines keep up, and by what share of the arrivals the queue grows."""
    asked = requests[result.request["status"] != REFUSED]
    return load_state(asked["arrival_s"], asked["arrival_s"] + asked["ttft_s"], num_engine)


def request_table(result: ClusterResult) -> "pd.DataFrame":
    """A row a request; empty where it was refused or has no such time."""
    import pandas as pd

    r = result.request
    done = r["status"] == FINISHED

    def seconds(end: str, begin: str = "arrival_ps") -> Any:
        return np.where(done & (r[end] >= 0), (r[end] - r[begin]) / PS_PER_S, np.nan)

    ttft, e2e = seconds("first_token_ps"), seconds("last_token_ps")
    more = np.where(r["output_token"] > 1, r["output_token"] - 1, np.nan)
    moved = np.where(r["transfer_ps"] >= 0, r["transfer_ps"] / PS_PER_S, np.nan)
    return pd.DataFrame({
        "arrival_s": r["arrival_ps"] / PS_PER_S, "ttft_s": ttft, "tpot_s": (e2e - ttft) / more, "e2e_s": e2e,
        "transfer_s": moved, "prompt_token": r["prompt_token"], "output_token": r["output_token"],
        "prefill_engine": r["first_replica"], "decode_engine": r["last_replica"], "served": done,
    })  # fmt: skip


def summary_table(requests: "pd.DataFrame") -> "pd.DataFrame":
    """Mean and quantiles of what requests met, seconds."""
    import pandas as pd

    rows = []
    for name in ("ttft_s", "tpot_s", "e2e_s", "transfer_s"):
        values = requests[name].dropna().to_numpy(float)
        found = {key: float(np.quantile(values, q)) if len(values) else np.nan for key, q in QUANTILES.items()}
        rows.append({"metric": name, "mean": float(values.mean()) if len(values) else np.nan, **found})
    return pd.DataFrame(rows)


def pool_table(result: ClusterResult) -> "pd.DataFrame":
    """What each pool did: shares of its engines' time and of its blocks, over the run."""
    import pandas as pd

    span_ps = max(1, *(pool.span_ps for pool in result.pool.values()))
    rows = []
    for name, pool in result.pool.items():
        held = pool.kv_token_ps[:, 3].sum()
        rows.append({
            "pool": name, "engines": len(pool.stage_busy_ps), "steps": int(pool.counter["num_step"].sum()),
            "tokens": int(pool.counter["num_token"].sum()),
            "busy_share": float(pool.stage_busy_ps.max(axis=1).sum()) / (span_ps * len(pool.stage_busy_ps)),
            "kv_share": held / (pool.num_block * pool.block_token * span_ps * len(pool.stage_busy_ps)),
            "preemptions": int(pool.counter["num_recompute"].sum() + pool.counter["num_swap"].sum()),
        })  # fmt: skip
    return pd.DataFrame(rows)
