"""What a deployment does under its load: latencies, throughput, cost, power, and whether it keeps up."""

import dataclasses
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from hw_models.power import rest_w
from kernels.engine.records import FINISHED, REASONS
from kernels.machine import IDLE_W
from kernels.units import NJ_PER_J, PS_PER_S
from sim.recommend.deployment import Deployment, some, split_load
from sim.record.load_state import load_state
from sim.record.metrics import statistics
from sim.run.profile import profile_of
from sim.run.scenario import Scenario
from sim.run.setup import Setup
from workloads.load import load_requests
from workloads.requests import Requests

Floats = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class _Part:
    """What came of a pool (or of both pools of a split): requests as columns, seconds; NaN where there is none."""

    arrival_s: Floats
    first_s: Floats
    finish_s: Floats
    ttft_s: Floats
    tpot_s: Floats
    e2e_s: Floats
    token: npt.NDArray[np.int64]  # output tokens that each got
    served: npt.NDArray[np.bool_]
    reason: str  # of those that were refused
    energy_j: float  # until `end_s`
    end_s: float
    setups: tuple[Setup, ...]
    num_engine: int
    kv_share: float  # time average of the fullest pool
    busy_share: float  # of the busiest pool


def run_deployment(deployment: Deployment, requests: Requests | None = None) -> dict[str, Any]:
    """The numbers of a deployment under its scenario's load (or `requests`): those of `sim.record.metrics` by their
    names there (`p99_ttft_ms`, ...), and `num_device`, `usd_per_h`, `token_per_s_per_user` (an output token's mean
    time, inverted), `token_per_s_per_device`, `load_state`, `queue_drift`, `busy_share`, `kv_share`.

    Raises `InputError` for what `simulate` and `simulate_pools` refuse; Ctrl-C raises KeyboardInterrupt.
    """
    load = load_requests(deployment.base.requests, deployment.base.seed) if requests is None else requests
    if deployment.split:
        return _numbers([_split(deployment, load)])
    places = split_load(load, [pool.share for pool in deployment.pools])
    parts = []
    for pool, index in zip(deployment.pools, places, strict=True):
        own = pool.scenario(deployment.base)
        if len(index):
            parts.append(_mixed(own, load if len(index) == len(load) else some(load, index)))
        else:
            parts.append(_idle(own))
    return _numbers(parts)


def _mixed(scenario: Scenario, load: Requests) -> _Part:
    from sim.run.simulate import simulate

    done = simulate(scenario, requests=load)
    if not done.result.complete:
        raise KeyboardInterrupt
    request, totals = done.run.request, done.run.totals
    return _Part(
        request["arrival_s"], request["first_token_s"], request["finish_s"], request["ttft_s"],
        request["tpot_s"], request["e2e_s"], request["committed_token"], request.equal("status", "finished"),
        ", ".join(sorted(set(request.words("reason")) - {""})), totals["energy_j"] + totals["rest_j"],
        done.result.span_ps / PS_PER_S, (done.setup,), done.setup.placement.dp, totals["kv_mean_share"],
        totals["busy_s"] / max(done.result.span_ps / PS_PER_S, 1e-12) / done.setup.placement.dp,
    )  # fmt: skip


def _idle(scenario: Scenario) -> _Part:
    """A pool whose share is so small that it gets no request."""
    from sim.run.simulate import policy_of, prepared

    setup = prepared(scenario, policy_of(scenario))
    none = np.zeros(0)
    whole = np.zeros(0, np.int64)
    return _Part(none, none, none, none, none, none, whole, np.zeros(0, np.bool_), "", 0.0, 0.0, (setup,),
                 setup.placement.dp, 0.0, 0.0)  # fmt: skip


def _split(deployment: Deployment, load: Requests) -> _Part:
    from sim.cluster.parts import pool_part
    from sim.cluster.simulate import pool_table
    from sim.cluster.world import serve_pools
    from sim.run.simulate import WHY, limits_of, policy_of, prepared
    from sim.run.step_prices import priced
    from sim.serving.accounts import accounts
    from sim.serving.limits import Options

    base = deployment.base
    own = {pool.role: pool.scenario(base) for pool in deployment.pools}
    parts = [pool_part(own["prefill"], "prefill"), pool_part(own["decode"], "decode")]
    done = serve_pools(cast(Any, load), parts, "whole", 0.0, Options(order=base.order, seed=base.seed))
    if not done.complete:
        raise KeyboardInterrupt
    energy_j, setups = 0.0, []
    stream_ps: dict[str, int] = {}  # what an answer takes from the engine to the client
    end_s = max(pool.span_ps for pool in done.pool.values()) / PS_PER_S
    for name, result in done.pool.items():
        policy = policy_of(own[name])
        setup = prepared(own[name], policy)
        profile = profile_of(own[name])
        stream_ps[name] = round(profile.stream_s * PS_PER_S)
        _, lowered = priced(setup, profile, policy, limits_of(setup, profile))
        spent = accounts(result, lowered)
        used_j = [spent.side_nj(side) / NJ_PER_J for side in range(len(setup.sides))]
        energy_j += _until(setup, used_j, result.span_ps / PS_PER_S, end_s)
        setups.append(setup)
    r = done.request
    table, reasons = pool_table(done), sorted({WHY[REASONS[code]] for code in r["reason"].tolist()} - {""})
    first_ps, last_ps, arrival_ps, token = (
        r[name] for name in ("first_token_ps", "last_token_ps", "arrival_ps", "produced_token")
    )
    first_ps = np.where(first_ps >= 0, first_ps + stream_ps["prefill"], first_ps)
    last_ps = np.where(last_ps >= 0, last_ps + stream_ps["decode"], last_ps)
    last_ps = np.where(token > 1, last_ps, first_ps)
    gap_s = (last_ps - first_ps) / (np.maximum(token - 1, 1) * float(PS_PER_S))
    return _Part(
        arrival_ps / PS_PER_S, _seconds(first_ps), _seconds(last_ps), _seconds(np.maximum(first_ps - arrival_ps, -1)),
        np.where(token > 1, gap_s, np.nan), _seconds(np.maximum(last_ps - arrival_ps, -1)), token,
        r["status"] == FINISHED, ", ".join(reasons), energy_j, end_s,
        tuple(setups), sum(setup.placement.dp for setup in setups), float(table["kv_share"].max()),
        float(table["busy_share"].max()),
    )  # fmt: skip


def _seconds(clock_ps: npt.NDArray[np.int64]) -> Floats:
    return np.where(clock_ps >= 0, clock_ps / PS_PER_S, np.nan)


def _until(setup: Setup, used_j: Sequence[float], span_s: float, end_s: float) -> float:
    """Joules at the wall of a pool whose sides' devices used `used_j` in `span_s` and then stay awake until `end_s`."""
    if end_s <= 0:
        return 0.0
    total_j = 0.0
    for (system, arrays, num), device_j in zip(setup.sides, used_j, strict=True):
        device_j += float(arrays.rate[IDLE_W]) * num * (end_s - span_s)
        total_j += device_j + rest_w(system, device_j / end_s, num) * end_s
    return total_j


def _numbers(parts: list[_Part]) -> dict[str, Any]:
    """Of all pools together."""
    end_s = max(part.end_s for part in parts)
    setups = [setup for part in parts for setup in part.setups]
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("arrival_s", "first_s", "finish_s", "ttft_s", "tpot_s", "e2e_s", "token", "served")
    }
    served, token = joined["served"], joined["token"]
    arrival_s, first_s, finish_s = joined["arrival_s"], joined["first_s"], joined["finish_s"]
    duration = float(finish_s[served].max() - arrival_s.min()) if served.any() else 0.0
    ttft_s, tpot_s, e2e_s = (joined[name][served & ~np.isnan(joined[name])] for name in ("ttft_s", "tpot_s", "e2e_s"))
    num_token = int(token[served].sum())
    energy_j = sum(part.energy_j if len(parts) == 1 else part.energy_j + _rest_j(part, end_s) for part in parts)
    usd_per_h = sum(setup.price_usd_per_h for setup in setups)
    num_device = sum(setup.num_device for setup in setups)
    verdict = load_state(arrival_s, np.where(served, first_s, np.nan), sum(part.num_engine for part in parts))
    rate = num_token / duration if duration > 0 else 0.0
    latencies = statistics("ttft", ttft_s, (90, 95, 99)) | statistics("tpot", tpot_s, (90, 95, 99))
    latencies |= statistics("e2el", e2e_s, (90, 95, 99))
    return {
        "completed": int(served.sum()), "failed": int((~served).sum()),
        "why": ", ".join(sorted({part.reason for part in parts} - {""})), "duration": duration,
        "request_throughput": int(served.sum()) / duration if duration > 0 else 0.0, "output_throughput": rate,
        **latencies,
        "num_device": num_device, "usd_per_h": usd_per_h,
        "mean_wall_power_w": energy_j / end_s if end_s > 0 else None,
        "usd_per_million_output_token": usd_per_h * duration / 3600 / num_token * 1e6 if num_token else None,
        "wall_j_per_million_output_token": energy_j / num_token * 1e6 if num_token else None,
        "token_per_s_per_user": 1.0 / float(tpot_s.mean()) if len(tpot_s) and tpot_s.mean() > 0 else None,
        "token_per_s_per_device": rate / num_device,
        "busy_share": max(part.busy_share for part in parts), "kv_share": max(part.kv_share for part in parts),
        "load_state": verdict.state, "queue_drift": verdict.queue_drift,
    }  # fmt: skip


def _rest_j(part: _Part, end_s: float) -> float:
    """Joules at the wall of a pool that has ended and stays awake until the others have."""
    return _until(part.setups[0], [0.0] * len(part.setups[0].sides), 0.0, end_s - part.end_s)
