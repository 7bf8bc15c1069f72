"""Operator by operator on SimPy: the fidelity `replay`, and the proof that the step prices and clocks are right.

Each stage of a replica is an engine (a SimPy resource that serves in order); a step is a process that holds it for
one operator after the other, each priced as a row of an operator table. Requests arrive by SimPy's clock and the
lanes are woken by it; nothing is looked up in a step price and no clock of the run-ahead loop is used. Policies,
routers and KV accounting are the same functions on the same arrays.

What the step prices cannot know is who else uses a link: here KV that is swapped takes to the links between devices and
host (`sim.serving.uplinks`), where replicas behind one PCIe switch share what it carries. Where nobody meets another,
the run is the calibrated one to the tick.
"""

from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import simpy

from kernels import optable as op
from kernels.engine import records as at
from kernels.engine.advance import next_lane, open_lane, rest
from kernels.engine.begin import begin
from kernels.engine.beside import hidden_ps
from kernels.engine.commit import commit, let_leave
from kernels.engine.party import fetch, next_arrival, place
from kernels.engine.price import (
    HOST_BLOCK,
    HOST_PREFILL,
    HOST_SEQ,
    HOST_STEP,
    HOST_TOKEN,
    StepPrice,
    dispatch_ps,
    pack,
)
from kernels.engine.records import Engine
from kernels.engine.types import engine_of, fleet_of
from kernels.errors import InputError
from kernels.units import PS_PER_S
from sim.fabric.flows import Fabric
from sim.serving import state
from sim.serving.adapters import operators as adapter_operators
from sim.serving.engine import flush
from sim.serving.limits import Limits, Options
from sim.serving.plan import adapter_sums, adapters_ready_ps, plan_rows, plan_spans
from sim.serving.plugin import Plugin
from sim.serving.result import ServeResult, collect
from sim.serving.split_replay import split
from sim.serving.step_price import Lowered
from sim.serving.uplinks import Uplinks
from workloads import lowering

END, ARRIVE, PLAN = 0, 1, 2  # at one instant: steps end, then requests arrive, then lanes plan
Ints = at.Ints
Beside = tuple[int, int]
Stage = tuple[list[Beside], int, Ints]  # what its engines do, the least that it takes, its hand-over


def beside(ops: op.OpTable, cost: op.CostTable, rate: at.Floats) -> list[Beside]:
    """Picoseconds of each operator on the main engine, and of the one that the units do meanwhile (0: none): a layer
    class's prompts beside its decodes where the machine's rule says so (`kernels.engine.beside`)."""
    time_ps = cost["time_ps"].tolist()
    prefill, decode = (np.flatnonzero(ops["kind"] == kind).tolist() for kind in (op.ATTN_PREFILL, op.ATTN_DECODE))
    found = [(one, 0) for one in time_ps]
    for first, second in zip(prefill, decode, strict=False):
        layers = int(ops["count"][first])
        main_ps, pim_ps = time_ps[first] // layers, time_ps[second] // layers
        hidden = hidden_ps(main_ps, pim_ps, int(cost["bound"][second]), rate)
        if hidden:
            both = main_ps + pim_ps - hidden
            ends = (min(main_ps, both), both) if pim_ps >= main_ps else (both, min(pim_ps, both))
            found[first], found[second] = (layers * ends[0], layers * ends[1]), (0, 0)
    return found


class Replay:
    """A fleet on SimPy's clock. `run()` returns the SEQUENCE records."""

    def __init__(
        self,
        requests: state.Requests,
        price: StepPrice,
        lowered: Lowered,
        policy: Plugin,
        router: Plugin,
        limits: Limits,
        options: Options,
        uplinks: Uplinks | None = None,
    ) -> None:
        if lowered.placement.attn_dp > 1:
            raise InputError(
                "the replay runs one attention group", field="attn_dp", value=lowered.placement.attn_dp, allowed="1"
            )
        self.env = simpy.Environment(initial_time=0)
        self.world = state.build(requests, price, policy, limits, options)
        self.fleet = fleet_of(self.world, router.vector(), options.seed)
        self.price, self.packed, self.lowered = price, pack(price), lowered
        self.plan: Callable[..., int] = policy.function
        self.route: Callable[..., int] = router.function
        self.views = [engine_of(self.world, k) for k in range(limits.num_replica)]
        num_stage = len(price.dense_ps)
        self.stages = [[simpy.Resource(self.env) for _ in range(num_stage)] for _ in self.views]
        self.ends: list[dict[int, int]] = [{} for _ in self.views]  # of each lane in flight
        self.num_operator = 0
        self.uplinks = uplinks
        self.fabric = None if uplinks is None else Fabric(self.env, np.full(uplinks.num_link, uplinks.byte_per_s))
        self.contended_ps = 0  # by which swaps took longer than alone, all replicas
        self.names = policy.name, router.name
        self.recorded = options.record_steps
        self.logs: list[Ints] = []
        self.logged: dict[tuple[int, int], Ints] = {}  # of each lane in flight: its row of the log
        self.most_rank = max((rank.size for rank in limits.ranks), default=0)
        self.known: set[int] = set()

    def run(self) -> at.Records:
        """Serves everything. `InputError` where something is left over."""
        self._expect_arrivals()
        self.env.run()
        left = [int(me["outstanding"]) for me in self.world.engine]
        if any(left):
            raise InputError(f"requests that never end: {left} a replica", field="policy")
        return self.world.seq

    def result(self) -> ServeResult:
        """Serves everything and says what came of it; Ctrl-C ends it early, as in `sim.serving.engine.serve`."""
        try:
            self.run()
        except KeyboardInterrupt:
            return self._collect(False)
        return self._collect(True)

    def _collect(self, complete: bool) -> ServeResult:
        return collect(self.world, self.price, "replay", complete, *self.names, self.logs, self.recorded)

    def _at(self, time_ps: int, order: int, action: Callable[[], None]) -> None:
        """Does something at a time, after what of a lower order happens then."""
        event = self.env.event()
        event._ok, event._value = True, None
        event.callbacks.append(lambda _: action())
        self.env.schedule(event, priority=order, delay=time_ps - int(self.env.now))

    def _expect_arrivals(self) -> None:
        i = next_arrival(self.world)
        if i >= 0 and i not in self.known:
            self.known.add(i)
            time_ps = int(self.world.seq[i]["arrival_ps"] + self.world.control[at.REQUEST_PS])
            self._at(max(time_ps, int(self.env.now)), ARRIVE, self._arrive)

    def _arrive(self) -> None:
        i = next_arrival(self.world)
        now = int(self.env.now)
        if i >= 0 and int(self.world.seq[i]["arrival_ps"] + self.world.control[at.REQUEST_PS]) <= now:
            k = int(self.route(self.fleet, i)) if len(self.views) > 1 else 0
            place(self.world, i, k)
            self._wake(k)
        self._expect_arrivals()

    def _wake(self, k: int) -> None:
        self._at(int(self.env.now), PLAN, lambda: self._plan(k))

    def _plan(self, k: int) -> None:
        """Plans as many lanes as want to, while the first stage is free (where lanes share a running list, whether it
        is or not: a step waits for the stage)."""
        r = self.views[k]
        pooled = r.me["pooled"] == 1
        while pooled or not self.stages[k][0].count:
            lane = int(next_lane(r))
            if lane < 0:
                if not (pooled and self._empty_is_oldest(r)):
                    return
                r.me["now_ps"] = commit(r)
                continue
            open_lane(r, lane, int(self.env.now))
            self.plan(r)
            r.me["last_lane"] = lane
            if r.lane[lane]["num_plan"] == 0:
                rest(r, lane)
            else:
                stages, host_ps, swap_ps = self._operators(r, lane)
                drafts = self._drafts(r, lane)
                begin(r, self.packed, lane, int(self.env.now), 0)  # books the step; its end is set by the process
                if self.recorded:
                    flush(self.world, self.logs)
                    self.logged[k, lane] = self.logs[-1][-1]
                wait_ps = max(0, adapters_ready_ps(r, plan_rows(r, lane)) - int(self.env.now))
                first = self.stages[k][0].request()
                self.env.process(self._step(k, lane, drafts, stages, (host_ps, swap_ps), first, wait_ps))
            if r.me["num_leaving"] > 0:
                let_leave(r)

    def _empty_is_oldest(self, r: Engine) -> bool:
        oldest = int(r.work[at.IN_FLIGHT_RING + int(r.me["flight_head"])])
        return bool(r.me["num_flight"] > 0 and r.lane[oldest]["empty"] == 1)

    def _operators(self, r: Engine, lane: int) -> tuple[list[Stage], int, int]:
        """Picoseconds of every operator of the plan on each stage (of two where they run side by side), the least
        that the stage takes, of its hand-over, of the host before it, and of the swaps that come with it, alone."""
        rows = plan_rows(r, lane)
        num = len(rows)
        decode = rows["role"] != at.PREFILL
        query = rows["token"] + rows["pad"]
        kv = rows["start"] + np.where(rows["role"] == at.IDLE, 0, query)
        ends = rows["start"] + rows["token"] >= r.seq["target"][rows["sequence"]]
        samples = np.where(decode, rows["token"], ends).astype(np.int64)
        plan = lowering.Plan(query, kv, decode, samples)
        spans, kept = plan_spans(r, rows), int(r.me["kept_token"])
        read = np.where(decode, np.minimum(kv, kept), np.minimum(rows["start"], kept) + query) if kept else kv.copy()
        if len(spans.token):
            read[decode] -= spans.token
        sums = adapter_sums(r, rows)
        stages = []
        for stage in range(len(self.price.dense_ps)):
            ops, work = self.lowered.step(stage, plan, read, spans)
            if sums[0]:
                ops = np.concatenate([ops, adapter_operators(self.lowered, stage, sums, self.most_rank)])
            cost = self.lowered.price(ops, work)
            sends = ops["kind"] == op.P2P
            least_ps = dispatch_ps(self.packed, stage, int(query.sum()), int((~decode).sum()))
            work_ps: list[Beside] | None = None
            if decode.all() and (query == 1).all():
                work_ps = split(self.lowered, self.price, self.packed, stage, kv)
            if work_ps is None:
                work_ps = beside(ops[~sends], cost[~sends], self.lowered.machine.rate)
            stages.append((work_ps, least_ps, cost["time_ps"][sends]))
            self.num_operator += int(ops["count"].sum())
        host = self.price.host_ps
        moved = int(r.me["swap_block"])
        host_ps = host[HOST_STEP] + host[HOST_SEQ] * num + host[HOST_TOKEN] * query.sum()
        host_ps += host[HOST_PREFILL] * (not decode.all())
        return stages, int(host_ps), int(host[HOST_BLOCK]) * moved

    def _drafts(self, r: Engine, lane: int) -> list[tuple[list[int], int, int]]:
        """Of each pass of the draft model before the plan: its operators, the least that they take, the host's time."""
        draft, price = self.lowered.draft, self.price.draft
        if draft is None or price is None:
            return []
        rows = plan_rows(r, lane)
        decode = rows["role"] == at.DECODE
        held = r.seq[rows["sequence"]]
        passes = np.where(decode, np.minimum(held["draft_pass"], rows["token"] - 1), 0)
        prompt = rows[rows["role"] == at.PREFILL]
        found = []
        for j in range(1 + int(passes.max(initial=0))):
            here = passes >= j
            query = held["draft_width"][here] if j else prompt["token"] + prompt["pad"]
            kv = rows["start"][here] + j * query if j else prompt["start"] + query
            if not len(query):
                continue
            query, kv = query.astype(np.int64), kv.astype(np.int64)
            plan = lowering.Plan(query, kv, np.full(len(query), j > 0), query * (j > 0))
            ops, work = draft.step(0, plan)
            self.num_operator += int(ops["count"].sum())
            host, seqs = price.host_ps, len(query) * (j > 0)
            host_ps = host[HOST_STEP] + host[HOST_SEQ] * seqs + host[HOST_TOKEN] * query.sum()
            host_ps += host[HOST_PREFILL] * (j == 0)
            least_ps = dispatch_ps(pack(price), 0, int(query.sum()), int(j == 0))
            found.append(([int(one) for one in draft.price(ops, work)["time_ps"]], int(least_ps), int(host_ps)))
        return found

    def _step(
        self, k: int, lane: int, drafts: list[tuple[list[int], int, int]], stages: list[Stage],
        before_ps: tuple[int, int], hold: Any, wait_ps: int,
    ) -> Generator[Any, Any, None]:  # fmt: skip
        ready_ps = int(self.env.now) + wait_ps
        yield hold
        yield self.env.timeout(max(0, ready_ps - int(self.env.now)))
        for passed, least_ps, draft_host_ps in drafts:
            yield self.env.timeout(draft_host_ps)
            for time_ps in passed:
                yield self.env.timeout(time_ps)
            yield self.env.timeout(max(0, least_ps - sum(passed)))
        host_ps, swap_ps = before_ps
        yield self.env.timeout(host_ps)
        if swap_ps:
            yield from self._swap(k, swap_ps)
        for stage, (operators, least_ps, sends) in enumerate(stages):
            if stage > 0:
                hold = self.stages[k][stage].request()
                yield hold
            for main_ps, pim_ps in operators:
                if pim_ps:  # two engines at work
                    yield self.env.timeout(main_ps) & self.env.timeout(pim_ps)
                else:
                    yield self.env.timeout(main_ps)
            worked_ps = sum(max(pair) for pair in operators)
            yield self.env.timeout(max(0, least_ps - worked_ps))
            if stage == len(stages) - 1:
                self._at(int(self.env.now), END, lambda: self._end(k, lane))
            here = self.views[k].lane[stage]
            here["free_ps"] = max(int(here["free_ps"]), int(self.env.now))
            self.stages[k][stage].release(hold)
            if stage == 0:
                self._wake(k)
            for time_ps in sends:
                yield self.env.timeout(int(time_ps))

    def _swap(self, k: int, alone_ps: int) -> Generator[Any, Any, None]:
        """Moves blocks between the devices of replica k and their host, which takes `alone_ps` where nobody else does:
        each device sends its part over its own link and, where there is one, its switch."""
        if self.fabric is None or self.uplinks is None:
            yield self.env.timeout(alone_ps)
            return
        begun_ps = int(self.env.now)
        route, share = self.uplinks.route[k], self.uplinks.share[k]
        yield self.fabric.send(route, np.full(len(route), alone_ps * share / PS_PER_S))
        late_ps = int(self.env.now) - begun_ps - alone_ps
        self.contended_ps += late_ps
        self.views[k].lane[0]["busy_ps"] += late_ps

    def _end(self, k: int, lane: int) -> None:
        r = self.views[k]
        r.lane[lane]["end_ps"] = int(self.env.now)
        if self.recorded:
            self.logged.pop((k, lane))[at.LOG_COLUMNS.index("end_ps")] = int(self.env.now)
        r.me["now_ps"] = commit(r)
        fetch(self.world, k)
        self._expect_arrivals()
        self._wake(k)
