"""A pool whose engines come and go: started, drained, lost and replaced by events of a SimPy clock.

Its owner lets the engines run ahead between two of these events. What is lost of a failed engine is its cache and the
KV of its requests; the step that it was in counts as done work. Who computes them again is the owner's affair.
"""

import functools
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np
import simpy

from kernels.engine import records as at
from kernels.engine.down import forget, settle
from kernels.engine.heap import NEVER
from kernels.engine.party import next_arrival
from kernels.engine.snapshot import PLACE
from kernels.errors import InputError
from kernels.units import FOREVER_PS, PS_PER_S
from sim.cluster import scaler_files
from sim.cluster.machines import Machines
from sim.cluster.operation import Operation
from sim.cluster.pool import Pool
from sim.cluster.storage import Storage
from sim.serving.engine import who_waits

HERE = (at.WAITING, at.RUNNING, at.SWAPPED, at.HANDED, at.HELD)  # what a failure takes down
SPEC = (at.DONE, at.LEAVING)  # all tokens are with their client
KEPT = frozenset({
    *at.COUNTERS, *at.INTEGRALS, "now_ps", "integrated_ps", "attn_nj", "draft_ps", "num_plan", "hidden", "sees",
    "epoch", "link_ps", "down", "up_ps",
})  # fmt: skip
FRESH = {
    "kv": 0, "ahead": 0, "produced": 0, "block": 0, "shared": 0, "run": 0, "blank": 0, "span": 0, "lane": 0,
    "flight": 0, "entry": 0, "slot": 0, "draft": 0, "previous": 0, "next": 0, "left": -1, "right": -1, "planned": 0,
    "stale": 0, "joined": 0, "branch": 0, "accept": 0, "stopped": 0, "state": 0, "low": 0, "junction": 0, "recent": 0,
    "status": at.FUTURE, "replica": -1,
}  # fmt: skip
OFF, LOADING, UP, DRAINING = STATES = ("off", "loading", "up", "draining")


ARRIVED = ("outstanding", "num_finished", "num_refused", "num_aborted")  # of an engine: who has come to it
Again = Callable[[], int]
"""Lets requests that were lost be computed again, once it is known which engines are left; returns how many."""


class OperatedPool:
    """The engines of `pool` under the rules of an operation, on the clock `env`.

    An engine reads `weight_byte` at `load_byte_per_s`. `lose(pool, k)` takes engine k down (see `take_down`) and says
    how its requests are computed again. Pools that share machines take them from `machines`. `move(pool, k)` takes what
    is on engine k to others with its KV, before its machine is gone; `leaving(k)` are those whose KV is still there.
    """

    def __init__(
        self, env: simpy.Environment, pool: Pool, rule: Operation, weight_byte: float, load_byte_per_s: float,
        lose: "Callable[[OperatedPool, int], Again]", stream: int = 0x0B, machines: Machines | None = None,
        move: "Callable[[OperatedPool, int], None] | None" = None,
        leaving: Callable[[int], Sequence[int]] = lambda k: (),
    ) -> None:  # fmt: skip
        self.env, self.pool, self.rule, self.lose, self.machines = env, pool, rule, lose, machines
        self.move, self.leaving = move, leaving
        self.num = pool.num_engine
        if (policy := pool.part.policy).flag("HOLD"):
            raise InputError("holds whole batches, of which nobody leaves", field="policy", value=policy.name,
                             allowed="a policy whose sequences leave one by one")  # fmt: skip
        for event in rule.event:
            if event.engine >= self.num:
                raise InputError("no such engine", field="engine", value=event.engine, allowed=f"0 to {self.num - 1}")
        for name in ("min_engine", "start_engine"):
            if (value := getattr(rule, name)) > self.num:
                raise InputError("more than dp", field=name, value=value, allowed=f"{self.num} at most")
        self.scaler = scaler_files.find(rule.scaler) if rule.scaler else None
        self.load_ps = round(weight_byte / load_byte_per_s * PS_PER_S)
        rate = rule.storage_GBps * 1e9
        self.storage = Storage(round(weight_byte / rate * PS_PER_S) if rate else 0)
        self.drained: set[int] = set()  # engines that are to be off: no machine is put in their place
        self.noticed: dict[int, int] = {}  # engines whose machines are called back, and when another is there
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
        self.waiting: list[int] = []  # engines that events started while there was no machine
        self.short = 0  # engines that its scaler would start beside these if there were machines
        self.draw = np.random.default_rng(np.random.SeedSequence((pool.options.seed, stream)))

    @property
    def world(self) -> at.World:
        return self.pool.world

    @property
    def now_ps(self) -> int:
        return int(self.env.now)

    @property
    def num_start(self) -> int:
        """Engines that are up when the first request comes."""
        return self.rule.start_engine or (self.rule.min_engine if self.scaler else self.num)

    def begin(self) -> None:
        """Before anything happens: who is up, and what will befall them."""
        for k in range(self.num):
            if k < self.num_start:
                self._up(k)
            else:
                self._switch_off(k, "off")
        self.event.clear()
        if self.scaler is not None:
            self.env.process(self._scale(self.scaler))
        for one in self.rule.event:
            self._later(round(one.at_s * PS_PER_S), functools.partial(self._happen, one.engine, one.kind))

    def is_idle(self) -> bool:
        """Whether nothing happens here by itself any more, whatever the clock says."""
        later = LOADING in self.state or (self.world.event < NEVER).any() or int(next_arrival(self.world)) >= 0
        return not later

    def stuck(self) -> InputError:
        """What is said where nothing happens any more, and somebody waits."""
        self.world.control[at.STUCK_ENGINE] = int(np.argmax(self.world.engine["outstanding"]))
        return InputError(who_waits(self.world, self.pool.part.policy.name))

    def _later(self, delay_ps: int, what: Callable[[], None]) -> None:
        self.env.timeout(delay_ps).callbacks.append(lambda _: what())

    def _note(self, k: int, what: str) -> None:
        self.event.append((self.now_ps / PS_PER_S, k, what))

    def _happen(self, k: int, kind: str) -> None:
        """An event of the table; one that finds nothing to do is noted as such."""
        state, comes = self.state[k], self._awaits_machine(k)
        if kind == "start" and state == OFF and not comes:
            if self._take():
                self._start(k, 0)
            else:
                self.waiting.append(k)
                self._note(k, "wait")
        elif kind == "drain" and k in self.waiting:
            self.waiting.remove(k)
            self._note(k, "withdrawn")
        elif kind == "drain" and (state == UP or k in self.noticed) and k not in self.drained:
            self._drain(k)
        elif kind == "fail" and state != OFF and not comes:
            self._fail(k)
        elif kind == "spot" and state in (UP, DRAINING):
            self._call_back(k)
        else:
            self._note(k, f"no effect: engine was {'waiting for a machine' if comes else state}")

    def _awaits_machine(self, k: int) -> bool:
        """Whether engine k is to be started on a machine that is not there yet."""
        return k in self.waiting or (self.state[k] == LOADING and self.now_ps < self.since_ps[k])

    def _take(self) -> bool:
        """Whether there is a machine for one more engine, which it then has."""
        return self.machines is None or self.machines.take()

    def _give(self, has_weights: bool = True) -> None:
        """A machine is left, or another in its place, which has no weights."""
        if self.machines is not None:
            self.machines.give(self, has_weights)

    def _give_another(self, wait_ps: int) -> None:
        """A machine is lost; another is there for whoever waits for one after a while."""
        self._later(wait_ps, lambda: self._give(False))

    def turn(self, has_weights: bool) -> bool:
        """Starts an engine on a machine that was left: one that an event named, else one that the scaler wants."""
        off = self.waiting or [k for k in range(self.num) if self.state[k] == OFF][: self.short]
        if not off or not self._take():
            return False
        self.short -= not self.waiting
        self._start(off[0], 0, has_weights)
        return True

    def _start(self, k: int, wait_s: float, has_weights: bool = False) -> None:
        """Starts engine k once a machine is there: its weights are read, unless they stay from the pool that it was in,
        and it is warmed up."""
        if k in self.waiting:
            self.waiting.remove(k)
        there_ps = read_ps = self.now_ps + round(wait_s * PS_PER_S)
        if not has_weights:
            read_ps = max(there_ps + self.load_ps, self.storage.read_by(k, there_ps))
        up_ps = read_ps + round(self.rule.warm_s * PS_PER_S)
        self.state[k] = LOADING
        self.life[k] += 1
        self.since_ps[k] = there_ps
        self._set_up_ps(k, up_ps)
        self._note(k, "load")
        life = self.life[k]
        self._later(up_ps - self.now_ps, lambda: self._up(k) if self.life[k] == life else None)

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
        self.drained.add(k)
        self._set_up_ps(k, FOREVER_PS)
        self._note(k, "drain")
        self._check_taking()
        self.env.process(self._await_empty(k, self.life[k]))

    def _await_empty(self, k: int, life: int) -> Generator[simpy.Event, Any, None]:
        while self.state[k] == DRAINING and self.life[k] == life:
            if self._is_empty(k):
                me = self.world.engine[k]
                left_ps = int(me["integrated_ps"]) if me["hands_over"] else 0  # when the last KV had left
                settle(self.world, k, self.now_ps)
                another_ps = self.noticed.get(k)
                self._switch_off(k, "off", left_ps)
                if another_ps is None:
                    self._give()
                else:
                    self._give_another(another_ps - self.now_ps)
                return
            yield self.env.timeout(round(self.rule.interval_s * PS_PER_S))

    def _is_empty(self, k: int) -> bool:
        """Whether nobody is on engine k, or on the way to it or from it with KV that it holds."""
        me = self.world.engine[k]
        if int(me["outstanding"]) or int(me["num_running"]) or self.leaving(k):
            return False
        held = int(me["num_block"]) - int(me["free_block"]) - int(me["evictable_block"])
        return not me["hands_over"] or held == 0

    def _switch_off(self, k: int, what: str, left_ps: int = 0) -> None:
        """Nobody is on engine k any more: its cache is lost, and it is no longer paid for, from its last step on where
        it was empty before (or from `left_ps` on, where that is later)."""
        end_ps = max(self.since_ps[k], int(self.world.lane[k]["free_ps"].max()), left_ps)
        end_ps = self.now_ps if what != "off" else end_ps
        if self.state[k] != OFF:
            self.paid_ps[k] += max(0, min(end_ps, self.now_ps) - self.since_ps[k])
        self._clear(k)
        self.state[k] = OFF
        self.drained.discard(k)
        self.noticed.pop(k, None)
        self.life[k] += 1
        self._set_up_ps(k, FOREVER_PS)
        self._note(k, what)

    def _clear(self, k: int) -> None:
        """The cache of engine k, on which nobody is, is lost."""
        forget(self.world, k)
        seq = self.world.seq
        left = np.flatnonzero((seq["replica"] == k) & (seq["run"] + seq["blank"] > 0))
        seq["run"][left], seq["blank"][left] = 0, 0  # what they left behind in it

    def _call_back(self, k: int) -> None:
        """The machine of engine k is called back: it takes nothing new during the notice, where another one does, and
        is gone at its end."""
        if k in self.noticed:
            self._note(k, "no effect: engine was called back")
            return
        gone_ps = round(self.rule.spot_notice_s * PS_PER_S)
        self.noticed[k] = self.now_ps + gone_ps + round(self.rule.spot_replace_s * PS_PER_S)
        if self.state[k] == UP:
            self.state[k] = DRAINING
            self._set_up_ps(k, FOREVER_PS)
        self._note(k, "notice")
        life = self.life[k]
        if k not in self.drained and not self._any_takes():  # it serves who comes until it is gone
            self.world.engine[k]["up_ps"] = FOREVER_PS - 1
        self._later(gone_ps, lambda: self._fail(k, "gone", self.rule.spot_replace_s) if self.life[k] == life else None)
        if self.move is not None and self.rule.spot_move_s:
            stays_ps = max(0, gone_ps - round(self.rule.spot_move_s * PS_PER_S))
            self._later(stays_ps, lambda: self._move(k) if self.life[k] == life else None)

    def _move(self, k: int) -> None:
        """What is on engine k, whose machine is called back, goes to others, if one of them takes requests."""
        if self.move is None or UP not in self.state:
            self._note(k, "no move: no other engine is up")
            return
        self._note(k, "move")
        self.move(self, k)

    def leave(self, k: int) -> list[tuple[int, int]]:
        """Everybody leaves engine k, which is up (see `take_down`): its cache is empty then."""
        left = self.take_down(k)
        self._clear(k)
        return left

    def _fail(self, k: int, what: str = "fail", wait_s: float | None = None) -> None:
        """Engine k is lost: another machine is started in its place, unless it was being drained."""
        wait_s = self.rule.repair_s if wait_s is None else wait_s
        drained = k in self.drained
        again = self.lose(self, k)
        self.storage.stop(k, self.now_ps)
        self._switch_off(k, what)
        if drained:
            self._give_another(round(wait_s * PS_PER_S))
        else:
            self._start(k, wait_s)
        self._check_taking()
        self.num_resent += again()

    def take_down(self, k: int) -> list[tuple[int, int]]:
        """Requests of engine k whose KV is lost, with the tokens that they have produced; but for its accounts it is as
        it was before anything happened."""
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
        for name in ("run", "blank", "shared", "block", "state", "low"):
            w.seq[name][spent] = 0
        if len(w.unit_id) > PLACE:
            for i in (*rows, *np.flatnonzero(spent)):  # who had left has given its states back
                start = int(w.seq["unit_start"][i])
                w.unit_id[PLACE, start : start + int(w.seq["num_unit"][i])] = 0
        w.seq["preempted"][rows] += 1
        w.seq["key"][rows] = self.key[rows]
        begin_ps = max(self.now_ps, int(w.engine[k]["up_ps"])) if self.state[k] == LOADING else self.now_ps
        cut_ps = np.maximum(w.lane[k]["free_ps"] - begin_ps, 0)  # a lane that is not up yet is free from then on
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

    def _any_takes(self) -> bool:
        """Whether an engine takes requests, or will once it is loaded."""
        return any(one in (UP, LOADING) for one in self.state)

    def _check_taking(self) -> None:
        if self._any_takes():
            return
        for k in sorted(self.noticed.keys() - self.drained)[:1]:  # another machine comes in its place
            self.world.engine[k]["up_ps"] = FOREVER_PS - 1
        if not ((self.world.engine["up_ps"] < FOREVER_PS) & (self.world.engine["down"] == 1)).any():
            raise InputError("leaves no engine that takes requests, or will", field="operation",
                             value=f"at {self.now_ps / PS_PER_S:g} s", allowed="one engine at least")  # fmt: skip

    def _scale(self, want: Callable[[scaler_files.Seen], int]) -> Generator[simpy.Event, Any, None]:
        while True:
            yield self.env.timeout(round(self.rule.interval_s * PS_PER_S))
            seen = self._seen()
            wanted = max(self.rule.min_engine, min(int(want(seen)), self.num))
            off = [k for k in range(self.num) if self.state[k] == OFF and k not in self.waiting]
            more = [*self.waiting, *off][: max(0, wanted - seen.num_engine)]
            for k in more:
                if self._take():
                    self._start(k, 0)
            self.short = sum(self.state[k] == OFF and k not in self.waiting for k in more)
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
            int(me["num_running"].sum()), sum(int(me[name].sum()) for name in ARRIVED),
            float(held[up].sum()) / max(1, int(me["num_block"][up].sum())),
        )  # fmt: skip

    def finish(self, end_ps: int) -> None:
        """Pays what is still up when the last request has ended."""
        for k in range(self.num):
            if self.state[k] != OFF:
                self.paid_ps[k] += max(0, end_ps - self.since_ps[k])
            free = self.world.lane[k]["free_ps"]
            free[free > end_ps] = end_ps  # of one that was still to come up
