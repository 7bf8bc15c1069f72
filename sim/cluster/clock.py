"""Pools on SimPy's clock: arrivals, hand-overs and transfers are its events; between them engines run ahead.

A pool that hands over runs to the next event of the clock or to its first hand-over, whichever is earlier, so that no
engine is past what could still reach it; a pool that only receives is brought up to a delivery when it happens. Where
requests wait for others' ends, no pool passes what the other does next. For policies, routers and rules in plain
Python, and the oracle of `kernels.engine.handover`, which does the same to the tick.
"""

import dataclasses
import heapq
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import simpy

from kernels.engine import records as at
from kernels.engine.down import open_ps, taking
from kernels.engine.handover import next_act, room_ps
from kernels.engine.heap import NEVER
from kernels.engine.party import give_back, next_message, send
from kernels.engine.price import HOST_REQUEST
from kernels.errors import InputError
from kernels.units import FOREVER_PS, PS_PER_S
from sim.cluster.transfer_rule import rule_of
from sim.fabric.flows import Fabric
from sim.serving.result import Ints

if TYPE_CHECKING:
    from sim.cluster.world import Cluster

FIRST, NORMAL, ARRIVE, REST = range(4)
"""SimPy's order of events of one instant: requests leave before the rest, and arrive after it."""


@dataclasses.dataclass(eq=False)
class OnItsWay:
    """A request between the pools."""

    there: int  # engine of the last pool
    left_byte: float  # to be moved over the links
    begun_ps: int
    done: simpy.Event | None = None  # where it has taken to the links


class Clock:
    """One run of a `Cluster`, event by event."""

    def __init__(self, cluster: "Cluster") -> None:
        self.of, self.env = cluster, simpy.Environment(initial_time=0)
        self.first, self.last = cluster.first, cluster.last
        self.rule = rule_of(cluster.rule)
        self.fabric = None if cluster.links is None else Fabric(self.env, cluster.links)
        self.host_ps = int(self.first.part.price.host_ps[HOST_REQUEST])
        self.linked = cluster.linked
        self.coming = [(int(cluster.arrival_ps[i]), int(i)) for i in cluster.begin]
        self.gate = cluster.gate  # one above the next request that a cap on concurrency holds back; 0: none
        heapq.heapify(self.coming)
        self.due_ps: set[int] = set()
        self.heard: list[tuple[int, int, bool]] = []  # who leaves a pool: when, and whether it is the first of two
        self.way: dict[int, OnItsWay] = {}  # by request
        self._expect_arrival()

    def advance(self, horizon_ps: int) -> None:
        """Lets happen what happens up to `horizon_ps`; plans that are made then are left."""
        while True:
            peek = self.env.peek()
            event_ps = FOREVER_PS if peek == float("inf") else int(peek)
            now_ps = min(event_ps, horizon_ps)
            mine = other = NEVER
            if self.linked and self.fabric is not None:
                mine, other = self._next_first(), int(next_act(self.last.world))
            if other < mine and (other >> 1) + (other & 1) <= now_ps:
                if self.last.advance(int(room_ps(other, mine, now_ps))):
                    self._hear(self.last)
                continue
            until_ps = int(room_ps(mine, other, now_ps))
            if (self.fabric is not None or self.linked) and self.first.advance(until_ps):
                self._hear(self.first)
            elif until_ps < now_ps:
                continue
            elif now_ps == FOREVER_PS or event_ps > horizon_ps:
                break
            else:
                self.env.step()
                self.of.num_meeting += 1
        for pool in (self.first, self.last):
            pool.advance(horizon_ps)
        if horizon_ps < FOREVER_PS:
            self._call(lambda: None, REST, horizon_ps)
            self.env.step()

    def is_over(self) -> bool:
        """Whether nobody is on its way, or arrives."""
        return not (self.way or self.coming or self.heard)

    def there(self, rows: Ints) -> Ints:
        """The engines that held requests are on their way to."""
        return np.array([self.way[int(i)].there for i in rows], np.int64)

    def withdraw(self, i: int, now_ps: int) -> None:
        """Request i, which is on its way, does not arrive."""
        way = self.way.pop(i)
        self.of.sent_byte -= way.left_byte if way.done is None else self._fabric().cancel(way.done)
        self._expect(way.there, int(self.first.world.seq["kv"][i]), -1)

    def depart(self, i: int, k: int, byte: float, now_ps: int) -> None:
        """The KV of request i, `byte` bytes that its engine holds, is sent to engine k of the last pool."""
        self.of.sent_byte += byte
        self._depart(i, k, byte)

    def finish(self) -> None:
        """What was moved, and when, is noted as it happens."""

    def _fabric(self) -> Fabric:
        assert self.fabric is not None
        return self.fabric

    def _call(self, what: Callable[[], None], rank: int, time_ps: int) -> None:
        """Does `what` at a time, among what happens then by its rank."""
        event = self.env.event()
        event._ok, event._value = True, None
        event.callbacks.append(lambda _: what())
        self.env.schedule(event, priority=rank, delay=time_ps - int(self.env.now))

    def _next_first(self) -> int:
        when = int(next_act(self.first.world))
        return min(when, 2 * (self.coming[0][0] + self.host_ps)) if self.coming else when

    def _expect_arrival(self) -> None:
        if self.coming:
            time_ps = max(self.coming[0][0] + self.host_ps, int(self.env.now))
            if time_ps not in self.due_ps:
                self.due_ps.add(time_ps)
                self._call(self._arrive, ARRIVE, time_ps)

    def _arrive(self) -> None:
        now_ps = int(self.env.now)
        self.due_ps.discard(now_ps)
        while self.coming and self.coming[0][0] + self.host_ps <= now_ps:
            _, i = heapq.heappop(self.coming)
            if self.fabric is None:
                self.first.advance(now_ps)
            if self.fabric is not None and self.of.is_too_long(i):
                self.last.advance(now_ps)
                self.last.world.seq["arrival_ps"][i] = self.first.world.seq["arrival_ps"][i]
                send(self.last.world, i, 0, now_ps)  # which refuses it before anything is computed
                continue
            send(self.first.world, i, int(taking(self.first.world, self.first.route(i))), now_ps)
        self._expect_arrival()

    def _hear(self, pool: Any) -> None:
        """The next message of a pool becomes an event of the clock, before all others of that instant."""
        i = int(next_message(pool.world))
        time_ps = int(pool.world.seq["end_ps"][i])
        heapq.heappush(self.heard, (time_ps, i, pool is self.first and self.fabric is not None))
        self._call(self._next_leaves, FIRST, time_ps)

    def _next_leaves(self) -> None:
        """Who leaves now: of several the first by number, whichever engine was asked first."""
        _, i, hands_over = heapq.heappop(self.heard)
        if hands_over:
            self._leave(i)
        else:
            self._release(i)

    def _release(self, i: int) -> None:
        """Request i has left: those that wait for its end arrive after their think time; where none does, who waits at
        the gate of a cap on concurrency."""
        if not self.linked:
            return
        seq, now_ps, child = self.first.world.seq, int(self.env.now), int(self.of.child[i])
        if child < 0 and self.gate > 0:
            first = self.gate - 1
            self.gate = int(self.of.sibling[first]) + 1
            self._come(first, now_ps)
        while child >= 0:
            self._come(child, now_ps + int(seq["think_ps"][child]))
            child = int(self.of.sibling[child])
        self._expect_arrival()

    def _come(self, i: int, time_ps: int) -> None:
        """Request i arrives, not before a time."""
        seq = self.first.world.seq
        seq["arrival_ps"][i] = time_ps = max(int(seq["arrival_ps"][i]), time_ps)
        heapq.heappush(self.coming, (time_ps, i))

    def _leave(self, i: int) -> None:
        """Request i leaves the first pool: its KV is handed over."""
        s, of = self.first.world.seq[i], self.of
        held = s["status"] == at.HELD
        if not held or of.output[i] == s["produced"]:  # refused or given up; or its last token is produced
            if held:
                give_back(self.first.world, i, int(self.env.now))
            self._release(i)
            return
        part = self.first.part
        byte = part.kv_token_byte * int(s["kv"]) + part.state_byte
        rate = min(part.link_byte_per_s, self.last.part.link_byte_per_s)
        left = self.rule(byte, part.num_layer, int(s["step_ps"]) / PS_PER_S, rate)
        if not 0 <= left <= byte:
            raise sends_too_much(left, byte, self.rule.__code__.co_filename)
        of.sent_byte += byte
        self.last.advance(int(self.env.now))
        there = self.last.world.seq[i]
        there["arrival_ps"] = s["arrival_ps"]
        self._depart(i, int(taking(self.last.world, self.last.route(i))), left)

    def _depart(self, i: int, k: int, left_byte: float) -> None:
        now_ps = int(self.env.now)
        self._expect(k, int(self.first.world.seq["kv"][i]), 1)
        self.way[i] = way = OnItsWay(k, left_byte, now_ps)
        self.of.transfer_ps[i] = -1
        begin_ps = max(now_ps + self.of.latency_ps, int(open_ps(self.last.world, k, now_ps)))
        if begin_ps > now_ps:
            self._call(lambda: self._take_off(i, way), NORMAL, begin_ps)
        else:
            self._take_off(i, way)

    def _take_off(self, i: int, way: "OnItsWay") -> None:
        """The transfer of request i takes to the links, unless it has been withdrawn."""
        if self.way.get(i) is way:
            route = [int(self.first.world.seq["replica"][i]), self.first.num_engine + way.there]
            way.done = self._fabric().send([route], [way.left_byte])
            way.done.callbacks.append(lambda _: self._land(i, way))

    def _land(self, i: int, way: "OnItsWay") -> None:
        """The KV of request i is where it will be decoded."""
        if self.way.get(i) is not way:
            return
        del self.way[i]
        now_ps, s, there = int(self.env.now), self.first.world.seq[i], self.last.world.seq[i]
        self.of.transfer_ps[i] = now_ps - way.begun_ps
        give_back(self.first.world, i, now_ps)
        self.last.advance(now_ps)
        self._expect(way.there, int(s["kv"]), -1)
        for name in ("start_ps", "first_ps", "last_ps", "produced"):
            there[name] = s[name]
        send(self.last.world, i, way.there, now_ps)

    def _expect(self, k: int, token: int, sign: int) -> None:
        """What is on its way to engine k counts there, for the router."""
        me = self.last.world.engine
        me["outstanding"][k] += sign
        me["load_token"][k] += sign * token


def sends_too_much(left: float, byte: float, file: str) -> InputError:
    """What is said of a rule, in `file`, that leaves more to be sent than there is, or less than nothing."""
    return InputError("is no share of what there is to send", file=file, field="left_byte", value=float(left),
                      allowed=f"0 to {byte:.0f} bytes")  # fmt: skip
