"""A scenario in, a run out: the whole path through the house.

Load, model, machine and placement are resolved (`sim.run.setup`), steps are priced (`sim.serving.step_price`), the
engine serves (`sim.serving`), and the records become frames and metrics.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from hw_models import catalog
from hw_models.device import calibration
from hw_models.power import rest_w
from kernels.engine import records as at
from kernels.engine.gap import edges_s
from kernels.errors import InputError
from kernels.machine import Machine
from kernels.units import NJ_PER_J, PS_PER_S
from sim.record.energy import energy
from sim.record.metrics import measure
from sim.record.provenance import provenance
from sim.record.records import Run, operator_columns, request_columns, step_columns
from sim.run import warm
from sim.run.effect import FIELD_OF, check_load, check_policy, check_progress
from sim.run.effect import notes as left_out_of
from sim.run.profile import profile_of
from sim.run.recurrent_notes import recurrent_notes
from sim.run.scenario import Scenario, check_scenarios
from sim.run.setup import Setup, prepare, with_machine
from sim.run.step_prices import priced
from sim.serving import attention_rule, engine_profile
from sim.serving.accounts import Accounts, accounts
from sim.serving.adapters import ranks_of
from sim.serving.engine import compile_loop, serve
from sim.serving.engine_defaults import step_limit
from sim.serving.images import images_of
from sim.serving.limits import Limits, Options, most_sampled
from sim.serving.plugin import Plugin, find
from sim.serving.result import ServeResult
from sim.serving.rules import Group
from sim.serving.step_price import Lowered
from sim.serving.tiers import parse, tiers_of
from workloads.load import load_requests
from workloads.requests import Requests, check_no_image

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from sim.serving.uplinks import Uplinks

MAX_BLOCK = 2**31 - 1  # of a replica, and of its host: what the engine counts
STATUS = {at.FINISHED: 0, at.LEAVING: 0, at.REFUSED: 1}  # everything else is unfinished
WHY = {"": "", "context": "longer than the context", "kv": "more KV than a replica has", "step": "longer than a step",
       "timeout": "the client gave up", "stopped": "its program wanted no more of it",
       "queue": "the queue was full"}  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Simulation:
    """A finished run with what made it: records and totals (`run`), the numbers (`metrics`), the engine's accounts, the
    requests that came (`load`)."""

    run: Run
    metrics: dict[str, Any]
    setup: Setup
    lowered: Lowered
    result: ServeResult
    accounts: Accounts
    load: "Requests"

    @property
    def served(self) -> bool:
        """Whether any request was served."""
        return bool(self.metrics["completed"])

    def __repr__(self) -> str:
        from sim.show.report import short

        return f"<Simulation of {self.setup.title}: {short(self.run, self.metrics)}>"

    def plot(self, kind: str = "latency") -> "Figure":
        """A matplotlib figure: "latency" (distributions of TTFT, TPOT and end-to-end latency), "load" (over time), or
        "roofline" (the operators of a mean step under the device's roofs). Needs the extra `plot`."""
        from sim.show.figures import figure

        return figure(self, kind)

    def page(self) -> str:
        """The run as one HTML page that needs no network (`ridgeline simulate --html`); with `record_steps=True` it
        shows replicas over time. Raises `InputError` where no request was served."""
        from sim.show.page.run_page import run_page

        return run_page(self)

    def _repr_html_(self) -> str:
        from sim.show.report import html_table

        return html_table(self.setup.title, self.run, self.metrics)


def simulate(
    scenario: Scenario,
    *,
    requests: "Requests | pd.DataFrame | None" = None,
    record_steps: bool = False,
    progress: Callable[[int, int], None] | bool | None = None,
    machine: Any = None,
    execute: Callable[[Any, int], int] | None = None,
    notes: Sequence[str] = (),
) -> Simulation:
    """Serve the scenario's load on its system.

    `requests` replaces the scenario's load: `Requests`, or a frame with the columns `arrival_s`, `prompt_token`,
    `output_token`, and at will `priority`, `predicted_token`. `machine` replaces its machine arrays;
    `progress(ended, steps)` is called about twice a second, True shows it on the terminal or in the notebook; `execute`
    carries out each step's plan (`sim.serving.stepping`); `notes` are sentences for the result on how the scenario came
    about. Raises `InputError` for whatever the scenario names that is not there or does not fit.
    """
    check_scenarios(scenario)
    if isinstance(progress, bool):
        from sim.show.progress import Progress

        with Progress(progress) as shown:
            return simulate(scenario, requests=requests, record_steps=record_steps, progress=shown, machine=machine,
                            execute=execute, notes=notes)  # fmt: skip
    policy, router = policy_of(scenario), find("router", scenario.router)
    profile = profile_of(scenario)
    load = load_requests(scenario.requests if requests is None else requests, scenario.seed)
    check_load(scenario, load)
    setup = prepared(scenario, policy)
    if execute is not None and policy.progress is not None:
        raise InputError("who carries out steps decodes a token a step", field="speculate", value=scenario.speculate,
                         allowed="empty")  # fmt: skip
    if machine is not None:
        setup = with_machine(setup, machine)
    limits = limits_of(setup, profile)
    if execute is not None:
        _check_executed(scenario)
    child = warm.start(setup.placement.num_device > 1)
    compile_loop(policy, router, child)
    warm.wait(child)
    price, lowered = priced(setup, profile, policy, limits)
    if scenario.fidelity == "replay" or execute is not None:
        check_no_image(load, "operator by operator or on a real device")
    limits = dataclasses.replace(limits, images=images_of(load, lowered))
    options = Options(
        order=scenario.order,
        seed=scenario.seed,
        engine="auto" if scenario.run_ahead else "stepping",
        record_steps=record_steps,
        progress=progress,
        execute=execute,
    )
    left_out = [*notes, *left_out_of(scenario, policy, load, setup.system.device.npu is not None)]
    if scenario.fidelity == "replay":
        from sim.serving.replay import Replay
        from sim.serving.uplinks import uplinks

        links = uplinks(setup.system.node, setup.placement)
        _check_replayed(scenario, links)
        replay = Replay(cast(Any, load), price, lowered, policy, router, limits, options, links)
        result = replay.result()
        left_out += _contention(scenario, links, replay.contended_ps)
    else:
        result = serve(cast(Any, load), price, policy, router, limits, options)
    spent = accounts(result, lowered, limits.images)
    left_out += recurrent_notes(lowered.scans(), policy, limits, load, setup.system.device, setup.calibrated_on)
    run = _run(setup, load, spent, result, profile, left_out)
    return Simulation(run, measure(run, goodput=scenario.goodput or None), setup, lowered, result, spent, load)


def _check_replayed(scenario: Scenario, links: "Uplinks | None") -> None:
    """What the replay has no links for, where somebody shares them."""
    if scenario.lora_rank and links is not None and links.num_shared:
        raise InputError(
            "fetches of adapters by replicas behind one PCIe switch are not replayed", field="lora_rank",
            value=scenario.lora_rank, allowed="empty; or replicas that share no switch; or fidelity = calibrated",
        )  # fmt: skip


def _contention(scenario: Scenario, links: "Uplinks | None", contended_ps: int) -> list[str]:
    """What contended in a replay, a sentence."""
    if links is None or scenario.preemption != "swap":
        return ["replay: nothing is swapped, so that nothing contends: the calibrated run is the same"]
    return [f"replay: {links.said}; swaps took {contended_ps / PS_PER_S:.6g} s longer than alone, all replicas"]


def _check_executed(scenario: Scenario) -> None:
    """Who carries out plans reads every row's own keys, all of them, on the base model."""
    for field in ("attention", "kv_budget", "lora_rank", "kv_tiers", "ffn_system"):
        if (value := getattr(scenario, field)) != Scenario.__dataclass_fields__[field].default:
            raise InputError("is not carried out, only simulated", field=field, value=value)


def simulate_intervals(scenario: Scenario, num: int) -> "pd.DataFrame":
    """Intervals that hold nine of ten of `num` replicates, in each of which every kernel's time is off by a draw from
    the spread of its residuals (`sim.record.uncertainty`). Raises `InputError` where no calibration tells a spread."""
    if scenario.fidelity != "calibrated":
        raise InputError(
            "only a calibration has a spread", field="fidelity", value=scenario.fidelity, allowed="calibrated"
        )
    from sim.record.uncertainty import uncertainty

    setup = prepared(scenario, policy_of(scenario))
    load = load_requests(scenario.requests, scenario.seed)
    profile, _ = calibration(setup.system.device)

    def run(machine: Machine) -> dict[str, Any]:
        done = simulate(scenario, requests=load, machine=machine)
        if not done.result.complete:
            raise KeyboardInterrupt
        return done.metrics

    return uncertainty(run, setup.machine, profile, num, scenario.seed).intervals


def policy_of(scenario: Scenario) -> Plugin:
    """The policy with its options: those given, else the engine's for this machine, else its own."""
    profile = profile_of(scenario)
    policy = find("policy", profile.policy if scenario.policy == "auto" else scenario.policy)
    check_policy(scenario, policy)
    value = dict(policy.value)
    device = catalog.system(scenario.system).device
    limit = step_limit(profile.step_limit, policy.name, device.name, device.mem_byte - device.mem_reserved_byte)
    given = {part.partition("=")[0].strip() for part in scenario.policy.partition(":")[2].split(",")}
    if scenario.front == "offline" and (limit is None or scenario.token_budget or "max_token" in given):
        raise InputError(
            "has no effect: nothing is left for it to decide", field="front", value="offline",
            allowed="server; or an engine profile with limits of its own, and no token budget",
        )  # fmt: skip
    if limit is not None:
        own = {"max_token": limit.offline_token if scenario.front == "offline" else limit.server_token}
        value |= {name: number for name, number in (own | {"max_seq": limit.max_seq}).items() if name not in given}
    for name, field in FIELD_OF.items():
        if number := getattr(scenario, field):
            value[name] = policy.module.OPTIONS[name].parse(field, str(number))
    policy = dataclasses.replace(policy, value=value)
    if not scenario.speculate:
        return policy
    policy = dataclasses.replace(policy, progress=find("progress", scenario.speculate))
    check_progress(scenario, policy)
    return policy


def prepared(scenario: Scenario, policy: Plugin) -> Setup:
    """The set-up of a scenario for the steps that its policy makes."""
    tokens = int(policy.value["max_token"]) or 2048
    return prepare(scenario, tokens, most_sampled(policy, tokens))


def limits_of(setup: Setup, profile: engine_profile.EngineProfile) -> Limits:
    scenario = setup.scenario
    # a block lies on the devices of one attention group, on each of its stages
    store = setup.store
    block_byte = store.block_byte * setup.placement.tp * setup.placement.pp
    host_block = int(scenario.swap_GiB * 2**30 / block_byte)
    if scenario.swap_GiB and not 1 <= host_block <= MAX_BLOCK:
        low, high = (count * block_byte / 2**30 for count in (1, MAX_BLOCK))
        raise InputError(
            f"holds {host_block} KV blocks of {store.block_token} tokens", field="swap_GiB",
            value=scenario.swap_GiB, allowed=f"{low:.3g} to {high:.3g}",
        )  # fmt: skip
    late = profile.plan_ahead and profile.scheduler.end_late and setup.placement.pp == 1
    if scenario.ends == "token" and not late:
        raise InputError(
            "has no effect: no step is planned while another runs", field="ends", value="token", allowed="length",
        )  # fmt: skip
    if not 1 <= store.num_block <= MAX_BLOCK:
        token = setup.budget.token_capacity * setup.placement.attn_dp
        raise InputError(
            f"KV memory of {token} tokens is {store.num_block} blocks", field="block_token",
            value=scenario.block_token, allowed=f"1 to {MAX_BLOCK} blocks, that is {-(-token // MAX_BLOCK)} to {token}",
        )  # fmt: skip
    return Limits(
        num_block=store.num_block,
        groups=store.groups,
        block_token=store.block_token,
        max_context_token=setup.max_model_len,
        num_replica=setup.placement.dp,
        prefix_cache=scenario.prefix_cache,
        preemption=scenario.preemption,
        host_block=host_block,
        plan_ahead=int(profile.plan_ahead),
        timeout_s=scenario.timeout_s,
        max_queue=scenario.max_queue,
        max_in_flight=scenario.max_in_flight,
        watermark=scenario.watermark if scenario.watermark >= 0 else None,
        ends=scenario.ends,
        rules=profile.scheduler,
        spans=attention_rule.load(scenario.attention),
        tiers=tiers_of(scenario.kv_tiers, setup.system, setup.machine, setup.placement, block_byte),
        evict=scenario.kv_evict,
        ranks=ranks_of(
            scenario.lora_rank,
            setup.model,
            setup.formats,
            setup.placement,
            setup.system,
            setup.machine,
            store.block_byte,
        ),
    )


def _run(
    setup: Setup, load: Requests, spent: Accounts, result: ServeResult, profile: engine_profile.EngineProfile,
    left_out: list[str],
) -> Run:  # fmt: skip
    column: dict[str, Any] = {**result.request, "priority": load.priority}
    stream_ps = round(profile.stream_s * PS_PER_S)
    for name in ("first_token_ps", "last_token_ps", "end_ps"):
        column[name] = np.where(column[name] < 0, column[name], column[name] + stream_ps)
    column["status"] = np.array([STATUS.get(code, 2) for code in range(len(at.STATUSES))])[column["status"]]
    request = request_columns(column, [WHY[name] for name in at.REASONS])
    about = provenance(dataclasses.asdict(setup.scenario), seed=setup.scenario.seed, fidelity=setup.fidelity)
    about |= {"mode": result.engine, "calibrated_on": setup.calibrated_on, "complete": result.complete}
    about |= {"formats": setup.formats.said or setup.formats.label()}
    about |= {"calibration": calibration_words(setup)}
    about |= {"kernels": "; ".join(setup.kernels)} if setup.kernels else {}
    about |= {"note": left_out} if left_out else {}
    about |= {"machines": apart_words(setup)} if setup.ffn is not None else {}
    about |= {"speculation": said} if (said := speculation(setup)) else {}
    refused = Counter(request.rows(request.equal("status", "refused")).words("reason"))
    about |= {"refused": dict(refused.most_common())} if refused else {}
    about |= {"kv_tiers": moved} if (moved := tier_words(setup, load, result)) else {}
    totals = _totals(setup, spent, result)
    about |= {"kv_cache": {name: totals[name] for name in ("kv_capacity_token", "kv_concurrency", "max_model_len")}}
    steps = None if result.step is None else step_columns(result.step, at.LOG_COLUMNS)
    edges = edges_s()
    return Run(request, totals, about, _operators(spent), steps, edges, result.gap_count)


def calibration_words(setup: Setup) -> str:
    """Whose constants price the kernels, in words."""
    name, found = setup.system.device.name, setup.calibrated_on
    ffn = setup.ffn.system.device if setup.ffn is not None else None
    if not found:
        return f"none, {name}{f' and {ffn.name}' if ffn is not None else ''} at the speed of light"
    said = _calibrated(name, found)
    return said if ffn is None or ffn.name == name else f"{said}; {_calibrated(ffn.name, calibration(ffn)[1])}"


def _calibrated(name: str, found: str) -> str:
    return f"measured on {name}" if found == name else f"inherited from {found}; nobody measured {name}"


def apart_words(setup: Setup) -> str:
    """Which machines compute what, in words."""
    ffn = setup.ffn
    if ffn is None:
        return ""
    weight = sum(ffn.weight.values()) / 1e9
    return (
        f"attention on {setup.placement.num_device} {setup.system.device.name}, feed-forward on {ffn.num_device}"
        f" {ffn.system.device.name} ({weight:.3g} GB of weights each), {ffn.num_microbatch} microbatches a step"
    )


def tier_words(setup: Setup, load: Requests, result: ServeResult) -> dict[str, dict[str, int]]:
    """Tokens of prefixes that were read from each tier, written to it, and lost from it."""
    if result.tier_unit is None:
        return {}
    names, words = [one.name for one in parse(setup.scenario.kv_tiers)], ("read_token", "written_token", "lost_token")
    return {
        name: dict(zip(words, (int(unit) * load.unit_token for unit in row), strict=True))
        for name, row in zip(names, result.tier_unit, strict=False)
    }


def speculation(setup: Setup) -> str:
    """Who drafts, in words; empty where nobody does."""
    if not setup.scenario.speculate:
        return ""
    who = f"drafts by {setup.draft.model.name}" if setup.draft is not None else "drafts that cost nothing"
    return f"{setup.scenario.speculate}, {who}"


def _operators(spent: Accounts) -> Any:
    return operator_columns(spent.name, spent.kind, spent.bound, spent.time_ps, spent.energy_nj)


def _rest_j(setup: Setup, spent: Accounts, span_s: float) -> float:
    """Joules of the boxes beside the devices of every side."""
    watts = (
        rest_w(system, spent.side_nj(side) / NJ_PER_J / span_s, num)
        for side, (system, _, num) in enumerate(setup.sides)
    )
    return sum(watts) * span_s


def _totals(setup: Setup, spent: Accounts, result: ServeResult) -> dict[str, float]:
    capacity = result.num_block * result.block_token * max(result.span_ps, 1) * len(result.kv_token_ps)
    token, _, _, held = result.kv_token_ps.sum(axis=0)
    count = result.counter
    used = np.zeros(1) if result.step is None else result.step[:, at.LOG_COLUMNS.index("used_block")]
    peak = used.max(initial=0) / result.num_block
    energy_j = (int(spent.energy_nj.sum()) + spent.idle_nj) / NJ_PER_J
    span_s = max(result.span_ps, 1) / PS_PER_S
    totals = {
        "num_step": float(count["num_step"].sum()),
        "num_replica": float(setup.placement.dp),
        "num_device": float(setup.num_device),
        "busy_s": float(result.stage_busy_ps.max(axis=1).sum()) / PS_PER_S,
        "energy_j": energy_j,
        "span_s": span_s,
        "rest_j": _rest_j(setup, spent, span_s),
        "kv_block": float(result.num_block),
        "kv_block_token": float(result.block_token),
        "kv_capacity_token": float(
            result.num_block * result.block_token
            if setup.store.groups == (Group(),)
            else setup.budget.token_capacity_at(0) * setup.placement.attn_dp
        ),
        "kv_concurrency": setup.kv_concurrency,
        "max_model_len": float(setup.max_model_len),
        "kv_mean_share": held / capacity,
        "kv_token_share": token / held if held and setup.store.groups == (Group(),) else math.nan,
        "num_computed_token": float(count["num_token"].sum() + count["num_pad_token"].sum()),
        "num_fetch": float(count["num_fetch"].sum()),
        "fetch_wait_s": float(count["fetch_wait_ps"].sum()) / PS_PER_S,
        "num_below_token": float(count["num_below_token"].sum()),
        "kv_wait_s": float(count["kv_wait_ps"].sum()) / PS_PER_S,
        "num_spared_key": float(count["num_span_token"].sum()),
        "num_preemption": float(count["num_recompute"].sum() + count["num_swap"].sum()),
        "usd_per_h": setup.price_usd_per_h,
    }
    totals |= energy(spent, setup.machine, [system.device for system, _, _ in setup.sides])
    if [group.rule for group in setup.store.groups] == ["budget"] and token:
        totals["kv_kept_share"] = held / token
    return totals | ({"kv_peak_share": float(peak)} if result.step is not None else {})
