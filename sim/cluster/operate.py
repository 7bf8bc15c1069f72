"""A pool in operation: engines are started, drained, lost and replaced by processes of SimPy's clock.

Between two events of the clock the compiled loop runs ahead, arrivals and routing included; a router sees an engine
that takes no requests as endlessly busy, and what it sends there goes to the next that takes any
(`kernels.engine.down`). Requests of a failed engine reach another at that moment and are computed again from prompt and
produced tokens.
"""

import dataclasses
from typing import Any

import numpy as np
import simpy

from kernels.engine.down import resend, taking
from kernels.engine.party import next_arrival
from kernels.units import FOREVER_PS, PS_PER_S
from sim.cluster.operated_pool import Again, OperatedPool
from sim.cluster.operation import Operation
from sim.cluster.pool import Pool, PoolPart
from sim.serving import state
from sim.serving.limits import Options
from sim.serving.result import ServeResult


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
        self.env = simpy.Environment(initial_time=0)
        self.pool = Pool(part, requests, options or Options(), places=True)
        self.operated = OperatedPool(self.env, self.pool, operation, weight_byte, load_byte_per_s, self._lose)

    def run(self) -> Operated:
        """Serves everything, or what is done until an interrupt."""
        self.operated.begin()
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
            if int(next_arrival(self.pool.world)) < 0 and not self.pool.world.engine["outstanding"].any():
                return
            if until_ps == FOREVER_PS:
                return
            if self.operated.is_idle():
                raise self.operated.stuck()
            self.env.step()

    def _lose(self, operated: OperatedPool, k: int) -> Again:
        lost = operated.take_down(k)

        def again() -> int:
            for i, produced in lost:
                target = int(taking(self.pool.world, self.pool.route(i)))
                resend(self.pool.world, i, target, operated.now_ps, produced)
            return len(lost)

        return again

    def _result(self, complete: bool) -> Operated:
        of = self.operated
        of.finish(int(max(self.pool.world.seq["end_ps"].max(initial=0), 1)))
        done = self.pool.result(complete)
        return Operated(done, of.event, of.paid_ps / PS_PER_S, of.num_resent, of.load_ps / PS_PER_S)
