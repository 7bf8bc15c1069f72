"""A scenario served by two pools: prompts on one kind of engine, decodes on another, KV handed over between them."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from kernels.engine.records import FINISHED, REFUSED
from kernels.errors import InputError
from kernels.units import PS_PER_S
from sim.cluster.encoders import Encoded, encode, encoder_scenario
from sim.cluster.parts import pool_part
from sim.cluster.pool import PoolPart
from sim.cluster.world import ClusterResult, serve_pools
from sim.recommend.deployment import ADMISSION
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
    load: Requests  # the requests that came
    own: Mapping[str, Scenario]  # each pool's, by role
    encoded: Encoded | None = None  # images, where encoders have a pool of their own

    def __repr__(self) -> str:
        return f"<PooledRun: {len(self.requests):,} requests, {', '.join(self.result.pool)}>"

    @property
    def title(self) -> str:
        """The model and what each pool is."""
        pools = [f"{role}: {one.dp} x {one.tp * one.pp} {one.system}" for role, one in self.own.items()]
        return f"{next(iter(self.own.values())).model} on pools ({', '.join(pools)})"

    @property
    def scenarios(self) -> "pd.DataFrame":
        """A row a field, a column a pool."""
        import pandas as pd

        return pd.DataFrame({"field": FIELD_NAMES} | {
            role: [str(getattr(one, name)) for name in FIELD_NAMES] for role, one in self.own.items()
        })  # fmt: skip

    def page(self) -> str:
        """The run as one HTML page that needs no network (`ridgeline pools --html`); with `record_steps=True` it shows
        engines over time. Raises `InputError` where no request was served."""
        from sim.show.page.pools_page import pools_page

        return pools_page(self)

    def trace(self) -> bytes:
        """The run as a Chrome trace, which Perfetto opens (`ridgeline pools --trace`): a process an engine, KV that
        leaves one and arrives at another joined by an arrow; with `record_steps=True` it has steps too."""
        from sim.show.pool_events import pool_trace

        return pool_trace(self)

    def _repr_html_(self) -> str:
        from sim.show.tables import html_frame

        return html_frame(repr(self).strip("<>"), self.summary, top=20)


def simulate_pools(
    scenario: Scenario,
    prefill: Mapping[str, Any],
    decode: Mapping[str, Any] | None,
    *,
    encode: Mapping[str, Any] | None = None,
    transfer: str = "whole",
    latency_s: float = 0.0,
    link_byte_per_s: float = 0.0,
    record_steps: bool = False,
) -> PooledRun:
    """Serves the scenario's load on a pool that prefills and one that decodes.

    `prefill` and `decode` are fields of a scenario in which each pool differs from `scenario` (`dp` is its engines);
    no `decode`: the first pool decodes what it prefills. `encode`: likewise of a pool of encoders before them, which
    takes the load's images (`sim.cluster.encoders`); none: there are no images.
    `transfer`: a rule of `sim.cluster.transfers` or the path of one; `latency_s` is added to each hand-over;
    `link_byte_per_s`: an engine's link, a direction (0: the ports of its machine); `record_steps` keeps every step, for
    pages and traces. Raises `InputError` for fields that
    cannot differ, and for all that `simulate` refuses.
    """
    own = pool_scenarios(scenario, prefill, decode)
    encoders = None if encode is None else encoder_scenario(scenario, encode)
    if decode is None:
        sent = {} if encode is not None else {"latency_s": (latency_s, 0.0), "link_byte_per_s": (link_byte_per_s, 0.0)}
        for name, (value, usual) in ({"transfer": (transfer, "whole")} | sent).items():
            if value != usual:
                raise InputError("has no effect on one pool, which hands nothing over", field=name, value=value,
                                 allowed=str(usual))  # fmt: skip
    return run_pools(own, transfer, latency_s, link_byte_per_s, record_steps, encoders)


def run_pools(
    own: Mapping[str, Scenario], transfer: str = "whole", latency_s: float = 0.0, link_byte_per_s: float = 0.0,
    record_steps: bool = False, encoders: Scenario | None = None,
) -> PooledRun:  # fmt: skip
    """`simulate_pools` of whole scenarios, by role, which ask for the same load."""
    scenario = next(iter(own.values()))
    parts = list(pool_parts(own, link_byte_per_s).values())
    load = pool_load(scenario, images=encoders is not None)
    encoded = None if encoders is None else encode(load, encoders, link_byte_per_s, latency_s)
    options = Options(order=scenario.order, seed=scenario.seed, record_steps=record_steps)
    result = serve_pools(cast(Any, encoded.load if encoded else load), parts, transfer, latency_s, options)
    if encoded is not None:
        result = as_asked(result, encoded, load)
    requests = request_table(result)
    num_engine = sum(len(pool.stage_busy_ps) for pool in result.pool.values())
    state = pools_load_state(result, requests, num_engine)
    return PooledRun(result, requests, summary_table(requests), pool_table(result, encoded), *state, load, own, encoded)


def as_asked(result: ClusterResult, encoded: Encoded, load: Requests) -> ClusterResult:
    """The result in the order of the load, with arrivals as the clients know them."""

    def back(request: dict[str, Any]) -> dict[str, Any]:
        return {name: encoded.asked(column) for name, column in request.items()}

    pools = {name: dataclasses.replace(pool, request=back(pool.request)) for name, pool in result.pool.items()}
    request = back(result.request) | {"arrival_ps": np.asarray(load.arrival_ps)}
    return dataclasses.replace(result, request=request, pool=pools)


def pool_scenarios(
    scenario: Scenario, prefill: Mapping[str, Any], decode: Mapping[str, Any] | None
) -> dict[str, Scenario]:  # fmt: skip
    """Each pool as a scenario of its own, by role."""
    check_scenarios(scenario)
    own = {}
    roles = {"mixed": prefill} if decode is None else {"prefill": prefill, "decode": decode}
    for role, change in roles.items():
        for name in change:
            if name not in FIELD_NAMES or name in (*SHARED, *IDLE):
                raise InputError(
                    "no field in which pools differ", field=role, value=name,
                    allowed=[field for field in FIELD_NAMES if field not in (*SHARED, *IDLE)],
                )  # fmt: skip
            if role == "decode" and name in ADMISSION and change[name]:
                raise InputError("a pool that decodes turns nobody away", field=name, value=change[name], allowed="0")
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


def pool_load(scenario: Scenario, images: bool = False) -> Requests:
    """The scenario's load, as pools can serve it: with images where encoders have a pool of their own."""
    load = load_requests(scenario.requests, scenario.seed)
    check_load(scenario, load)
    if not images:
        check_no_image(load, "in pools without a pool of encoders")
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


def pool_table(result: ClusterResult, encoded: Encoded | None = None) -> "pd.DataFrame":
    """What each pool did: shares of its engines' time and of its blocks, over the run."""
    import pandas as pd

    span_ps = max(1, *(pool.span_ps for pool in result.pool.values()))
    rows: list[dict[str, Any]] = []
    if encoded is not None:
        num = len(encoded.busy_ps)
        rows.append({"pool": "encode", "engines": num, "steps": encoded.num_batch, "tokens": encoded.num_token,
                     "busy_share": float(encoded.busy_ps.sum()) / (span_ps * num), "kv_share": 0.0,
                     "preemptions": 0})  # fmt: skip
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
