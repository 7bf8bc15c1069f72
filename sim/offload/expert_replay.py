"""Steps of a model whose experts lie on the host: what moves over its link, when, and what waits for it.

A layer computes its dense part, which ends with the gate; then each of its experts as soon as it is there, one after
another. The link carries one unit after another. `demand` loads at the gate what the gate asks for; `in_turn` too, but
each when the expert before has been computed, as blocking copies do; `predict` knows at
the begin of a step which experts a predictor names for all of its layers, loads them in the order of the layers
wherever places allow, and what it missed at the gate (ExpertFlow). A place is free when nothing that is still to come
in this step is in it. A `ring` moves every expert of every layer through its places, wanted or not (SE-MoE).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.errors import InputError

Rows = npt.NDArray[np.int64]  # [step, layer, expert]
Unit = tuple[int, int]  # layer, expert
RULES = ("demand", "in_turn", "predict")


class Offloaded(NamedTuple):
    """A model's times on a device. Seconds; bytes."""

    dense_s: float  # of a layer without its experts
    expert_s: Callable[[int], float]  # of one expert on so many rows
    expert_byte: float
    link_byte_per_s: float


class Replayed(NamedTuple):
    """What came of the steps."""

    second: float
    num_there: int  # of the accesses, in the cache or on the way to it at the gate
    num_load: int
    busy_s: float  # of the link
    access: tuple[Unit, ...]  # (layer, expert) as they were computed

    @property
    def hit(self) -> float:
        return self.num_there / len(self.access)


class _Pool:
    """Places for experts: when what is in them has come, and until when it was last computed."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.there: dict[Unit, float] = {}
        self.used: dict[Unit, float] = {}

    def place(self, pinned: set[Unit]) -> float:
        """Frees a place, of the longest unused that nobody waits for; since when it is free, infinity where none is."""
        if len(self.there) < self.room:
            return 0.0
        free = [unit for unit in self.there if unit not in pinned]
        if not free:
            return math.inf
        victim = min(free, key=lambda unit: self.used.get(unit, 0.0))
        del self.there[victim]
        return self.used.get(victim, 0.0)


class _Host:
    """The link from the host, and the pools that it fills."""

    def __init__(self, pools: list[_Pool], move_s: float) -> None:
        self.pools, self.move_s = pools, move_s
        self.free, self.num_load = 0.0, 0
        self.queue: list[Unit] = []  # to be loaded ahead
        self.ahead: set[Unit] = set()  # named, of layers that are still to come

    def pool(self, unit: Unit) -> _Pool:
        return self.pools[unit[0] % len(self.pools)]

    def load(self, unit: Unit, since: float) -> None:
        self.free = max(self.free, since) + self.move_s
        self.num_load += 1
        self.pool(unit).there[unit] = self.free

    def prefetch(self, since: float, until: float) -> None:
        """Begins what is named, in its order, while the link is free before `until` and places are."""
        num = 0
        for unit in self.queue:
            if max(self.free, since) >= until:
                break
            if unit not in self.pool(unit).there:
                free = self.pool(unit).place(self.ahead)
                if free == math.inf:
                    break
                self.load(unit, max(since, free))
            num += 1
        del self.queue[:num]

    def fetch(self, unit: Unit, wanted: set[Unit], gate: float) -> None:
        """What the gate asks for and nobody loaded; it may take the place of what is there ahead."""
        free = self.pool(unit).place(wanted | self.ahead)
        if free == math.inf:
            free = self.pool(unit).place(wanted)
        self.load(unit, max(gate, free))


def replay(
    rows: Rows, model: Offloaded, room: int, rule: str, *, said: npt.NDArray[np.bool_] | None = None,
    per_layer: bool = True,
) -> Replayed:  # fmt: skip
    """Replays `rows` (tokens of each expert, by step and layer) with `room` experts in the cache, of each layer or in
    all. `said`: what the predictor names, same shape, where the rule is `predict`.

    Raises `InputError` for a rule that is not there, a prediction that it does not take or lacks, a cache of nothing.
    """
    if rule not in RULES:
        raise InputError("no such rule", field="rule", value=rule, allowed=list(RULES))
    if (said is None) == (rule == "predict"):
        raise InputError("a prediction is what `predict` takes, and nothing else", field="said", value=rule)
    if room < 1:
        raise InputError("out of range", field="room", value=room, allowed="1 or more")
    num_step, num_layer, _ = rows.shape
    host = _Host([_Pool(room) for _ in range(num_layer if per_layer else 1)], model.expert_byte / model.link_byte_per_s)
    named = np.zeros_like(rows, bool) if said is None else said
    now, num_there = 0.0, 0
    access: list[Unit] = []
    for step in range(num_step):
        host.queue = [(int(j), int(e)) for j, e in np.argwhere(named[step])]
        host.ahead = set(host.queue)
        for j in range(num_layer):
            gate = now + model.dense_s
            host.prefetch(now, gate)
            there = host.pool((j, 0)).there
            host.queue = [unit for unit in host.queue if unit[0] > j]
            need = [(j, int(e)) for e in np.flatnonzero(rows[step, j])]
            num_there += sum(unit in there for unit in need)
            wanted, now = set(need), gate
            # what is there first, then what is on its way, then what the gate has to ask for
            for unit in sorted(need, key=lambda unit: there.get(unit, math.inf)):
                if unit not in there:
                    host.fetch(unit, wanted, now if rule == "in_turn" else gate)
                now = max(now, there[unit]) + model.expert_s(int(rows[step, j, unit[1]]))
                host.pool(unit).used[unit] = now
                wanted.discard(unit)
                access.append(unit)
            host.ahead = {unit for unit in host.ahead if unit[0] > j}
            host.prefetch(gate, now)
    return Replayed(now, num_there, host.num_load, host.num_load * host.move_s, tuple(access))


def ring(rows: Rows, model: Offloaded, room: int) -> Replayed:
    """Replays `rows` with every expert of every layer moved in order through a ring of `room` places: one begins to
    move when the link and the place of the one that is `room` before it are free."""
    if room < 1:
        raise InputError("out of range", field="room", value=room, allowed="1 or more")
    num_step, num_layer, num_expert = rows.shape
    move_s = model.expert_byte / model.link_byte_per_s
    passed = [0.0] * room  # when each place was free
    now = free = 0.0
    access: list[Unit] = []
    k = 0
    for step in range(num_step):
        for j in range(num_layer):
            now += model.dense_s
            for e in range(num_expert):
                free = max(free, passed[k % room]) + move_s
                if rows[step, j, e]:
                    now = max(now, free) + model.expert_s(int(rows[step, j, e]))
                    access.append((j, e))
                passed[k % room] = max(now, free)
                k += 1
            now = max(now, free)
    return Replayed(now, 0, k, k * move_s, tuple(access))
