"""Engines behind a router: an indexed heap of their next events, each run ahead to its next meeting.

A meeting is an arrival that the router places. Requests that wait for another's end (the next turn of a session, the
next request of a closed-loop user) make arrivals unknown beforehand: then no engine passes the next event of another,
so that an arrival released by an end finds every engine where it must be.
"""

from typing import Any

from numba import types

from kernels.engine.advance import (
    ASTRAY,
    BUDGET,
    FULL,
    HORIZON,
    MESSAGE,
    SPAWN,
    STUCK,
    advance,
    close_lane,
    next_event,
    next_lane,
    open_lane,
)
from kernels.engine.borrow import borrow
from kernels.engine.commit import commit, integrate
from kernels.engine.deliver import deliver
from kernels.engine.down import taking
from kernels.engine.heap import BY_ARRIVAL, BY_END, END, NEVER, NONE, PLAN, merge, reset, second, without_first
from kernels.engine.lanes import end_kv
from kernels.engine.price import PRICE_TYPE, PackedPrice
from kernels.engine.records import (
    CURSOR,
    FINISHED,
    FUTURE_ROOT,
    HANDED,
    HANDED_ROOT,
    LINKED,
    REQUEST_PS,
    RUNNING,
    STUCK_ENGINE,
    SWAPPED,
    WAITING,
    Engine,
    Fleet,
    World,
)
from kernels.engine.types import FLEET_TYPE, WORLD_TYPE, engine_of, policy_at, router_at
from kernels.jit import njit, njit_pasted
from kernels.units import FOREVER_PS

PLAN_NEXT, ROUTE_NEXT = 8, 9  # beside the codes of `kernels.engine.advance`


@njit
def next_arrival(w: World) -> int:
    """The request that arrives next, of those whose time is known; -1: none."""
    i = NONE
    if w.control[CURSOR] < len(w.order):
        i = int(w.order[w.control[CURSOR]])
    j = w.control[FUTURE_ROOT]
    if j == NONE:
        return i
    if i == NONE or (w.seq[j].arrival_ps, j) < (w.seq[i].arrival_ps, i):
        return j
    return i


@njit
def fetch(w: World, k: int) -> None:
    """Takes over the arrivals that ends on engine k have released, and what has ended there for another pool."""
    root = w.engine[k].spawned
    if root != NONE:
        w.control[FUTURE_ROOT] = merge(w.seq, BY_ARRIVAL, w.control[FUTURE_ROOT], root)
        w.engine[k].spawned = NONE
    root = w.engine[k].handed
    if root != NONE:
        w.control[HANDED_ROOT] = merge(w.seq, BY_END, w.control[HANDED_ROOT], root)
        w.engine[k].handed = NONE


@njit
def place(w: World, i: int, k: int) -> None:
    """Takes arrival i off its list and delivers it to engine k."""
    if i == w.control[FUTURE_ROOT]:
        w.control[FUTURE_ROOT] = without_first(w.seq, BY_ARRIVAL, i)
    else:
        w.control[CURSOR] += 1
    e = engine_of(w, k)
    deliver(e, i, w.seq[i].arrival_ps + w.control[REQUEST_PS])
    fetch(w, k)
    reset(w, k, next_event(e))


@njit
def next_message(w: World) -> int:
    """Takes the next sequence that has ended for another pool; -1: none."""
    i = w.control[HANDED_ROOT]
    if i != NONE:
        w.control[HANDED_ROOT] = without_first(w.seq, BY_END, i)
    return i


@njit
def give_back(w: World, i: int, time_ps: int) -> None:
    """Sequence i, which ended for another pool, gives its KV back: the other has it."""
    k = w.seq[i].replica
    e = engine_of(w, k)
    integrate(e, time_ps)
    end_kv(e, i)
    w.seq[i].status = FINISHED
    _wake(w, e, k, time_ps)


@njit
def send(w: World, i: int, k: int, time_ps: int) -> None:
    """Sequence i reaches engine k at `time_ps`; where its `produced` is above 0, with the KV of all but its last
    token."""
    e = engine_of(w, k)
    deliver(e, i, time_ps)
    s = w.seq[i]
    if s.status == WAITING and s.produced > 0:
        s.status = HANDED
        s.kv = s.prompt + s.produced - 1
        e.me.load_token += s.produced
    fetch(w, k)
    _wake(w, e, k, time_ps)


@njit
def stop(w: World, i: int, time_ps: int) -> None:
    """Nobody wants more of sequence i: at the next plan that finds it without a step in flight it is given up. One that
    has ended is left as it is."""
    s = w.seq[i]
    if s.stopped == 1 or s.status not in (WAITING, RUNNING, SWAPPED, HANDED):
        return
    s.stopped = 1
    e = engine_of(w, s.replica)
    e.me.num_stop += 1
    _wake(w, e, s.replica, time_ps)


@njit_pasted
def _wake(w: World, e: Engine, k: int, time_ps: int) -> None:
    e.me.epoch += 1
    if e.me.pooled == 0 or e.me.num_flight == 0:
        e.me.now_ps = max(e.me.now_ps, time_ps)
        for number in range(e.me.num_lane):
            e.lane[number].asleep = 0
    reset(w, k, next_event(e))


@njit
def stuck(w: World) -> bool:
    """Whether an engine waits for what can no longer happen; `control` then says which."""
    for k in range(len(w.engine)):
        if w.engine[k].outstanding > 0:
            w.control[STUCK_ENGINE] = k
            return True
    return False


@njit
def until(w: World, p: PackedPrice) -> int:
    """Lets steps end until somebody must decide: `PLAN_NEXT` (engine and lane are opened for the policy: `control` says
    which engine), `ROUTE_NEXT` (the next arrival has a time and needs an engine), or as `run`."""
    while True:
        i = next_arrival(w)
        horizon_ps = FOREVER_PS
        if i != NONE:
            horizon_ps = w.seq[i].arrival_ps + w.control[REQUEST_PS]
        k = w.heap[0, 0]
        when = w.event[k]
        if when == NEVER and i == NONE:  # an event at `FOREVER_PS` is none
            return STUCK if stuck(w) else HORIZON
        if when == NEVER or when >> 1 > horizon_ps or (when >> 1 == horizon_ps and when & 1 == PLAN):
            return ROUTE_NEXT
        w.control[STUCK_ENGINE] = k
        e = engine_of(w, k)
        if when & 1 == PLAN:
            if e.me.log_max > 0 and e.book[0] >= e.me.log_max:
                return FULL
            open_lane(e, next_lane(e), when >> 1)
            fetch(w, k)
            return PLAN_NEXT
        e.me.now_ps = commit(e)
        fetch(w, k)
        reset(w, k, next_event(e))


@njit
def planned(w: World, p: PackedPrice, k: int) -> bool:
    """Launches what was planned for the lane that `until` opened; False where the plan breaks a limit."""
    e = engine_of(w, k)
    good = close_lane(e, p, e.me.plan_lane, 0)
    fetch(w, k)
    reset(w, k, next_event(e))
    return good


def run(w: World, f: Fleet, p: PackedPrice, policy: Any, router: Any, budget: int, folds: bool, until_ps: int) -> int:
    """Serves until all is done (`HORIZON`), the budget of steps and arrivals is used, or something needs the
    caller (`FULL`, `STUCK`, `BROKEN`, `ASTRAY`). Called again it goes on where it stopped. Policy and router are given
    by `kernels.engine.handle.address_of`. Where it `folds`, plans that stand are not asked for again. What happens from
    `until_ps` on is left, but for steps that end at it; a sequence that ends for another pool stops all engines at that
    time (`MESSAGE`)."""
    p = PackedPrice(borrow(p.table), borrow(p.real))
    plan, route = policy_at(policy), router_at(router)
    left = budget
    while left > 0:
        if w.control[HANDED_ROOT] != NONE:
            return MESSAGE
        i = next_arrival(w)
        horizon_ps = until_ps
        if i != NONE:
            horizon_ps = min(until_ps, w.seq[i].arrival_ps + w.control[REQUEST_PS])
        k = w.heap[0, 0]
        when = w.event[k]
        if when < NEVER and (when >> 1 < horizon_ps or (when >> 1 == horizon_ps and when & 1 == END)):
            limit_ps = horizon_ps
            if w.control[LINKED] == 1:
                limit_ps = min(horizon_ps, max(second(w) >> 1, (when >> 1) + (when & 1)))
            e = engine_of(w, k)
            before = e.me.num_step
            code = advance(e, p, plan, limit_ps, left, folds)
            left -= e.me.num_step - before
            fetch(w, k)
            reset(w, k, next_event(e))
            if code not in (HORIZON, SPAWN):
                w.control[STUCK_ENGINE] = k
                return code
            continue
        if i == NONE and until_ps == FOREVER_PS:
            return STUCK if stuck(w) else HORIZON
        if i == NONE or w.seq[i].arrival_ps + w.control[REQUEST_PS] > until_ps:
            return HORIZON
        k = taking(w, route(f, i)) if len(w.engine) > 1 else 0
        if k < 0 or k >= len(w.engine):
            return ASTRAY
        place(w, i, k)
        left -= 1
    return BUDGET


RUN_SIGNATURE = types.int64(
    WORLD_TYPE,
    FLEET_TYPE,
    PRICE_TYPE,
    types.int64,
    types.int64,
    types.int64,
    types.boolean,
    types.int64,
)
"""`run` is compiled for it by who first runs ahead, not when this file is imported: stepping needs the rest alone."""
