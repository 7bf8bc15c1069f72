"""Pools whose meetings a compiled heap runs (`kernels.engine.handover`): the driver around it."""

from typing import TYPE_CHECKING

import numpy as np

from kernels import blame
from kernels.engine import handover
from kernels.engine import records as at
from kernels.engine.advance import BUDGET, HORIZON
from kernels.engine.handle import address_of
from kernels.engine.records import Floats
from kernels.errors import InputError
from kernels.events import KIND, NUMBER, SIZE, put
from kernels.flows import FREE, flows, grown
from kernels.units import PS_PER_S
from sim.cluster.clock import sends_too_much
from sim.cluster.rows import ENDED, STRETCH
from sim.cluster.transfer_rule import compiled_rule
from sim.serving import place
from sim.serving.engine import compiled_loop, flush

if TYPE_CHECKING:
    from sim.cluster.world import Cluster

BUDGET_MEETING = 50_000  # meetings between two looks at the outside
LEAST_ROOM = 16


class Ahead:
    """One run of a `Cluster` of two pools."""

    def __init__(self, cluster: "Cluster", byte_per_s: Floats) -> None:
        self.of = of = cluster
        way = at.zeros(len(of.output), handover.WAY)
        way["output"] = of.output
        way["transfer_ps"] = -1
        way["child"], way["sibling"] = of.child, of.sibling
        self.between = handover.between(way)
        self.flow = flows(byte_per_s / PS_PER_S, num_hop=2)
        first, last = of.first.part, of.last.part
        state = self.between.state
        state[handover.NUM_FIRST], state[handover.NUM_LAYER] = of.first.num_engine, first.num_layer
        state[handover.LATENCY_PS], state[handover.LINKED] = of.latency_ps, of.linked
        state[handover.GATE] = of.gate
        state[handover.RANKED] = of.first.options.order != "fcfs"
        state[handover.MARGIN] = LEAST_ROOM + int(np.bincount(of.parent[of.parent >= 0]).max(initial=0))
        self.between.real[:3] = (
            first.kv_token_byte, first.state_byte, min(first.link_byte_per_s, last.link_byte_per_s),
        )  # fmt: skip
        if of.linked:
            for pool in of.pools.values():
                pool.tell()
        self._refuse_long()
        self.rule = compiled_rule(of.rule)
        self._loop = address_of(compiled_loop(), handover.RUN_SIGNATURE)
        self._rule = address_of(self.rule, handover.RULE_SIGNATURE)

    def _refuse_long(self) -> None:
        """Requests that the last pool would refuse arrive there."""
        of, world = self.of, self.of.first.world
        total = of.prompt.astype(np.int64) + of.output
        long = total[world.order] > of.last.part.limits.max_context_token
        if not long.any():
            return
        while len(self.between.heap) < 2 * long.sum():
            self.between = handover.roomier(self.between)
        for i in world.order[long]:
            time_ps = int(of.arrival_ps[i]) + int(world.control[at.REQUEST_PS])
            put(self.between.heap, self.between.size, time_ps, handover.NORMAL, handover.REFUSE, int(i))
        of.first.take_order(world.order[~long])

    def advance(self, until_ps: int) -> None:
        """Lets happen what happens up to `until_ps`; plans that are made then are left."""
        of = self.of
        while (code := self._call(until_ps)) != HORIZON:
            if code == handover.GROW:
                self._widen()
            elif code == handover.BAD_RULE:
                left, byte = self.between.real[[handover.SAID_BYTE, handover.SENT_BYTE]].tolist()
                raise sends_too_much(left, byte, str(of.rule.__file__))
            elif code == handover.ASTRAY_THERE:
                of.last.check(code)
            elif code != BUDGET:
                (of.last if self.between.state[handover.SECOND] else of.first).check(code)
            self._keep()

    def is_over(self) -> bool:
        """Whether nobody is on its way, or will be."""
        event = self.between.heap[: int(self.between.size[SIZE])]
        now = self.between.state[handover.NUM_CHANGE]
        void = (event[:, KIND] == handover.ALARM) & (event[:, NUMBER] != now)  # of rates that have changed since
        return bool(void.all())

    def finish(self) -> None:
        """Notes what was moved, and when."""
        of = self.of
        of.transfer_ps = self.between.way["transfer_ps"].copy()
        of.transfer_ps[of.first.world.seq["status"] == at.HELD] = -1  # interrupted on its way
        of.sent_byte = float(self.between.real[handover.SENT_BYTE])
        of.num_meeting = int(self.between.state[handover.NUM_MEETING])

    def there(self, rows: at.Ints) -> at.Ints:
        """The engines that held requests are on their way to."""
        return self.between.way["there"][rows].astype(np.int64)

    def withdraw(self, i: int, now_ps: int) -> None:
        """Request i, which is on its way, does not arrive."""
        self._make_room()
        handover.withdraw(self.of.first.world, self.of.last.world, self.between, self.flow, i, now_ps)

    def depart(self, i: int, k: int, byte: float, now_ps: int) -> None:
        """The KV of request i, `byte` bytes that its engine holds, is sent to engine k of the last pool."""
        self._make_room()
        self.between.real[handover.SENT_BYTE] += byte
        handover.depart(self.of.first.world, self.of.last.world, self.between, self.flow, i, k, byte, now_ps)

    def _make_room(self) -> None:
        """For one meeting more than compiled code has left."""
        least = int(self.between.state[handover.MARGIN]) + 2 * len(self.flow.tag)
        while len(self.between.heap) - self.between.size[SIZE] < least or self.flow.tally[FREE] == 0:
            self._widen()

    def _widen(self) -> None:
        self.between = handover.roomier(self.between)
        self.flow = grown(self.flow, len(self.flow.tag), 2)

    def _call(self, until_ps: int) -> int:
        of = self.of
        sides = of.first.side(), of.last.side()
        try:
            code = handover.hand_over(
                *sides, self._loop, self._rule, self.between, self.flow, BUDGET_MEETING, True, until_ps
            )
        except Exception as error:
            parts = [pool.part for pool in (of.first, of.last)]
            users = [part for part in parts if place.is_users(part.policy) or place.is_users(part.router)]
            if isinstance(error, InputError) or not users or blame.blame(error) is not None:
                raise
            raise place.of_function(blame.describe(error), users[0].policy, users[0].router) from error
        for pool in (of.first, of.last):
            flush(pool.world, pool.logs)
        return int(code)

    def _keep(self) -> None:
        """Rows of requests that have left both pools make room, but while a message of theirs is unheard."""
        first, last = self.of.first, self.of.last
        start, stop = min(first.rows.num_kept, last.rows.num_kept), len(self.of.output)
        if stop - start < STRETCH or max(pool.world.control[at.HANDED_ROOT] for pool in (first, last)) >= 0:
            return
        while start + STRETCH <= stop:
            part = slice(start, start + STRETCH)
            here, there = (pool.world.seq["status"][part] for pool in (first, last))
            # it went on: its last token was not produced here
            stays = (here == at.FINISHED) & (self.of.output[part] > first.world.seq["produced"][part])
            ended = np.isin(there, ENDED) | (np.isin(here, ENDED) & (there == at.FUTURE) & ~stays)
            kept = [pool.rows.keep(start) for pool in (first, last)] if ended.all() else [False]
            if not all(kept):
                return
            start += STRETCH
