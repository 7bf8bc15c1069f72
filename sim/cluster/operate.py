"""A pool in operation: engines are started, drained, lost and replaced by processes of SimPy's clock.

Between two events of the clock the compiled loop runs ahead, arrivals and routing included; a router sees an engine
that takes no requests as endlessly busy, and what it sends there goes to the next that takes any
(`kernels.engine.down`). Requests of a failed engine reach another at that moment and are computed again from prompt and
produced tokens. Of one whose machine is called back they may go to others with their KV before it is gone.
"""

import dataclasses
import functools
from typing import Any

import numpy as np
import simpy

from kernels.engine.down import resend, taking
from kernels.engine.party import next_arrival
from kernels.units import FOREVER_PS, PS_PER_S
from sim.cluster.moving import Moves
from sim.cluster.operated_pool import Again, OperatedPool
from sim.cluster.operation import Operation
from sim.cluster.pool import Pool, PoolPart
from sim.serving import state
from sim.serving.limits import Options
from sim.serving.result import ServeResult

STREAM = 0x0B  # of the draws of failures


@dataclasses.dataclass(frozen=True, eq=False)
class Operated:
    """What came of requests, and of engines: what happened when, and for how long each was paid."""

    result: ServeResult
    event: list[tuple[float, int, str]]  # seconds, engine, what
    paid_s: np.ndarray[Any, np.dtype[np.float64]]  # of each engine
    num_resent: int
    load_s: float  # of an engine's weights, alone
    num_moved: int = 0  # requests that went on elsewhere with their KV
    moved_byte: float = 0.0  # of that KV; of what did not arrive too, up to then


class Operator:
    """One run of a pool that is operated; `weight_byte` is what an engine loads. Pools of unlike `number` lose
    their machines at times of their own."""

    def __init__(
        self, requests: state.Requests, part: PoolPart, operation: Operation, weight_byte: float,
        load_byte_per_s: float, options: Options | None = None, number: int = 0,
    ) -> None:  # fmt: skip
        self.env = simpy.Environment(initial_time=0)
        self.pool = Pool(part, requests, options or Options(), places=True)
        self.moves = Moves(self.env, self.pool) if operation.spot_move_s else None
        moving: dict[str, Any] = {"stream": STREAM + (number << 8)}
        if self.moves is not None:
            moving |= {"move": functools.partial(self._move, self.moves), "leaving": self.moves.out_of}
        self.operated = OperatedPool(self.env, self.pool, operation, weight_byte, load_byte_per_s, self._lose, **moving)

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
            if self.operated.is_idle() and not (self.moves and self.moves.way):
                raise self.operated.stuck()
            self.env.step()

    def _lose(self, operated: OperatedPool, k: int) -> Again:
        moves, seq = self.moves, self.pool.world.seq
        cut = [] if moves is None else [(i, moves.withdraw(i).produced) for i in moves.out_of(k)]
        turned = [] if moves is None else [(i, moves.withdraw(i)) for i in moves.into(k)]
        seq["preempted"][[i for i, _ in cut]] += 1
        lost = operated.take_down(k) + cut

        def again() -> int:
            self._begin_again(lost)
            for i, move in turned:  # its KV is still where it was
                assert moves is not None
                self._depart(moves, i, move.source, move.produced, move.token)
            return len(lost)

        return again

    def _begin_again(self, rows: list[tuple[int, int]]) -> None:
        """Requests that no engine has are computed again, from prompts and produced tokens."""
        for i, produced in rows:
            target = int(taking(self.pool.world, self.pool.route(i)))
            resend(self.pool.world, i, target, self.operated.now_ps, produced)

    def _move(self, moves: Moves, operated: OperatedPool, k: int) -> None:
        """Engine k, whose machine is called back, keeps nobody: who decodes goes to another with its KV, and so does
        who was on the way to it; who has still to be computed begins again there. The step that it is in is lost."""
        turned = [(i, moves.withdraw(i)) for i in moves.into(k)]
        whole = moves.whole(k)
        left = operated.leave(k)
        self.pool.world.seq["preempted"][list(whole)] -= 1  # nothing of them is computed again
        begun = [(i, produced) for i, produced in left if i not in whole]
        self._begin_again(begun)
        operated.num_resent += len(begun)
        for i, produced in left:
            if i in whole:
                self._depart(moves, i, k, produced, whole[i])
        for i, move in turned:
            self._depart(moves, i, move.source, move.produced, move.token)

    def _depart(self, moves: Moves, i: int, source: int, produced: int, token: int) -> None:
        """KV goes to an engine that is up; where none is, it is computed again."""
        target = int(taking(self.pool.world, self.pool.route(i)))
        if self.pool.world.engine[target]["down"]:
            self.pool.world.seq["preempted"][i] += 1
            self._begin_again([(i, produced)])
            self.operated.num_resent += 1
        else:
            moves.depart(i, source, target, produced, token)

    def _result(self, complete: bool) -> Operated:
        of = self.operated
        of.finish(int(max(self.pool.world.seq["end_ps"].max(initial=0), 1)))
        done = self.pool.result(complete)
        return Operated(done, of.event, of.paid_ps / PS_PER_S, of.num_resent, of.load_ps / PS_PER_S,
                        *((self.moves.num_moved, self.moves.moved_byte) if self.moves else ()))  # fmt: skip
