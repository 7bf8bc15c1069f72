"""Flows that share links max-min fairly, in SimPy's time (integer picoseconds).

Rates hold from one change to the next: whenever flows start or end, what has moved is counted and all rates are
filled anew, once an instant however many flows change in it.
"""

from collections.abc import Sequence

import numpy as np
import simpy

from kernels.errors import InputError
from kernels.fairness import Floats, Ints, Routes
from kernels.flows import RUNNING, START, begin, cancel, count_down, fill, flows, grown, move
from kernels.units import PS_PER_S

LAST = 2  # SimPy runs events of one instant by this number: after all that is normal (1)


def pad_routes(routes: Sequence[Sequence[int]]) -> Routes:
    """Lists of links as one array `[flow, hop]`, -1 after the last.

    >>> pad_routes([[3, 1], [2]]).tolist()
    [[3, 1], [2, -1]]
    """
    padded = np.full((len(routes), max(1, max(map(len, routes), default=1))), -1, np.int32)
    for row, links in zip(padded, routes, strict=True):
        row[: len(links)] = links
    return padded


class Fabric:
    """Links with `byte_per_s[link]`; `send` starts flows and gives the event of their end.

    >>> env = simpy.Environment()
    >>> fabric = Fabric(env, np.array([1e12]))  # a byte a picosecond
    >>> first, second = fabric.send([[0]], [30.0]), fabric.send([[0]], [10.0])
    >>> env.run(second); env.now  # both at half rate until 10 B have moved
    20
    >>> env.run(first); env.now
    40
    """

    def __init__(self, env: simpy.Environment, byte_per_s: Floats) -> None:
        if not (np.isfinite(byte_per_s).all() and (byte_per_s > 0).all()):
            raise InputError("links have rates above 0", field="byte_per_s", value=float(np.min(byte_per_s)))
        self.env = env
        self.num_change = 0  # how often rates were filled
        self._flows = flows(np.asarray(byte_per_s, np.float64) / PS_PER_S)
        self._left: Ints = np.zeros(START, np.int64)  # of each batch: flows that have not ended
        self._waiting: dict[int, simpy.Event] = {}  # by batch
        self._free: list[int] = list(range(START))  # numbers of batches
        self._due = False

    @property
    def link_byte(self) -> Floats:
        """Bytes that each link has moved up to the last change."""
        return self._flows.link_byte

    def send(self, route: "Routes | Sequence[Sequence[int]]", byte: Sequence[float] | Floats) -> simpy.Event:
        """Start flows now; the event comes when the last of them has ended. A flow without bytes or links ends at
        once."""
        padded = route if isinstance(route, np.ndarray) else pad_routes(route)
        size: Floats = np.asarray(byte, np.float64)
        done = self.env.event()
        num = -1
        if size.shape == (len(padded),):
            self._flows = grown(self._flows, len(padded), padded.shape[1])
            batch = self._batch()
            num = int(begin(self._flows, padded, size, batch))
        if num < 0:
            raise InputError("one size of at least 0 bytes a flow", field="byte", value=size.tolist()[:8])
        if num == 0:
            self._free.append(batch)
            return done.succeed()
        self._left[batch] = num
        self._waiting[batch] = done
        self._call_change()
        return done

    def cancel(self, done: simpy.Event) -> float:
        """Takes the flows out whose end is this event, which then never comes, and returns the bytes that were left of
        them; 0 where they have ended.

        >>> env = simpy.Environment()
        >>> fabric = Fabric(env, np.array([1e12]))
        >>> first, second = fabric.send([[0]], [30.0]), fabric.send([[0]], [10.0])
        >>> env.run(until=10); fabric.cancel(first)
        25.0
        >>> env.run(second); env.now  # 5 B at half rate, then 5 at the whole of it
        15
        """
        self._advance()
        left = 0.0
        for batch in [batch for batch, event in self._waiting.items() if event is done]:
            while (more := float(cancel(self._flows, batch))) >= 0:
                left += more
            del self._waiting[batch]
            self._free.append(batch)
            self._call_change()
        return left

    def rates_byte_per_s(self) -> Floats:
        """Rates of the running flows, in the order in which they started."""
        return self._flows.rate[self._flows.active[: self._flows.tally[RUNNING]]] * PS_PER_S

    def _batch(self) -> int:
        """A number that no running batch has."""
        if not self._free:
            old = len(self._left)
            self._left = np.concatenate([self._left, np.zeros(old, np.int64)])
            self._free += range(old, 2 * old)
        return self._free.pop()

    def _call_change(self) -> None:
        if not self._due:
            self._due = True
            event = self.env.event()
            event._ok, event._value = True, None
            event.callbacks.append(self._change)
            self.env.schedule(event, priority=LAST)

    def _advance(self) -> None:
        """Count what has moved since the last change, and end what has ended."""
        num = move(self._flows, int(self.env.now))
        if num:
            for batch in self._flows.ended[: count_down(self._flows.ended[:num], self._left)].tolist():
                self._waiting.pop(batch).succeed()
                self._free.append(batch)

    def _change(self, _: simpy.Event) -> None:
        """Fill all rates and set the alarm of the next end."""
        self._due = False
        self._advance()
        until_end = fill(self._flows)
        if until_end < 0:
            return
        self.num_change += 1
        change = self.num_change
        alarm = self.env.timeout(until_end)
        alarm.callbacks.append(lambda _: self._end(change))

    def _end(self, change: int) -> None:
        """The alarm: ends flows, unless the rates have changed since it was set."""
        if change == self.num_change:
            self._advance()
            self._call_change()
