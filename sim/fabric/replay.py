"""A graph of operators in simulated time: one process a stream, collectives as flows on shared links.

A stream (compute, copy engine, link engine of a device) runs its operators in order; an operator starts when its stream
is free and its predecessors have ended. Operators with one rendezvous number are the parts of a collective: they start
together and end together, after its flows or after the longest of their durations. Where nothing is shared this gives
the times of `kernels.graph_replay`, which `replay_fast` runs.

A compute operator beside a running collective of its own device may be slowed (see `sim.fabric.overlap`): it progresses
at `1 / slowdown` while that runs.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import simpy

from kernels.errors import InputError
from kernels.fairness import Floats
from kernels.graph_replay import Ints, replay_graph
from kernels.optable import ENGINE_COPY, ENGINE_CPU, ENGINE_LINK, CostTable
from sim.fabric.collectives import Collective, run_collective
from sim.fabric.flows import Fabric
from workloads.graph import GraphIndex

STREAMS: tuple[str, ...] = ("compute", "copy", "link", "cpu")
"""Streams of a device: tensor, vector and memory engines run one operator at a time, the others beside them."""


class Work(NamedTuple):
    """What to replay, an operator a place."""

    graph: GraphIndex
    stream: Ints  # -1: none, it starts when its predecessors have ended
    duration_ps: Ints
    rendezvous: Ints  # -1: none
    name: Callable[[int], str] = str  # of an operator, for messages


class Times(NamedTuple):
    start_ps: Ints
    end_ps: Ints
    link_byte: Floats  # [link] moved; empty without a fabric


def work(
    graph: GraphIndex,
    stream: Sequence[int] | Ints,
    duration_ps: Sequence[int] | Ints,
    rendezvous: Sequence[int] | Ints | None = None,
    name: Callable[[int], str] = str,
) -> Work:
    """Checked arrays: one value an operator, durations at least 0."""
    count = graph.num_predecessor.size
    columns = [np.ascontiguousarray(column, np.int64) for column in (stream, duration_ps)]
    columns.append(np.full(count, -1, np.int64) if rendezvous is None else np.ascontiguousarray(rendezvous, np.int64))
    for field, column in zip(("stream", "duration_ps", "rendezvous"), columns, strict=True):
        if column.shape != (count,):
            raise InputError("one value an operator", field=field, value=column.shape, allowed=f"({count},)")
    if count and columns[1].min() < 0:
        raise InputError("below 0", field="duration_ps", value=int(columns[1].min()))
    return Work(graph, columns[0], columns[1], columns[2], name)


def streams_of(cost: CostTable, device: Sequence[int] | Ints) -> Ints:
    """The stream of every priced operator on its device: `device x len(STREAMS) + stream`.

    Operators of one device that no predecessor orders run in the order of the table.
    """
    place = {ENGINE_COPY: 1, ENGINE_LINK: 2, ENGINE_CPU: 3}
    kind = np.array([place.get(int(engine), 0) for engine in cost["engine"]], np.int64)
    return np.asarray(device, np.int64) * len(STREAMS) + kind


def replay_fast(todo: Work) -> Times:
    """Times from durations alone, by the jitted kernel. Raises `InputError` on deadlock."""
    start, end = np.empty_like(todo.stream), np.empty_like(todo.stream)
    graph = todo.graph
    num_run = replay_graph(
        graph.num_predecessor, graph.successor_start, graph.successor, todo.stream, todo.rendezvous,
        todo.duration_ps, start, end,
    )  # fmt: skip
    if num_run < start.size:
        raise InputError(deadlock(todo, end))
    return Times(start, end, np.zeros(0))


def replay(
    todo: Work,
    collective: Mapping[int, Collective] | None = None,
    link_byte_per_s: Floats | None = None,
    *,
    slowdown: Floats | None = None,
    device: Ints | None = None,
) -> Times:
    """Times with links shared. `collective[rendezvous]` gives flows to a rendezvous, on links of `link_byte_per_s`; one
    without takes the longest duration of its operators.

    `slowdown[op]` (1 or more) holds for an operator while a collective runs on its device; `device[op]` says where it
    is. Raises `InputError` on deadlock, naming who waits for whom.
    """
    return _Replay(todo, collective or {}, link_byte_per_s, slowdown, device).run()


class _Replay:
    """The state of one replay."""

    def __init__(
        self,
        todo: Work,
        collective: Mapping[int, Collective],
        link_byte_per_s: Floats | None,
        slowdown: Floats | None,
        device: Ints | None,
    ) -> None:
        if collective and link_byte_per_s is None:
            raise InputError("collectives need links", field="link_byte_per_s", value=None)
        if slowdown is not None and (device is None or not (slowdown >= 1).all()):
            raise InputError(
                "1 or more, and a device for every operator", field="slowdown", value=float(slowdown.min())
            )
        self.todo, self.collective = todo, collective
        self.env = simpy.Environment()
        self.fabric = Fabric(self.env, link_byte_per_s) if link_byte_per_s is not None else None
        self.slowdown, self.device = slowdown, device
        count = todo.stream.size
        self.start, self.end = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
        self.wait = todo.graph.num_predecessor.astype(np.int64).tolist()
        self.gate: dict[int, simpy.Event] = {}  # operator: what its stream waits for
        self.member: dict[int, list[int]] = {}
        for op in np.flatnonzero(todo.rendezvous >= 0).tolist():
            self.member.setdefault(int(todo.rendezvous[op]), []).append(op)
        self.arrived: dict[int, int] = {}
        self.over: dict[int, simpy.Event] = {number: self.env.event() for number in self.member}
        num_device = int(device.max()) + 1 if device is not None and device.size else 0
        self.busy = [0] * num_device  # collectives that run on a device
        self.changed = [self.env.event() for _ in range(num_device)]

    def run(self) -> Times:
        stream = self.todo.stream
        by_stream: dict[int, list[int]] = {}
        for op, number in enumerate(stream.tolist()):
            if number >= 0:
                by_stream.setdefault(number, []).append(op)
            elif self.wait[op] == 0:
                self.env.process(self._op(op))
        for ops in by_stream.values():
            self.env.process(self._stream(ops))
        self.env.run()
        if (self.end < 0).any():
            raise InputError(deadlock(self.todo, self.end))
        return Times(self.start, self.end, self.fabric.link_byte if self.fabric is not None else np.zeros(0))

    def _stream(self, ops: list[int]) -> Generator[simpy.Event, Any, None]:
        for op in ops:
            if self.wait[op]:
                self.gate[op] = self.env.event()
                yield self.gate[op]
            yield from self._op(op)

    def _op(self, op: int) -> Generator[simpy.Event, Any, None]:
        number = int(self.todo.rendezvous[op])
        if number >= 0:
            self.arrived[number] = self.arrived.get(number, 0) + 1
            if self.arrived[number] == len(self.member[number]):
                self.env.process(self._rendezvous(number))
            yield self.over[number]
        else:
            self.start[op] = self.env.now
            duration = int(self.todo.duration_ps[op])
            if self.slowdown is not None and self.slowdown[op] > 1:
                yield from self._slowed(op, duration)
            elif duration:
                yield self.env.timeout(duration)
        self.end[op] = self.env.now
        self._release(op)

    def _release(self, op: int) -> None:
        graph = self.todo.graph
        for after in graph.successor[graph.successor_start[op] : graph.successor_start[op + 1]].tolist():
            self.wait[after] -= 1
            if self.wait[after] == 0:
                if self.todo.stream[after] < 0:
                    self.env.process(self._op(after))
                elif after in self.gate:
                    self.gate.pop(after).succeed()

    def _rendezvous(self, number: int) -> Generator[simpy.Event, Any, None]:
        members = self.member[number]
        self.start[members] = self.env.now
        self._mark(members, 1)
        if number in self.collective and self.fabric is not None:
            yield from run_collective(self.env, self.fabric, self.collective[number])
        else:
            yield self.env.timeout(int(self.todo.duration_ps[members].max()))
        self._mark(members, -1)
        self.over[number].succeed()

    def _mark(self, members: list[int], step: int) -> None:
        """Collectives on the devices of these operators: one more or one less; tell who is slowed by them."""
        if self.slowdown is None or self.device is None:
            return
        for device in {int(self.device[op]) for op in members}:
            self.busy[device] += step
            if self.busy[device] == max(step, 0):  # the first has come or the last has gone
                self.changed[device].succeed()
                self.changed[device] = self.env.event()

    def _slowed(self, op: int, duration: int) -> Generator[simpy.Event, Any, None]:
        assert self.slowdown is not None
        assert self.device is not None
        device, left = int(self.device[op]), float(duration)
        while left >= 0.5:
            factor = float(self.slowdown[op]) if self.busy[device] else 1.0
            began, need = self.env.now, int(left * factor + 0.5)
            yield self.env.timeout(need) | self.changed[device]
            elapsed = self.env.now - began
            left = 0.0 if elapsed >= need else left - elapsed / factor


def deadlock(todo: Work, end: Ints) -> str:
    """Who waits for whom: from one operator that never ended along what it waits for until one comes again."""
    graph = todo.graph
    source = np.repeat(np.arange(end.size), np.diff(graph.successor_start))
    op = int(np.flatnonzero(end < 0)[0])
    seen: list[int] = []
    while op not in seen:
        seen.append(op)
        op = _awaited(todo, end, op, source)
    waits = [f"{todo.name(a)} waits for {todo.name(b)}" for a, b in zip(seen, [*seen[1:], op], strict=True)]
    return "deadlock: " + ", ".join(waits)


def _awaited(todo: Work, end: Ints, op: int, source: Ints) -> int:
    """An operator that has to end before `op` can: a predecessor, the one before it on its stream, or one that holds
    back another part of its collective."""
    parts = [op]
    if todo.rendezvous[op] >= 0:
        parts += np.flatnonzero(todo.rendezvous == todo.rendezvous[op]).tolist()
    for part in parts:
        before = source[todo.graph.successor == part]
        left = before[end[before] < 0]
        if not left.size and todo.stream[part] >= 0:
            earlier = np.flatnonzero(todo.stream[:part] == todo.stream[part])
            left = earlier[end[earlier] < 0][-1:]
        if left.size:
            return int(left[0])
    return op
