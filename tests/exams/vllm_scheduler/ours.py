"""The policy `vllm_v1` on cases, a step at a time, with the rules of an engine profile."""

import dataclasses

import numpy as np

from kernels.engine import records as at
from sim.serving.engine import serve
from sim.serving.engine_profile import load
from sim.serving.limits import Limits, Options
from sim.serving.plan import plan_rows
from sim.serving.plugin import find
from sim.serving.rules import Group
from tests.exams.vllm_scheduler.cases import BLOCK_TOKEN, Case
from tests.sim.serving.serving_case import US, flat_price
from workloads.requests import Requests, build

Plan = tuple[int, dict[int, int]]


def _requests(case: Case) -> tuple[list[int], Requests]:
    order = sorted(range(len(case.asks)), key=lambda i: (case.asks[i].arrival, i))
    number: dict[tuple[int, int], int] = {}  # dense, from a shared block or a request's own
    start, stop, unit = [], [], []
    for i in order:
        ask = case.asks[i]
        names = [(-1, shared) for shared in ask.prefix]
        if case.named:
            names += [(i, k) for k in range(len(names), ask.block)]
        start.append(len(unit))
        unit += [number.setdefault(name, len(number)) for name in names]
        stop.append(len(unit))
    asks = [case.asks[i] for i in order]
    shared = {"unit_start": start, "unit_stop": stop, "unit_id": unit, "unit_token": BLOCK_TOKEN} if unit else {}
    return order, build(
        np.array([ask.arrival for ask in asks]) * US, [ask.prompt for ask in asks], [ask.output for ask in asks],
        priority=[ask.priority for ask in asks], **shared,
    )  # fmt: skip


def _groups(case: Case) -> tuple[Group, ...]:
    if not case.states:
        return (Group(),)
    state = Group("align", int(case.exports), case.states) if case.cache else Group("state", 0, case.states)
    return Group(), state


def run(case: Case, profile: str, policy: str = "vllm_v1") -> list[Plan]:
    """All plans, first to last."""
    order, requests = _requests(case)
    plans: list[Plan] = []

    def note(engine: at.Engine, lane: int) -> int:
        rows = plan_rows(engine, lane)
        start = int(engine.lane[lane]["begun_ps"]) // US
        plans.append((start, {order[int(row["sequence"])]: int(row["token"]) for row in rows}))
        return -1

    rules = load(profile).scheduler
    limits = Limits(
        num_block=case.num_block, block_token=BLOCK_TOKEN, max_context_token=case.max_context,
        prefix_cache=case.cache, plan_ahead=int(case.ahead), ends="token" if case.by_token else "length",
        rules=dataclasses.replace(rules, admit_whole=rules.admit_whole and case.whole), groups=_groups(case),
    )  # fmt: skip
    longest = f",max_chunk={case.longest_chunk}" if case.longest_chunk else ""
    interval = f",interval={case.interval}" if case.interval > 1 else ""
    chosen = find("policy", f"{policy}:max_token={case.budget},max_seq={case.seats}{longest}{interval}")
    options = Options(order="priority" if case.by_priority else "fcfs", engine="stepping", execute=note)
    serve(
        requests,
        flat_price(1, 0, case.budget, case.seats, case.stages),
        chosen,
        find("router", "round_robin"),
        limits,
        options,
    )
    return plans
