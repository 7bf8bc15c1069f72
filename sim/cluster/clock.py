"""Pools on SimPy's clock: arrivals, hand-overs and transfers are its events; between them engines run ahead.

A pool that hands over runs to the next event of the clock or to its first hand-over, whichever is earlier, so that no
engine is past what could still reach it; a pool that only receives is brought up to a delivery when it happens. Where
requests wait for others' ends, no pool passes what the other does next. For policies, routers and rules in plain
Python, and the oracle of `kernels.engine.handover`, which does the same to the tick.
"""

import heapq
from typing import TYPE_CHECKING, Any

import numpy as np
import simpy

from kernels.engine import records as at
from kernels.engine.handover import next_act, room_ps
from kernels.engine.heap import NEVER
from kernels.engine.party import give_back, next_message, send
from kernels.engine.price import HOST_REQUEST
from kernels.errors import InputError
from kernels.units import FOREVER_PS, PS_PER_S
from sim.cluster.transfer_rule import rule_of
from sim.fabric.flows import Fabric

if TYPE_CHECKING:
    from sim.cluster.world import Cluster

FIRST, ARRIVE = 0, 2  # SimPy's order of events of one instant: requests leave before the rest, and arrive after it


class Clock:
    """One run of a `Cluster`, event by event."""

    def __init__(self, cluster: "Cluster") -> None:
        self.of, self.env = cluster, simpy.Environment(initial_time=0)
        self.first, self.last = cluster.first, cluster.last
        self.rule = rule_of(cluster.rule)
        self.fabric = None if cluster.links is None else Fabric(self.env, cluster.links)
        self.host_ps = int(self.first.part.price.host_ps[HOST_REQUEST])
        self.linked = cluster.linked
        self.coming = [(int(cluster.arrival_ps[i]), int(i)) for i in np.flatnonzero(cluster.parent < 0)]
        heapq.heapify(self.coming)
        self.due_ps: set[int] = set()
        self.heard: list[tuple[int, int, bool]] = []  # who leaves a pool: when, and whether it is the first of two

    def run(self) -> None:
        """Serves everything."""
        self._expect_arrival()
        while True:
            peek = self.env.peek()
            now_ps = FOREVER_PS if peek == float("inf") else int(peek)
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
            elif now_ps == FOREVER_PS:
                break
            else:
                self.env.step()
                self.of.num_meeting += 1
        for pool in (self.first, self.last):
            pool.advance(FOREVER_PS)

    def _next_first(self) -> int:
        when = int(next_act(self.first.world))
        return min(when, 2 * (self.coming[0][0] + self.host_ps)) if self.coming else when

    def _expect_arrival(self) -> None:
        if self.coming:
            time_ps = max(self.coming[0][0] + self.host_ps, int(self.env.now))
            if time_ps not in self.due_ps:
                self.due_ps.add(time_ps)
                event = self.env.event()
                event._ok, event._value = True, None
                event.callbacks.append(lambda _: self._arrive())
                self.env.schedule(event, priority=ARRIVE, delay=time_ps - int(self.env.now))

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
            send(self.first.world, i, self.first.route(i), now_ps)
        self._expect_arrival()

    def _hear(self, pool: Any) -> None:
        """The next message of a pool becomes an event of the clock, before all others of that instant."""
        i = int(next_message(pool.world))
        time_ps = int(pool.world.seq["end_ps"][i])
        heapq.heappush(self.heard, (time_ps, i, pool is self.first and self.fabric is not None))
        event = self.env.event()
        event._ok, event._value = True, None
        event.callbacks.append(lambda _: self._next_leaves())
        self.env.schedule(event, priority=FIRST, delay=time_ps - int(self.env.now))

    def _next_leaves(self) -> None:
        """Who leaves now: of several the first by number, whichever engine was asked first."""
        _, i, hands_over = heapq.heappop(self.heard)
        if hands_over:
            self.env.process(self._leave(i))
        else:
            self._release(i)

    def _release(self, i: int) -> None:
        """Request i has left: those that wait for its end arrive after their think time."""
        if not self.linked:
            return
        seq, child = self.first.world.seq, int(self.of.child[i])
        while child >= 0:
            time_ps = max(int(seq["arrival_ps"][child]), int(self.env.now) + int(seq["think_ps"][child]))
            seq["arrival_ps"][child] = time_ps
            heapq.heappush(self.coming, (time_ps, child))
            child = int(self.of.sibling[child])
        self._expect_arrival()

    def _leave(self, i: int) -> Any:
        """Request i leaves the first pool: its KV is handed over."""
        s, of = self.first.world.seq[i], self.of
        held = s["status"] == at.HELD
        if not held or of.output[i] == 1:  # refused or given up; or its only token is produced
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
        begun_ps = int(self.env.now)
        self.last.advance(begun_ps)
        there = self.last.world.seq[i]
        there["arrival_ps"] = s["arrival_ps"]
        k = self.last.route(i)
        self._expect(k, int(s["kv"]), 1)
        if of.latency_ps:
            yield self.env.timeout(of.latency_ps)
        assert self.fabric is not None
        yield self.fabric.send([[int(s["replica"]), self.first.num_engine + k]], [left])
        now_ps = int(self.env.now)
        of.transfer_ps[i] = now_ps - begun_ps
        give_back(self.first.world, i, now_ps)
        self.last.advance(now_ps)
        self._expect(k, int(s["kv"]), -1)
        there["first_ps"] = there["last_ps"] = s["first_ps"]
        there["start_ps"] = s["start_ps"]
        there["produced"] = 1
        send(self.last.world, i, k, now_ps)

    def _expect(self, k: int, token: int, sign: int) -> None:
        """What is on its way to engine k counts there, for the router."""
        me = self.last.world.engine
        me["outstanding"][k] += sign
        me["load_token"][k] += sign * token


def sends_too_much(left: float, byte: float, file: str) -> InputError:
    """What is said of a rule, in `file`, that leaves more to be sent than there is, or less than nothing."""
    return InputError("is no share of what there is to send", file=file, field="left_byte", value=float(left),
                      allowed=f"0 to {byte:.0f} bytes")  # fmt: skip
