"""Requests that go from one engine of a pool to another with their KV, over the links of both."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import simpy

from kernels.engine import records as at
from kernels.engine.down import settle
from kernels.engine.party import send
from kernels.errors import InputError
from sim.cluster.pool import Pool
from sim.fabric.flows import Fabric

WHOLE = (at.RUNNING, at.SWAPPED, at.HANDED)  # who may have the KV of all but its last token


@dataclasses.dataclass(eq=False)
class Move:
    """A request between two engines: the tokens that it has produced, and those whose KV goes."""

    source: int
    there: int
    produced: int
    token: int
    done: simpy.Event


class Moves:
    """What is on its way between engines of `pool`. Each has a link out and one into it of `link_byte_per_s`, which
    flows share max-min fairly."""

    def __init__(self, env: simpy.Environment, pool: Pool) -> None:
        if "reserve" in (policy := pool.part.policy).value:
            raise InputError("KV is moved in pages", field="policy", value=policy.name,
                             allowed="a policy without reservations, where spot_move_s is said")  # fmt: skip
        self.env, self.pool = env, pool
        self.fabric = Fabric(env, np.full(2 * pool.num_engine, pool.part.link_byte_per_s))
        self.way: dict[int, Move] = {}  # by request
        self.moved_byte = 0.0
        self.num_moved = 0

    def whole(self, k: int) -> dict[int, int]:
        """Requests of engine k that decode, and the tokens whose KV they have there."""
        world, now_ps = self.pool.world, int(self.env.now)
        settle(world, k, now_ps)
        seq = world.seq
        here = (seq["replica"] == k) & np.isin(seq["status"], WHOLE) & (seq["produced"] > 0)
        rows = np.flatnonzero(here & (seq["kv"] == seq["prompt"] + seq["produced"] - 1))
        return {int(i): int(seq["kv"][i]) for i in rows}

    def depart(self, i: int, source: int, there: int, produced: int, token: int) -> None:
        """The KV of request i, which no engine has any more, leaves `source`, whose memory still holds it."""
        part = self.pool.part
        byte = part.kv_token_byte * token + part.state_byte
        done = self.fabric.send([[source, self.pool.num_engine + there]], [byte])
        self.way[i] = move = Move(source, there, produced, token, done)
        self.moved_byte += byte
        self._expect(move, 1)
        landing: Callable[[simpy.Event], None] = functools.partial(self._land, i, move)
        assert done.callbacks is not None
        done.callbacks.append(landing)

    def out_of(self, k: int) -> list[int]:
        """Requests whose KV is leaving engine k."""
        return [i for i, move in self.way.items() if move.source == k]

    def into(self, k: int) -> list[int]:
        """Requests on their way to engine k."""
        return [i for i, move in self.way.items() if move.there == k]

    def withdraw(self, i: int) -> Move:
        """Request i does not arrive: one of its engines is lost. What has been moved was."""
        move = self.way.pop(i)
        self.moved_byte -= self.fabric.cancel(move.done)
        self._expect(move, -1)
        return move

    def _land(self, i: int, move: Move, _: simpy.Event) -> None:
        """Request i goes on where its KV has come to."""
        if self.way.get(i) is not move:
            return
        del self.way[i]
        self.num_moved += 1
        self._expect(move, -1)
        self.pool.world.seq["produced"][i] = move.produced
        send(self.pool.world, i, move.there, int(self.env.now))

    def _expect(self, move: Move, sign: int) -> None:
        """What is on its way to an engine counts there, for the router."""
        me = self.pool.world.engine
        me["outstanding"][move.there] += sign
        me["load_token"][move.there] += sign * move.token
