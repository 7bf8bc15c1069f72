"""A pool that prefills and one that decodes, in operation: each is scaled, drained and lost by rules of its own.

Between two events of the operation the meetings of the pools run ahead. A hand-over goes to an engine that takes
requests; to one that is still to come up, once it is. What is lost with an engine is this:

- KV that it decoded from, or that it held or was computing as one that prefills. Such a request begins again in the
  pool that prefills, with its prompt and what it has produced, and is handed over anew.
- KV on its way to it. The engine that computed it holds it still, and sends it whole to another.

Pools may share machines: one that a pool has drained goes to the other, where that one is short of machines.
"""

import dataclasses
from typing import Any

import numpy as np
import simpy

from kernels.engine import records as at
from kernels.engine.down import leave_nothing, resend, taking
from kernels.engine.party import fetch, next_arrival
from kernels.errors import InputError
from kernels.units import FOREVER_PS, PS_PER_S
from sim.cluster.machines import Machines
from sim.cluster.operated_pool import FRESH, Again, OperatedPool
from sim.cluster.operation import PoolsOperation
from sim.cluster.world import Cluster, ClusterResult

LEFT = ("run", "blank", "joined", "branch", "previous", "next")  # of a row: what lies in its engine's cache
STREAM = {"prefill": 0x0B, "decode": 0x0C}  # of the draws of failures


@dataclasses.dataclass(frozen=True)
class Weights:
    """What an engine loads, and how fast."""

    byte: float
    byte_per_s: float


@dataclasses.dataclass(frozen=True, eq=False)
class OperatedPools:
    """What came of requests, and of the engines of both pools."""

    result: ClusterResult
    event: list[tuple[float, str, int, str]]  # seconds, pool, engine, what
    paid_s: dict[str, np.ndarray[Any, np.dtype[np.float64]]]  # of each engine
    num_resent: int  # requests that began again
    num_rerouted: int  # hand-overs that were sent to another engine
    load_s: dict[str, float]  # of an engine's weights, alone


class PoolsOperator:
    """One run of the two pools of `cluster`; `weights` says of each role what its engines load."""

    def __init__(self, cluster: Cluster, rules: PoolsOperation, weights: dict[str, Weights], alike: bool) -> None:
        """`alike`: whether engines of both pools hold the same weights on the same devices, so that a machine that
        changes pools need not read them."""
        self.of, self.env = cluster, simpy.Environment(initial_time=0)
        self.meetings = cluster.meetings()
        machines = Machines(rules.machines, alike) if rules.machines else None
        self.operated = {
            role: OperatedPool(
                self.env, cluster.pools[role], rules.of(role), weights[role].byte, weights[role].byte_per_s,
                self._lose_prefill if role == "prefill" else self._lose_decode, STREAM[role], machines,
            )
            for role in ("prefill", "decode")
        }  # fmt: skip
        self.first, self.last = self.operated["prefill"], self.operated["decode"]
        if machines is not None:
            machines.pools += [self.first, self.last]
            most = self.first.num + self.last.num
            if rules.machines >= most:
                raise InputError("has no effect: each engine has its own", field="machines", value=rules.machines,
                                 allowed=f"below {most}, or 0")  # fmt: skip
            started = self.first.num_start + self.last.num_start
            if started > rules.machines:
                raise InputError(f"fewer than the {started} engines that are up at first", field="machines",
                                 value=rules.machines, allowed=f"{started} or more")  # fmt: skip
            machines.free -= started
        self.num_rerouted = 0

    def run(self) -> OperatedPools:
        """Serves everything, or what is done until an interrupt."""
        for pool in (self.first, self.last):
            pool.begin()
        complete = True
        try:
            self._run()
        except KeyboardInterrupt:
            complete = False
        finally:
            self.meetings.finish()
        return self._result(complete)

    def _run(self) -> None:
        pools = (self.first, self.last)
        while True:
            peek = self.env.peek()
            until_ps = FOREVER_PS if peek == float("inf") else int(peek)
            self.meetings.advance(until_ps)
            waits = [bool(one.world.engine["outstanding"].any()) for one in pools]
            if self.meetings.is_over() and int(next_arrival(self.first.world)) < 0 and not any(waits):
                return
            if until_ps == FOREVER_PS:
                return
            if self.meetings.is_over() and all(one.is_idle() for one in pools):
                raise pools[waits.index(True)].stuck()
            self.env.step()

    def _lose_decode(self, lost: OperatedPool, k: int) -> Again:
        """Engine k of the pool that decodes is lost."""
        seq, now_ps = self.first.world.seq, lost.now_ps
        coming = np.flatnonzero(seq["status"] == at.HELD)
        coming = coming[self.meetings.there(coming) == k]
        for i in coming:
            self.meetings.withdraw(int(i), now_ps)
        begun = lost.take_down(k)

        def again() -> int:
            for i, produced in begun:
                self._begin_again(i, produced)
            part = self.first.pool.part
            for i in coming:
                target = int(taking(lost.world, lost.pool.route(int(i))))
                byte = part.kv_token_byte * int(seq["kv"][i]) + part.state_byte
                self.meetings.depart(int(i), target, byte, now_ps)
            self.num_rerouted += len(coming)
            return len(begun)

        return again

    def _lose_prefill(self, lost: OperatedPool, k: int) -> Again:
        """Engine k of the pool that prefills is lost."""
        seq = lost.world.seq
        for i in np.flatnonzero((seq["status"] == at.HELD) & (seq["replica"] == k)):
            self.meetings.withdraw(int(i), lost.now_ps)
        begun = lost.take_down(k)

        def again() -> int:
            for i, produced in begun:
                self._begin_again(i, produced)
            return len(begun)

        return again

    def _begin_again(self, i: int, produced: int) -> None:
        """The prompt of request i and what it has produced are computed by the pool that prefills, which produces the
        next token with the last of it."""
        pool = self.first.pool
        world, seq = pool.world, pool.world.seq
        k = int(taking(world, pool.route(i)))
        stays = int(seq["run"][i]) + int(seq["blank"][i]) > 0  # in the cache of the engine that computed it before
        if stays and int(seq["replica"][i]) != k:
            leave_nothing(world, i)
            stays = False
        for name, value in FRESH.items():
            if not (stays and name in LEFT):
                seq[name][i] = value
        seq["key"][i] = self.first.key[i]
        seq["output"][i] = produced + 1
        seq["end_ps"][i] = -1
        resend(world, i, k, self.first.now_ps, produced)
        fetch(world, k)  # where it is refused, as it may be now that it is longer, others may wait for that
        if seq["status"][i] == at.REFUSED:
            seq["produced"][i] = produced

    def _result(self, complete: bool) -> OperatedPools:
        done = self.of.result(complete)
        end_ps = int(max(done.request["end_ps"].max(initial=0), 1))
        event = []
        for role, one in self.operated.items():
            one.finish(end_ps)
            event += [(time_s, role, k, what) for time_s, k, what in one.event]
        return OperatedPools(
            done, sorted(event, key=lambda each: each[0]),
            {role: one.paid_ps / PS_PER_S for role, one in self.operated.items()},
            sum(one.num_resent for one in self.operated.values()), self.num_rerouted,
            {role: one.load_ps / PS_PER_S for role, one in self.operated.items()},
        )  # fmt: skip
