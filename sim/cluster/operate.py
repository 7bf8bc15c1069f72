"""A pool in operation: engines are started, drained, lost and replaced by processes of SimPy's clock.

Between two events of the clock the compiled loop runs ahead, arrivals and routing included; a router sees an engine
that takes no requests as endlessly busy, and what it sends there goes to the next that takes any
(`kernels.engine.down`).
What is lost of a failed engine is its cache and the KV of its requests, which reach another engine at that moment and
are computed again from prompt and produced tokens; the step that it was in counts as done work.
"""

import dataclasses
import functools
from bisect import insort
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import simpy

from kernels.engine import records as at
from kernels.engine.down import forget, resend, settle, taking
from kernels.engine.heap import NEVER
from kernels.engine.party import next_arrival
from kernels.engine.snapshot import PLACE
from kernels.errors import InputError
from kernels.units import FOREVER_PS, PS_PER_S
from sim.cluster import scaler_files
from sim.cluster.operation import Operation
from sim.cluster.pool import Pool, PoolPart
from sim.serving import state
from sim.serving.engine import who_waits
from sim.serving.limits import Options
from sim.serving.result import ServeResult

HERE = (at.WAITING, at.RUNNING, at.SWAPPED)  # what a failure takes down
SPEC = (at.DONE, at.LEAVING)  # all tokens are with their client
KEPT = frozenset({
    *at.COUNTERS, *at.INTEGRALS, "now_ps", "integrated_ps", "attn_nj", "draft_ps", "num_plan", "hidden", "sees",
    "epoch", "link_ps", "down", "up_ps",
})  # fmt: skip
FRESH = {
    "kv": 0, "ahead": 0, "produced": 0, "block": 0, "shared": 0, "run": 0, "blank": 0, "span": 0, "lane": 0,
    "flight": 0, "entry": 0, "slot": 0, "draft": 0, "previous": 0, "next": 0, "left": -1, "right": -1, "planned": 0,
    "stale": 0, "joined": 0, "branch": 0, "accept": 0, "stopped": 0, "status": at.FUTURE, "replica": -1,
    "state": 0, "low": 0, "junction": 0, "recent": 0,
}  # fmt: skip
OFF, LOADING, UP, DRAINING = STATES = ("off", "loading", "up", "draining")


@dataclasses.dataclass(frozen=True, eq=False)
class Operated:
    """What came of requests, and of engines: what happened when, and for how long each was paid."""

    result: ServeResult
    event: list[tuple[float, int, str]]  # seconds, engine, what
    paid_s: np.ndarray[Any, np.dtype[np.float64]]  # of each engine
    num_resent: int
    load_s: float  # of an engine's weights, alone


class Operator:
    """One run of a pool that is operated; `weight_byte` is what an engine loads."""

    def __init__(
        self, requests: state.Requests, part: PoolPart, operation: Operation, weight_byte: float,
        load_byte_per_s: float, options: Options | None = None,
    ) -> None:  # fmt: skip
        if part.policy.flag("HOLD"):
            raise InputError("holds whole batches, of which nobody leaves", field="policy", value=part.policy.name,
                             allowed="a policy whose sequences leave one by one")  # fmt: skip
        self.rule, self.options, self.env = operation, options or Options(), simpy.Environment(initial_time=0)
        self.pool = Pool(part, requests, self.options, places=True)
        self.world, self.num = self.pool.world, self.pool.num_engine
        for event in operation.event:
            if event.engine >= self.num:
                raise InputError("no such engine", field="engine", value=event.engine, allowed=f"0 to {self.num - 1}")
        for name in ("min_engine", "start_engine"):
            if (value := getattr(operation, name)) > self.num:
                raise InputError("more than dp", field=name, value=value, allowed=f"{self.num} at most")
        self.scaler = scaler_files.find(operation.scaler) if operation.scaler else None
        self.load_ps = round(weight_byte / load_byte_per_s * PS_PER_S)
        rate = operation.storage_GBps * 1e9
        self.storage_ps = round(weight_byte / rate * PS_PER_S) if rate else 0
        self.reads: list[tuple[int, int]] = []  # of the shared storage, in order of time
        self.noticed: set[int] = set()  # engines whose machines are called back
        self.key = self.world.seq["key"].copy()
        self.fresh = [
            (name, getattr(self.world, name).copy()) for name in ("engine", "lane", "work", "store")
        ]  # as engines are before anything happens
        self.state = [OFF] * self.num
        self.life = [0] * self.num  # how often each has been started: what befell an earlier life is void
        self.since_ps = [0] * self.num
        self.paid_ps = np.zeros(self.num, np.int64)
        self.event: list[tuple[float, int, str]] = []
        self.num_resent = 0
        self.draw = np.random.default_rng(np.random.SeedSequence((self.options.seed, 0x0B)))

    @property
    def now_ps(self) -> int:
        return int(self.env.now)

    def run(self) -> Operated:
        """Serves everything, or what is done until an interrupt."""
        start = self.rule.start_engine or (self.rule.min_engine if self.scaler else self.num)
        for k in range(self.num):
            if k < start:
                self._up(k)
            else:
                self._switch_off(k, "off")
        self.event.clear()
        if self.scaler is not None:
            self.env.process(self._scale(self.scaler))
        for one in self.rule.event:
            self._later(round(one.at_s * PS_PER_S), functools.partial(self._happen, one.engine, one.kind))
        complete = True
        try:
            self._run()
        except KeyboardInterrupt:
            complete = False
        return self._result(complete)

    def _run(self) -> None:
        while True:
            peek = self.env.peek()
            until_ps = FOREVER_PS if peek == float("inf") else int(peek)
            self.pool.advance(until_ps)
            if int(next_arrival(self.world)) < 0 and not self.world.engine["outstanding"].any():
                return
            if until_ps == FOREVER_PS:
                return
            self._look()
            self.env.step()

    def _look(self) -> None:
        """Requests that wait for what cannot happen, whatever the clock says."""
        if LOADING in self.state or (self.world.event < NEVER).any() or int(next_arrival(self.world)) >= 0:
            return
        self.world.control[at.STUCK_ENGINE] = int(np.argmax(self.world.engine["outstanding"]))
        raise InputError(who_waits(self.world, self.pool.part.policy.name))

    def _later(self, delay_ps: int, what: Callable[[], None]) -> None:
        self.env.timeout(delay_ps).callbacks.append(lambda _: what())

    def _note(self, k: int, what: str) -> None:
        self.event.append((self.now_ps / PS_PER_S, k, what))

    def _happen(self, k: int, kind: str) -> None:
        """An event of the table."""
        if kind == "start" and self.state[k] == OFF:
            self._start(k, 0)
        elif kind == "drain" and self.state[k] == UP:
            self._drain(k)
        elif kind in ("fail", "spot") and self.state[k] in (UP, DRAINING):
            self._fail(k) if kind == "fail" else self._call_back(k)

    def _start(self, k: int, wait_s: float) -> None:
        """Starts engine k once a machine is there: its weights are read, and it is warmed up."""
        there_ps = self.now_ps + round(wait_s * PS_PER_S)
        read_ps = max(there_ps + self.load_ps, self._read_by(there_ps))
        up_ps = read_ps + round(self.rule.warm_s * PS_PER_S)
        self.state[k] = LOADING
        self.life[k] += 1
        self.since_ps[k] = there_ps
        self._set_up_ps(k, up_ps)
        self._note(k, "load")
        life = self.life[k]
        self._later(up_ps - self.now_ps, lambda: self._up(k) if self.life[k] == life else None)

    def _read_by(self, there_ps: int) -> int:
        """When the shared storage has given weights to a machine that is there from then on: one after another, in the
        first time that nobody has asked for."""
        if self.storage_ps == 0:
            return there_ps
        begin_ps = there_ps
        for start_ps, stop_ps in self.reads:
            if begin_ps + self.storage_ps <= start_ps:
                break
            begin_ps = max(begin_ps, stop_ps)
        insort(self.reads, (begin_ps, begin_ps + self.storage_ps))
        return begin_ps + self.storage_ps

    def _set_up_ps(self, k: int, up_ps: int) -> None:
        me = self.world.engine[k]
        me["down"], me["up_ps"] = 1, up_ps
        if up_ps < FOREVER_PS:  # whoever is sent there waits until then
            me["now_ps"] = max(int(me["now_ps"]), up_ps)
            self.world.lane[k]["free_ps"] = up_ps

    def _up(self, k: int) -> None:
        self.state[k] = UP
        self.world.engine[k]["down"] = 0
        self._note(k, "up")
        life = self.life[k]
        for mean_h, what in ((self.rule.mtbf_h, self._fail), (self.rule.spot_mtbf_h, self._call_back)):
            if mean_h:
                delay_ps = min(round(self.draw.exponential(mean_h * 3600) * PS_PER_S), FOREVER_PS // 4)
                self._later(delay_ps, functools.partial(self._if_alive, k, life, what))

    def _if_alive(self, k: int, life: int, what: Callable[[int], None]) -> None:
        if self.life[k] == life and self.state[k] in (UP, DRAINING):
            what(k)

    def _drain(self, k: int) -> None:
        """Engine k takes no more requests, and is switched off once it has none."""
        self.state[k] = DRAINING
        self._set_up_ps(k, FOREVER_PS)
        self._note(k, "drain")
        self._check_taking()
        self.env.process(self._await_empty(k, self.life[k]))

    def _await_empty(self, k: int, life: int) -> Generator[simpy.Event, Any, None]:
        while self.state[k] == DRAINING and self.life[k] == life:
            if int(self.world.engine[k]["outstanding"]) == 0 and int(self.world.engine[k]["num_running"]) == 0:
                settle(self.world, k, self.now_ps)
                self._switch_off(k, "off")
                return
            yield self.env.timeout(round(self.rule.interval_s * PS_PER_S))

    def _switch_off(self, k: int, what: str) -> None:
        """Nobody is on engine k any more: its cache is lost, and it is no longer paid for, from its last step on where
        it was empty before."""
        end_ps = self.now_ps if what != "off" else max(self.since_ps[k], int(self.world.lane[k]["free_ps"].max()))
        if self.state[k] != OFF:
            self.paid_ps[k] += max(0, min(end_ps, self.now_ps) - self.since_ps[k])
        forget(self.world, k)
        self.state[k] = OFF
        self.life[k] += 1
        self._set_up_ps(k, FOREVER_PS)
        self._note(k, what)

    def _call_back(self, k: int) -> None:
        """The machine of engine k is called back: it takes nothing new during the notice, where another one does, and
        is gone at its end."""
        self.noticed.add(k)
        if self.state[k] == UP:
            self.state[k] = DRAINING
            self._set_up_ps(k, FOREVER_PS)
        self._note(k, "notice")
        life = self.life[k]
        if not any(one in (UP, LOADING) for one in self.state):  # it serves who comes until it is gone
            self.world.engine[k]["up_ps"] = FOREVER_PS - 1
        self._later(
            round(self.rule.spot_notice_s * PS_PER_S),
            lambda: self._fail(k, "gone", self.rule.spot_replace_s) if self.life[k] == life else None,
        )

    def _fail(self, k: int, what: str = "fail", wait_s: float | None = None) -> None:
        """Engine k is lost: another machine is started in its place, its requests go to the others."""
        self.noticed.discard(k)
        lost = self._take_down(k)
        drained = self.state[k] == DRAINING and what == "fail"
        self._switch_off(k, what)
        if not drained:
            self._start(k, self.rule.repair_s if wait_s is None else wait_s)
        self._check_taking()
        for i, produced in lost:
            target = int(taking(self.world, self.pool.route(i)))
            resend(self.world, i, target, self.now_ps, produced)
        self.num_resent += len(lost)

    def _take_down(self, k: int) -> list[tuple[int, int]]:
        """Requests of engine k that must be computed elsewhere, with the tokens that they have produced; the engine is
        as it was before anything happened, but for its accounts."""
        w = self.world
        settle(w, k, self.now_ps)
        here = w.seq["replica"] == k
        spent = here & np.isin(w.seq["status"], SPEC)
        w.seq["status"][spent] = at.FINISHED
        rows = np.flatnonzero(here & np.isin(w.seq["status"], HERE))
        rows = rows[np.lexsort((rows, w.seq["key"][rows]))]
        lost = [(int(i), int(w.seq["produced"][i])) for i in rows]
        for name, value in FRESH.items():
            w.seq[name][rows] = value
            if name in ("run", "blank", "shared", "block", "state", "low"):
                w.seq[name][spent] = 0
        if len(w.unit_id) > PLACE:
            for i in np.flatnonzero(here).tolist():  # who has left holds none
                start = int(w.seq["unit_start"][i])
                w.unit_id[PLACE, start : start + int(w.seq["num_unit"][i])] = 0
        w.seq["run"][here], w.seq["blank"][here] = 0, 0
        w.seq["preempted"][rows] += 1
        w.seq["key"][rows] = self.key[rows]
        cut_ps = np.maximum(w.lane[k]["free_ps"] - self.now_ps, 0)
        busy_ps = w.lane[k]["busy_ps"] - np.minimum(cut_ps, w.lane[k]["busy_ps"])
        kept = {name: w.engine[k][name].item() for name in KEPT}
        for name, pristine in self.fresh:
            getattr(w, name)[k] = pristine[k]
        for name, value in kept.items():
            w.engine[k][name] = value
        w.engine[k]["now_ps"] = self.now_ps
        w.lane[k]["free_ps"], w.lane[k]["busy_ps"] = self.now_ps, busy_ps
        w.engine[k]["epoch"] += 1
        return lost

    def _check_taking(self) -> None:
        if any(one in (UP, LOADING) for one in self.state):
            return
        for k in sorted(self.noticed)[:1]:  # another machine comes in its place
            self.world.engine[k]["up_ps"] = FOREVER_PS - 1
        if not ((self.world.engine["up_ps"] < FOREVER_PS) & (self.world.engine["down"] == 1)).any():
            raise InputError("leaves no engine that takes requests, or will", field="operation",
                             value=f"at {self.now_ps / PS_PER_S:g} s", allowed="one engine at least")  # fmt: skip

    def _scale(self, want: Callable[[scaler_files.Seen], int]) -> Generator[simpy.Event, Any, None]:
        while True:
            yield self.env.timeout(round(self.rule.interval_s * PS_PER_S))
            seen = self._seen()
            wanted = max(self.rule.min_engine, min(int(want(seen)), self.num))
            for k in [k for k in range(self.num) if self.state[k] == OFF][: max(0, wanted - seen.num_engine)]:
                self._start(k, 0)
            up = [k for k in range(self.num) if self.state[k] == UP]
            spare = min(seen.num_engine - wanted, len(up) - 1)
            for k in up[::-1][: max(0, spare)]:
                self._drain(k)

    def _seen(self) -> scaler_files.Seen:
        me = self.world.engine
        up = np.array([one == UP for one in self.state])
        held = me["num_block"] - me["free_block"] - me["evictable_block"]
        loading = self.state.count(LOADING)
        return scaler_files.Seen(
            self.now_ps / PS_PER_S, int(up.sum()) + loading, loading, int(me["outstanding"].sum()),
            int(me["num_running"].sum()), int(self.world.control[at.CURSOR]),
            float(held[up].sum()) / max(1, int(me["num_block"][up].sum())),
        )  # fmt: skip

    def _result(self, complete: bool) -> Operated:
        end_ps = int(max(self.world.seq["end_ps"].max(initial=0), 1))
        for k in range(self.num):
            if self.state[k] != OFF:
                self.paid_ps[k] += max(0, end_ps - self.since_ps[k])
            free = self.world.lane[k]["free_ps"]
            free[free > end_ps] = end_ps  # of one that was still to come up
        done = self.pool.result(complete)
        paid_s = self.paid_ps / PS_PER_S
        return Operated(done, self.event, paid_s, self.num_resent, self.load_ps / PS_PER_S)
