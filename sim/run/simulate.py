"""A scenario in, a run out: the whole path through the house.

Load, model, machine and placement are resolved (`sim.run.setup`), steps are priced (`sim.serving.step_price`), the
engine serves (`sim.serving`), and the records become frames and metrics.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pandas as pd

from hw_models.device import calibration
from kernels.errors import InputError
from kernels.machine import Machine
from kernels.serving import layout as at
from kernels.serving.gap import edges_s
from kernels.units import NJ_PER_J, PS_PER_S
from sim.record.energy import energy
from sim.record.metrics import measure
from sim.record.provenance import provenance
from sim.record.records import Run, operator_frame, request_frame, step_frame
from sim.record.uncertainty import uncertainty
from sim.run import warm
from sim.run.scenario import Scenario
from sim.run.setup import Setup, prepare
from sim.serving import engine_profile
from sim.serving.accounts import Accounts, accounts
from sim.serving.engine import compile_loop, serve
from sim.serving.limits import Limits, Options, max_seq, max_token
from sim.serving.plugin import Plugin, find
from sim.serving.replay import Replay
from sim.serving.result import REQUEST_COLUMNS, ServeResult
from sim.serving.step_price import Lowered, build
from workloads.load import load_requests
from workloads.requests import Requests

STATUS = {at.FINISHED: 0, at.REFUSED: 1}  # everything else is unfinished
WHY = {"": "", "context": "longer than the context", "kv": "more KV than a replica has", "step": "longer than a step",
       "timeout": "its client gave up"}  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Simulation:
    """A finished run with what made it: frames and totals (`run`), the numbers (`metrics`), the engine's accounts."""

    run: Run
    metrics: dict[str, Any]
    setup: Setup
    lowered: Lowered
    result: ServeResult
    accounts: Accounts


def simulate(
    scenario: Scenario,
    *,
    requests: Requests | None = None,
    record_steps: bool = False,
    progress: Callable[[int, int], None] | None = None,
    machine: Any = None,
    execute: Callable[[Any, int], int] | None = None,
) -> Simulation:
    """Serve the scenario's load on its system.

    `requests` replaces the scenario's load; `machine` its machine arrays; `progress(ended, steps)` is called about
    twice a second; `execute` carries out each step's plan (`sim.serving.stepping`). Raises `InputError` for whatever
    the scenario names that is not there or does not fit.
    """
    policy, router = policy_of(scenario), find("router", scenario.router)
    profile = engine_profile.load(scenario.engine)
    if scenario.fidelity == "sol":
        profile = engine_profile.load("none")
    load = load_requests(scenario.requests, scenario.seed) if requests is None else requests
    setup = _prepare(scenario, policy)
    if machine is not None:
        setup = dataclasses.replace(setup, machine=machine)
    limits = limits_of(setup, profile)
    child = warm.start()
    compile_loop(policy, router, child)
    warm.wait(child)
    price, lowered = build(
        setup.model,
        setup.formats,
        setup.placement,
        setup.machine,
        max_token=max_token(policy, limits),
        max_seq=max_seq(policy),
        skew=scenario.expert_skew,
        host=profile.host_time(),
        block_token=scenario.block_token,
    )
    options = Options(
        order=scenario.order,
        seed=scenario.seed,
        engine="auto" if scenario.run_ahead else "stepping",
        record_steps=record_steps,
        progress=progress,
        execute=execute,
    )
    result = serve(cast(Any, load), price, policy, router, limits, options)
    if scenario.fidelity == "replay":
        clock = Replay(cast(Any, load), price, lowered, policy, router, limits, options).run()
        column = {name: clock[:, index] for name, index in REQUEST_COLUMNS.items()}
        result = dataclasses.replace(result, engine="replay", request=column)
    spent = accounts(result, lowered)
    run = _run(setup, load, spent, result, profile)
    return Simulation(run, measure(run, goodput=scenario.goodput or None), setup, lowered, result, spent)


def simulate_intervals(scenario: Scenario, num: int) -> pd.DataFrame:
    """Intervals that hold nine of ten of `num` replicates, in each of which every kernel's time is off by a draw from
    the spread of its residuals (`sim.record.uncertainty`). Raises `InputError` where no calibration tells a spread."""
    if scenario.fidelity != "calibrated":
        raise InputError(
            "only a calibration has a spread", field="fidelity", value=scenario.fidelity, allowed="calibrated"
        )
    setup = _prepare(scenario, policy_of(scenario))
    load = load_requests(scenario.requests, scenario.seed)
    profile, _ = calibration(setup.system.device)

    def run(machine: Machine) -> dict[str, Any]:
        return simulate(scenario, requests=load, machine=machine).metrics

    return uncertainty(run, setup.machine, profile, num, scenario.seed).intervals


def policy_of(scenario: Scenario) -> Plugin:
    policy = find("policy", scenario.policy)
    given = {"max_token": scenario.token_budget, "max_seq": scenario.max_num_seq}
    value = {**policy.value, **{name: float(number) for name, number in given.items() if number}}
    return dataclasses.replace(policy, value=value)


def _prepare(scenario: Scenario, policy: Plugin) -> Setup:
    return prepare(scenario, int(policy.value["max_token"]) or 2048, int(policy.value["max_seq"]))


def limits_of(setup: Setup, profile: engine_profile.EngineProfile) -> Limits:
    scenario = setup.scenario
    if scenario.preemption == "swap" and not scenario.swap_GiB:
        raise InputError("swapping needs host memory", field="swap_GiB", value=0, allowed="above 0")
    # a block lies on the devices of one attention group, on each of its stages
    block_byte = setup.budget.kv_per_token * scenario.block_token * setup.placement.tp * setup.placement.pp
    return Limits(
        num_block=setup.num_block,
        block_token=scenario.block_token,
        max_context_token=setup.max_model_len,
        num_replica=setup.placement.dp,
        prefix_cache=scenario.prefix_cache,
        preemption=scenario.preemption,
        host_block=int(scenario.swap_GiB * 2**30 / block_byte),
        plan_ahead=int(profile.plan_ahead),
        timeout_s=scenario.timeout_s,
        watermark=scenario.watermark if scenario.watermark >= 0 else None,
    )


def _run(
    setup: Setup, load: Requests, spent: Accounts, result: ServeResult, profile: engine_profile.EngineProfile
) -> Run:
    column = result.request
    stream_ps = round(profile.stream_s * PS_PER_S)
    status = np.array([STATUS.get(code, 2) for code in range(len(at.STATUSES))])[column["status"]]
    frame = request_frame(
        arrival_ps=column["arrival_ps"],
        scheduled_ps=column["start_ps"],
        first_token_ps=_later(column["first_token_ps"], stream_ps),
        last_token_ps=_later(column["last_token_ps"], stream_ps),
        finish_ps=_later(column["end_ps"], stream_ps),
        prompt_token=column["prompt_token"],
        output_token=column["output_token"],
        committed_token=column["produced_token"],
        cached_token=column["cached_token"],
        num_preemption=column["num_preempted"],
        priority=load.priority,
        replica=column["replica"],
        status=status,
        reason=column["reason"],
        reasons=[WHY[name] for name in at.REASONS],
    )
    about = provenance(dataclasses.asdict(setup.scenario), seed=setup.scenario.seed, fidelity=setup.fidelity)
    about |= {"mode": result.engine, "calibrated_on": setup.calibrated_on, "complete": result.complete}
    steps = None if result.step is None else step_frame(result.step, at.LOG_COLUMNS)
    edges = edges_s()
    return Run(frame, _totals(setup, spent, result), about, _operators(spent), steps, edges, result.gap_count)


def _later(times: Any, delay_ps: int) -> Any:
    return np.where(np.asarray(times) < 0, times, np.asarray(times) + delay_ps)


def _operators(spent: Accounts) -> Any:
    return operator_frame(spent.name, spent.kind, spent.bound, spent.time_ps, spent.energy_nj)


def _totals(setup: Setup, spent: Accounts, result: ServeResult) -> dict[str, float]:
    capacity = result.num_block * result.block_token * max(result.span_ps, 1) * len(result.kv_token_ps)
    token, _, _, held = result.kv_token_ps.sum(axis=0)
    count = result.counter
    peak = 0.0 if result.step is None else result.step[:, at.LOG_COLUMNS.index("used_block")].max() / result.num_block
    totals = {
        "num_step": float(count["num_step"].sum()),
        "num_replica": float(setup.placement.dp),
        "num_device": float(setup.placement.num_device),
        "busy_s": float(result.stage_busy_ps.max(axis=1).sum()) / PS_PER_S,
        "energy_j": (int(spent.energy_nj.sum()) + spent.idle_nj) / NJ_PER_J,
        "kv_block": float(result.num_block),
        "kv_block_token": float(result.block_token),
        "kv_mean_share": held / capacity,
        "kv_token_share": token / held if held else 0.0,
        "num_computed_token": float(count["num_token"].sum() + count["num_pad_token"].sum()),
        "num_preemption": float(count["num_recompute"].sum() + count["num_swap"].sum()),
        "usd_per_h": setup.price_usd_per_h,
    }
    totals |= energy(spent, setup.machine, setup.system.device, setup.placement.stage_device)
    return totals | ({"kv_peak_share": float(peak)} if result.step is not None else {})
