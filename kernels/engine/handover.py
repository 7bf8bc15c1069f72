"""Two pools of engines and the links between them: prompts computed on one, decodes on the other, KV handed over.

The meetings of pools (a prompt is computed, a transfer begins, a flow ends, a decode ends for whom another request
waits) lie in one heap of events. Between two of them each pool runs ahead by itself (`kernels.engine.party.run`). What
happens at a meeting, and in which order at one instant, is what `sim.cluster.clock` does on SimPy's clock, to the tick.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
from numba import types
from numba.extending import overload

from kernels.engine.advance import BUDGET, HORIZON, MESSAGE
from kernels.engine.arrays import addressed
from kernels.engine.borrow import borrow
from kernels.engine.deliver import KEY_BIT
from kernels.engine.down import open_ps, taking
from kernels.engine.handle import function_reader, passed_by_address
from kernels.engine.heap import BY_ARRIVAL, NEVER, NONE, insert
from kernels.engine.party import RUN_SIGNATURE, give_back, next_arrival, next_message, send
from kernels.engine.price import PackedPrice
from kernels.engine.records import (
    FUTURE_ROOT,
    HANDED_ROOT,
    HELD,
    REQUEST_PS,
    Field,
    Fleet,
    Floats,
    Ints,
    Records,
    World,
    record,
    zeros,
)
from kernels.engine.types import router_at
from kernels.events import KIND, NUMBER, TIME, drop, drop_first, events, first_ps, more, put
from kernels.flows import FREE, Flows, begin_one, cancel, fill, move
from kernels.jit import njit
from kernels.units import PS_PER_S

FIRST, NORMAL, LAST = range(3)  # of events of one instant: who leaves, in order; all else; then rates are filled
REFUSE, LEAVE, END, START, ALARM, LAND, CHANGE = range(7)
"""Kinds of events: a request too long for the pool that decodes arrives; a request leaves the first pool, or the
second; a transfer takes to the links; a flow ends, unless rates have changed since; a transfer is over; rates are
filled anew."""
GROW, BAD_RULE, ASTRAY_THERE = 16, 17, 18  # codes beside those of `kernels.engine.advance`

WAY_FIELDS: tuple[Field, ...] = (
    ("transfer_ps", "i8", "length of its transfer; while that lasts, when it began; -1: none"),
    ("left_byte", "f8", "what the transfer moves over the links"),
    ("output", "i4", "tokens"),
    ("there", "i4", "engine of the second pool that it goes to"),
    ("child", "i4", "the first request that waits for its end; -1: none"),
    ("sibling", "i4", "the next one with the same parent, or behind it at the gate"),
)
WAY = record(WAY_FIELDS)

STATE_FIELDS: tuple[str, ...] = (
    "linked", "num_first", "latency_ps", "num_layer", "ranked", "margin", "num_change", "due", "second", "num_meeting",
    "gate",
)  # fmt: skip
LINKED, NUM_FIRST, LATENCY_PS, NUM_LAYER, RANKED, MARGIN, NUM_CHANGE, DUE, SECOND, NUM_MEETING, GATE = range(
    len(STATE_FIELDS)
)
# linked: requests wait for others' ends; ranked: queues are by rank; margin: events that one meeting may bring;
# second: which pool a code is of; gate: one above the next request that a cap on concurrency holds back, 0: none
TOKEN_BYTE, SEQUENCE_BYTE, LINK_BYTE_PER_S, SENT_BYTE, SAID_BYTE = range(5)  # of `real`; SAID: by a rule, out of bounds


class Side(NamedTuple):
    """A pool: its engines, what its router sees, prices, and where policy and router lie."""

    world: World
    fleet: Fleet
    price: PackedPrice
    policy: Any
    router: Any


class Between(NamedTuple):
    """What is on its way between two pools, and their meetings."""

    way: Records  # [request] WAY
    heap: Ints  # of meetings (`kernels.events`)
    size: Ints  # events in it, events ever put in
    state: Ints  # STATE_FIELDS
    real: Floats
    table: Ints  # where all of it lies, for compiled code (see `kernels.engine.handle`)
    at: int


def between(way: Records) -> Between:
    """No meetings yet."""
    return addressed(Between, way, events(), np.zeros(2, np.int64), np.zeros(len(STATE_FIELDS), np.int64), np.zeros(5))


def roomier(b: Between) -> Between:
    """The same with room for twice as many meetings."""
    return addressed(Between, b.way, more(b.heap), b.size, b.state, b.real)


BETWEEN_TYPE = passed_by_address(between(zeros(1, WAY)))
RULE_SIGNATURE = types.float64(types.float64, types.int64, types.float64, types.float64)
"""A rule of transfer: `left_byte(kv_byte, num_layer, step_s, link_byte_per_s)`."""


def loop_at(address: Any) -> Callable[..., int]:
    """In compiled code the loop of a pool that lies at an address; else the loop itself."""
    return cast(Callable[..., int], address)


def rule_at(address: Any) -> Callable[[float, int, float, float], float]:
    """As `loop_at`, the rule of transfer."""
    return cast(Callable[[float, int, float, float], float], address)


_loop, _rule = function_reader(RUN_SIGNATURE), function_reader(RULE_SIGNATURE)


@overload(loop_at)
def _loop_at(address):  # type: ignore[no-untyped-def]
    return lambda address: _loop(address)  # noqa: PLW0108


@overload(rule_at)
def _rule_at(address):  # type: ignore[no-untyped-def]
    return lambda address: _rule(address)  # noqa: PLW0108


@njit
def ready(first: World, second: World, b: Between, i: int) -> None:
    """Readies the row of request i in the second pool, from what the first knows of it; the row may be blank."""
    s, there = first.seq[i], second.seq[i]
    there.arrival_ps = s.arrival_ps
    there.start_ps = s.start_ps
    there.first_ps = s.first_ps
    there.last_ps = s.last_ps
    there.end_ps = -1
    there.prompt = s.prompt
    there.output = b.way[i].output
    there.produced = s.produced
    there.key = s.key >> KEY_BIT if b.state[RANKED] == 1 else -1
    there.program = -1
    there.replica = -1
    there.child = NONE
    there.sibling = NONE
    there.left = NONE
    there.right = NONE


@njit
def release(first: World, b: Between, i: int, now: int, longest: int) -> None:
    """Request i has left: those that wait for its end arrive after their think time; where none does, a chain is over,
    and who waits at the gate of a cap on concurrency arrives (`kernels.engine.gate`)."""
    child = b.way[i].child
    if child == NONE and b.state[GATE] > 0:
        j = b.state[GATE] - 1
        b.state[GATE] = b.way[j].sibling + 1
        b.way[j].sibling = NONE
        arrive(first, b, j, now, longest)
    while child != NONE:
        arrive(first, b, child, now + first.seq[child].think_ps, longest)
        child = b.way[child].sibling


@njit
def arrive(first: World, b: Between, i: int, time_ps: int, longest: int) -> None:
    """Request i arrives, not before a time: at the first pool, or where the second would refuse it there."""
    s = first.seq[i]
    s.arrival_ps = max(s.arrival_ps, time_ps)
    if s.prompt + b.way[i].output > longest:
        put(b.heap, b.size, s.arrival_ps + first.control[REQUEST_PS], NORMAL, REFUSE, i)
    else:
        first.control[FUTURE_ROOT] = insert(first.seq, BY_ARRIVAL, first.control[FUTURE_ROOT], i)


@njit
def call_change(b: Between, now: int) -> None:
    """Rates are filled at the end of this instant."""
    if b.state[DUE] == 0:
        b.state[DUE] = 1
        put(b.heap, b.size, now, LAST, CHANGE, 0)


@njit
def move_on(b: Between, f: Flows, now: int) -> None:
    """Moves what is on the links; transfers that are over land."""
    for k in range(move(f, now)):
        put(b.heap, b.size, now, NORMAL, LAND, f.ended[k])


@njit
def take_off(first: World, b: Between, f: Flows, i: int, now: int) -> None:
    """The transfer of request i takes to the links: out of its engine, into the other's."""
    if b.way[i].left_byte > 0.0:
        row = begin_one(f, b.way[i].left_byte, i)
        f.route[row, 0] = first.seq[i].replica
        f.route[row, 1] = b.state[NUM_FIRST] + b.way[i].there
        call_change(b, now)
    else:
        put(b.heap, b.size, now, NORMAL, LAND, i)


@njit
def expect(second: World, k: int, token: int, sign: int) -> None:
    """What is on its way to engine k counts there, for the router."""
    second.engine[k].outstanding += sign
    second.engine[k].load_token += sign * token


@njit
def depart(first: World, second: World, b: Between, f: Flows, i: int, k: int, left_byte: float, now: int) -> None:
    """Request i, whose KV is held, goes to engine k of the second pool; `left_byte` are to be moved, as soon as that
    engine is up."""
    expect(second, k, first.seq[i].kv, 1)
    b.way[i].there = k
    b.way[i].left_byte = left_byte
    b.way[i].transfer_ps = now
    begin_ps = max(now + b.state[LATENCY_PS], open_ps(second, k, now))
    if begin_ps > now:
        put(b.heap, b.size, begin_ps, NORMAL, START, i)
    else:
        take_off(first, b, f, i, now)


@njit
def withdraw(first: World, second: World, b: Between, f: Flows, i: int, now: int) -> None:
    """Request i, which is on its way, does not arrive: one of its engines is lost. What has been moved was."""
    move_on(b, f, now)
    left = cancel(f, i)
    if left >= 0.0:
        call_change(b, now)
    elif not drop_landing(b, i):
        left = b.way[i].left_byte  # it had not begun
    b.real[SENT_BYTE] -= max(left, 0.0)
    expect(second, b.way[i].there, first.seq[i].kv, -1)
    b.way[i].transfer_ps = -1


@njit
def drop_landing(b: Between, i: int) -> bool:
    """Takes the event out that request i takes to the links or lands; whether it was to land."""
    heap, at = b.heap, 0
    while heap[at, NUMBER] != i or heap[at, KIND] not in (START, LAND):
        at += 1
    lands = heap[at, KIND] == LAND
    drop(heap, b.size, at)
    return bool(lands)


@njit
def land(first: World, second: World, b: Between, i: int, now: int) -> None:
    """The KV of request i is where it will be decoded."""
    k = b.way[i].there
    token = first.seq[i].kv
    b.way[i].transfer_ps = now - b.way[i].transfer_ps
    give_back(first, i, now)
    expect(second, k, token, -1)
    send(second, i, k, now)


@njit
def next_act(w: World) -> int:
    """The next thing that a pool does by itself, as an event of `kernels.engine.heap`: one of its engines, a message of
    it that nobody has heard, or an arrival at it (after the ends of that instant, before its plans)."""
    when = int(w.event[w.heap[0, 0]])
    j = w.control[HANDED_ROOT]
    if j != NONE:
        when = min(when, 2 * w.seq[j].end_ps)
    i = next_arrival(w)
    if i != NONE:
        when = min(when, 2 * (w.seq[i].arrival_ps + w.control[REQUEST_PS]))
    return when


@njit
def room_ps(own: int, other: int, until_ps: int) -> int:
    """Up to when a pool that acts next at `own` may run where ends in the other, which acts next at `other`, can bring
    arrivals to it."""
    return until_ps if other == NEVER else min(until_ps, max(other >> 1, (own >> 1) + (own & 1)))


@njit
def hand_over(
    first: Side, second: Side, loop: Any, rule: Any, b: Between, f: Flows, budget: int, folds: bool, horizon_ps: int
) -> int:  # fmt: skip
    """Serves until all has happened that happens up to `horizon_ps` (`HORIZON`; what engines would plan then is left),
    `budget` meetings have been (`BUDGET`), or something needs the caller: a code of `kernels.engine.party.run`
    (`state[SECOND]` says whose), `GROW` (no room for a meeting or a flow), `BAD_RULE` (the rule of transfer leaves more
    than there is, or less than nothing), `ASTRAY_THERE` (the second router names no engine). Called again it goes on
    where it stopped."""
    run, left_byte, route = loop_at(loop), rule_at(rule), router_at(second.router)
    here_price = PackedPrice(borrow(first.price.table), borrow(first.price.real))
    there_price = PackedPrice(borrow(second.price.table), borrow(second.price.real))
    w, v, state, real = first.world, second.world, b.state, b.real
    longest = v.engine[0].max_context_token
    for _ in range(budget):
        if len(b.heap) - b.size[0] < state[MARGIN] + len(f.tag) or f.tally[FREE] == 0:
            return GROW
        now = min(first_ps(b.heap, b.size), horizon_ps)
        kind = b.heap[0, KIND] if b.size[0] > 0 and b.heap[0, TIME] == now else NONE
        if kind == ALARM and b.heap[0, NUMBER] != state[NUM_CHANGE]:
            drop_first(b.heap, b.size)
            continue
        mine = other = NEVER
        if state[LINKED] == 1:
            mine, other = next_act(w), next_act(v)
        advances_second = other < mine and (other >> 1) + (other & 1) <= now
        if not advances_second:
            until_ps = room_ps(mine, other, now)
            code = run(w, first.fleet, here_price, first.policy, first.router, budget, folds, until_ps)
            if code == MESSAGE:
                i = next_message(w)
                put(b.heap, b.size, w.seq[i].end_ps, FIRST, LEAVE, i)
                continue
            if code != HORIZON:
                state[SECOND] = 0
                return code
            if until_ps < now:
                continue
        if advances_second or kind in (LEAVE, LAND, REFUSE, NONE):
            until_ps = room_ps(other, mine, now)
            code = run(v, second.fleet, there_price, second.policy, second.router, budget, folds, until_ps)
            if code == MESSAGE:
                i = next_message(v)
                put(b.heap, b.size, v.seq[i].end_ps, FIRST, END, i)
                continue
            if code != HORIZON:
                state[SECOND] = 1
                return code
            if advances_second:
                continue
        if kind == NONE:
            return HORIZON
        i = b.heap[0, NUMBER]
        drop_first(b.heap, b.size)
        state[NUM_MEETING] += 1
        if kind == LEAVE and w.seq[i].status == HELD and b.way[i].output > w.seq[i].produced:
            s = w.seq[i]
            byte = real[TOKEN_BYTE] * s.kv + real[SEQUENCE_BYTE]
            left = left_byte(byte, state[NUM_LAYER], s.step_ps / PS_PER_S, real[LINK_BYTE_PER_S])
            if not 0.0 <= left <= byte:
                real[SAID_BYTE], real[SENT_BYTE] = left, byte
                return BAD_RULE
            real[SENT_BYTE] += byte
            ready(w, v, b, i)
            k = taking(v, route(second.fleet, i)) if len(v.engine) > 1 else 0
            if k < 0 or k >= len(v.engine):
                return ASTRAY_THERE
            depart(w, v, b, f, i, k, left, now)
        elif kind in (LEAVE, END):
            if kind == LEAVE and w.seq[i].status == HELD:
                give_back(w, i, now)  # its last token is produced
            release(w, b, i, now, longest)
        elif kind == START:
            take_off(w, b, f, i, now)
        elif kind == LAND:
            land(w, v, b, i, now)
        elif kind == REFUSE:
            ready(w, v, b, i)
            send(v, i, 0, now)  # which refuses it before anything is computed
        elif kind == ALARM:
            move_on(b, f, now)
            call_change(b, now)
        else:
            state[DUE] = 0
            move_on(b, f, now)
            until_end = fill(f)
            if until_end >= 0:
                state[NUM_CHANGE] += 1
                put(b.heap, b.size, now + until_end, NORMAL, ALARM, state[NUM_CHANGE])
    return BUDGET
