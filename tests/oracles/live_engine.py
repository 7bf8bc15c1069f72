"""A slow twin of live programs: one engine as a SimPy process that plans, computes and commits token by token.

First come, first served; a step of at most `max_token` tokens and `max_seq` sequences, decodes and begun prompts before
new ones; memory without end, no prefix cache, no host time. Programs are the same generators, given `TwinProgram`.
"""

import dataclasses
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import simpy

LAST = 2  # SimPy runs events of one instant by this number: after programs have heard of ends (1)


@dataclasses.dataclass(eq=False)
class TwinRequest:
    """As `sim.cluster.live.Request`, with what the engine knows of it."""

    index: int
    prompt: int
    output: int
    done: simpy.Event
    computed: int = 0
    produced: int = 0
    served: bool = False
    stopped: bool = False
    end_ps: int = -1


@dataclasses.dataclass(eq=False)
class TwinStream:
    """As `sim.cluster.live.Stream`."""

    token: int

    def fork(self) -> "TwinStream":
        return TwinStream(self.token)


class TwinProgram:
    """As `sim.cluster.live.Program`."""

    def __init__(self, twin: "Twin", index: int, seed: int) -> None:
        self.twin, self.random = twin, np.random.default_rng(np.random.SeedSequence((seed, index)))
        self.note: dict[str, float] = {}
        self.remaining = 0

    def stream(self, token: int) -> TwinStream:
        return TwinStream(token)

    def ask(self, output: int, *, prompt: int = 0, stream: TwinStream | None = None, suffix: int = 0) -> TwinRequest:
        length = prompt if stream is None else stream.token + suffix
        if stream is not None and not suffix:
            stream.token += output
        return self.twin.ask(length, output)

    def stop(self, request: TwinRequest) -> None:
        request.stopped = request.end_ps < 0
        self.twin.wake()

    def all_of(self, events: list[simpy.Event]) -> simpy.Event:
        return self.twin.env.all_of(events)

    def any_of(self, events: list[simpy.Event]) -> simpy.Event:
        return self.twin.env.any_of(events)


class Twin:
    """The run. `step_ps(tokens)` prices a step."""

    def __init__(self, step_ps: Callable[[int], int], max_token: int, max_seq: int) -> None:
        self.env = simpy.Environment(initial_time=0)
        self.step_ps, self.max_token, self.max_seq = step_ps, max_token, max_seq
        self.request: list[TwinRequest] = []
        self.waiting: list[TwinRequest] = []
        self.running: list[TwinRequest] = []
        self._bell = self.env.event()

    def ask(self, prompt: int, output: int) -> TwinRequest:
        found = TwinRequest(len(self.request), prompt, output, self.env.event())
        self.request.append(found)
        self.waiting.append(found)
        self.wake()
        return found

    def wake(self) -> None:
        if not self._bell.triggered:
            self._bell.succeed()

    def run(self, bodies: list[Callable[[Any], Generator[Any, Any, None]]], arrival_ps: list[int], seed: int) -> None:
        """Runs everything to its end."""

        def life(k: int) -> Generator[Any, Any, None]:
            yield self.env.timeout(arrival_ps[k])
            yield from bodies[k](TwinProgram(self, k, seed))

        lives = [self.env.process(life(k)) for k in range(len(bodies))]
        self.env.process(self._engine())
        self.env.run(self.env.all_of(lives))

    def _engine(self) -> Generator[Any, Any, None]:
        while True:
            yield self._after_all()
            plan = self._plan()
            if not plan:
                self._bell = self.env.event()
                yield self._bell
                continue
            yield self.env.timeout(self.step_ps(sum(token for _, token in plan)))
            for one, token in plan:
                one.computed += token
                if one.computed >= one.prompt + one.produced:
                    one.produced += 1
                if one.produced == one.output:
                    self._end(one, True)

    def _after_all(self) -> simpy.Event:
        event = self.env.event()
        event._ok, event._value = True, None
        self.env.schedule(event, priority=LAST)
        return event

    def _plan(self) -> list[tuple[TwinRequest, int]]:
        for one in [one for one in self.running if one.stopped]:
            self._end(one, False)
        left, plan = self.max_token, []
        for one in self.running:
            token = min(one.prompt + one.produced - one.computed, left)
            if token > 0:
                plan.append((one, token))
                left -= token
        while self.waiting and left > 0 and len(self.running) < self.max_seq:
            if self.waiting[0].stopped:
                self._end(self.waiting[0], False)
                continue
            one = self.waiting.pop(0)
            self.running.append(one)
            token = min(one.prompt, left)
            plan.append((one, token))
            left -= token
        if self.waiting and self.waiting[0].stopped:
            self._end(self.waiting[0], False)
        return plan

    def _end(self, one: TwinRequest, served: bool) -> None:
        one.served, one.end_ps = served, int(self.env.now)
        (self.running if one in self.running else self.waiting).remove(one)
        one.done.succeed(one)
