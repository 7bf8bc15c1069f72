"""Flows that share links max-min fairly, in SimPy's time (integer picoseconds).

Rates hold from one change to the next: whenever flows start or end, what has moved is counted and all rates are
filled anew, once an instant however many flows change in it.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import simpy

from kernels.errors import InputError
from kernels.fairness import Floats, Ints, Routes, advance, max_min_rates, next_end, scratch
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
        self.link_byte: Floats = np.zeros(byte_per_s.size)  # moved up to the last change
        self.num_change = 0  # how often rates were filled
        self._capacity = np.asarray(byte_per_s, np.float64) / PS_PER_S
        self._space = scratch(byte_per_s.size)
        self._route: Routes = np.full((0, 1), -1, np.int32)
        self._left: Floats = np.zeros(0)
        self._rate: Floats = np.zeros(0)
        self._batch: Ints = np.zeros(0, np.int64)
        self._flow: Ints = np.zeros(0, np.int64)  # running, as rows of the arrays above
        self._free: list[int] = []
        self._new: list[int] = []
        self._waiting: dict[int, tuple[simpy.Event, int]] = {}  # batch: its event and how many flows are left
        self._num_batch = 0
        self._since = 0
        self._due = False

    def send(self, route: "Routes | Sequence[Sequence[int]]", byte: Sequence[float] | Floats) -> simpy.Event:
        """Start flows now; the event comes when the last of them has ended. A flow without bytes or links ends at
        once."""
        padded = route if isinstance(route, np.ndarray) else pad_routes(route)
        size: npt.NDArray[np.float64] = np.asarray(byte, np.float64)
        if size.shape != (len(padded),) or not (size >= 0).all():
            raise InputError("one size of at least 0 bytes a flow", field="byte", value=size.tolist()[:8])
        done = self.env.event()
        real = np.flatnonzero((size > 0) & (padded[:, 0] >= 0))
        if not real.size:
            return done.succeed()
        rows = self._rows(real.size, padded.shape[1])
        self._route[rows] = -1
        self._route[rows, : padded.shape[1]] = padded[real]
        self._left[rows] = size[real]
        self._batch[rows] = self._num_batch
        self._waiting[self._num_batch] = done, real.size
        self._num_batch += 1
        self._new += rows.tolist()
        self._call_change()
        return done

    def rates_byte_per_s(self) -> Floats:
        """Rates of the running flows, in the order in which they started."""
        return self._rate[self._flow] * PS_PER_S

    def _rows(self, count: int, num_hop: int) -> Ints:
        """Free rows of the flow arrays, which grow as needed."""
        short = count - len(self._free)
        old, width = self._route.shape
        if short > 0 or num_hop > width:
            size = old + max(short, old, 64) if short > 0 else old
            route = np.full((size, max(width, num_hop)), -1, np.int32)
            route[:old, :width] = self._route
            self._route = route
            self._left, self._rate = np.resize(self._left, size), np.resize(self._rate, size)
            self._batch = np.resize(self._batch, size)
            self._free += range(size - 1, old - 1, -1)
        return np.array([self._free.pop() for _ in range(count)], np.int64)

    def _call_change(self) -> None:
        if not self._due:
            self._due = True
            event = self.env.event()
            event._ok, event._value = True, None
            event.callbacks.append(self._change)
            self.env.schedule(event, priority=LAST)

    def _advance(self) -> None:
        """Count what has moved since the last change, and end what has ended."""
        elapsed = self.env.now - self._since
        self._since = int(self.env.now)
        ended = advance(self._route, self._flow, self._rate, self._left, float(elapsed), self.link_byte)
        if ended:
            over = self._left[self._flow] <= 0
            rows = self._flow[over]
            self._flow = self._flow[~over]
            self._free += rows[::-1].tolist()
            for batch, count in zip(*np.unique(self._batch[rows], return_counts=True), strict=True):
                done, left = self._waiting.pop(int(batch))
                if left > count:
                    self._waiting[int(batch)] = done, left - int(count)
                else:
                    done.succeed()

    def _change(self, _: simpy.Event) -> None:
        """Fill all rates and set the alarm of the next end."""
        self._due = False
        self._advance()
        if self._new:
            self._flow = np.concatenate([self._flow, np.array(self._new, np.int64)])
            self._new = []
        if not self._flow.size:
            return
        self.num_change += 1
        max_min_rates(self._route, self._flow, self._capacity, self._rate, self._space)
        change = self.num_change
        alarm = self.env.timeout(next_end(self._flow, self._rate, self._left))
        alarm.callbacks.append(lambda _: self._end(change))

    def _end(self, change: int) -> None:
        """The alarm: ends flows, unless the rates have changed since it was set."""
        if change == self.num_change:
            self._advance()
            self._call_change()
