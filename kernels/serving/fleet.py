"""Replicas behind a router: each runs ahead to the next arrival, which the router then places.

Requests that wait for another's end (the next turn of a session, the next request of a closed-loop user) make
arrivals unknown beforehand. Then no replica passes the next step end of another, so that an arrival released by
that end finds every replica where it must be.
"""

from collections.abc import Callable

from numba import types

from kernels.jit import njit
from kernels.serving.ahead import (
    ASTRAY,
    BUDGET,
    HORIZON,
    SPAWN,
    STUCK,
    advance,
    next_end,
    next_lane,
    next_plan,
)
from kernels.serving.borrow import borrow
from kernels.serving.deliver import deliver
from kernels.serving.layout import (
    ARRIVAL,
    CURSOR,
    FUTURE_ROOT,
    LINKED,
    NUM_STEP,
    OUTSTANDING,
    REQUEST_PS,
    SPAWNED,
    STUCK_REPLICA,
    Fleet,
    Replica,
    Stack,
)
from kernels.serving.price import PRICE_TYPE, PackedPrice
from kernels.serving.types import FLEET_TYPE, PLAN_SIGNATURE, ROUTE_SIGNATURE, STACK_TYPE, replica_of
from kernels.serving.waiting import NONE, pop_arrival
from kernels.units import FOREVER_PS


@njit
def next_arrival(s: Stack) -> tuple[int, int]:
    """The request that arrives next, of those whose time is known (-1: none), and the replica whose end has
    released it (-1: it waited for nobody)."""
    i = source = NONE
    if s.control[CURSOR] < len(s.order):
        i = int(s.order[s.control[CURSOR]])
    for k in range(len(s.reg)):
        j = s.reg[k, FUTURE_ROOT]
        if j != NONE and (i == NONE or (s.seq[j, ARRIVAL], j) < (s.seq[i, ARRIVAL], i)):
            i, source = j, k
    return i, source


@njit
def place(s: Stack, i: int, source: int, k: int) -> None:
    """Takes arrival i off its list and delivers it to replica k."""
    if source == NONE:
        s.control[CURSOR] += 1
    else:
        s.reg[source, FUTURE_ROOT] = pop_arrival(s.seq, i)
    deliver(replica_of(s, k), i, k, s.seq[i, ARRIVAL] + s.control[REQUEST_PS])
    s.reg[k, SPAWNED] = 0


@njit
def first_event(s: Stack) -> tuple[int, int, int, int]:
    """Replica, time and kind (0: a step ends, 1: a lane may plan, 2: nothing) of the fleet's first event, and the
    time of the first event of any other replica."""
    first = 0
    time_ps, kind, second_ps = FOREVER_PS, 2, FOREVER_PS
    for k in range(len(s.reg)):
        r = replica_of(s, k)
        other_ps = next_end(r)
        other = 0 if other_ps < FOREVER_PS else 2
        if next_lane(r) >= 0 and next_plan(r) < other_ps:
            other_ps, other = next_plan(r), 1
        if (other_ps, other) < (time_ps, kind):
            first, time_ps, kind, second_ps = k, other_ps, other, time_ps
        else:
            second_ps = min(second_ps, other_ps)
    return first, time_ps, kind, second_ps


def run(
    s: Stack, f: Fleet, p: PackedPrice, plan: Callable[[Replica], int], route: Callable[[Fleet, int], int], budget: int
) -> int:
    """Serves until all is done (`HORIZON`), the budget of steps and arrivals is used, or something needs the
    caller (`FULL`, `STUCK`, `BROKEN`, `ASTRAY`). Called again it goes on where it stopped."""
    num_replica = len(s.reg)
    p = PackedPrice(borrow(p.table), borrow(p.real))
    left = budget
    while left > 0:
        i, source = next_arrival(s)
        horizon_ps = FOREVER_PS
        if i != NONE:
            horizon_ps = s.seq[i, ARRIVAL] + s.control[REQUEST_PS]
        start, stop = 0, num_replica
        limit_ps = horizon_ps
        if s.control[LINKED] == 1:
            start, time_ps, kind, second_ps = first_event(s)
            stop = start
            if time_ps < horizon_ps or (time_ps == horizon_ps and kind == 0):
                stop = start + 1
                limit_ps = min(horizon_ps, max(second_ps, time_ps + kind))
        for k in range(start, stop):
            r = replica_of(s, k)
            before = r.reg[NUM_STEP]
            code = advance(r, p, plan, limit_ps, left)
            left -= r.reg[NUM_STEP] - before
            r.reg[SPAWNED] = 0
            if code not in (HORIZON, SPAWN):
                s.control[STUCK_REPLICA] = k
                return code
        if s.control[LINKED] == 1 and stop > start:
            continue
        if i == NONE:
            for k in range(num_replica):
                if s.reg[k, OUTSTANDING] > 0:
                    s.control[STUCK_REPLICA] = k
                    return STUCK
            return HORIZON
        k = route(f, i) if num_replica > 1 else 0
        if k < 0 or k >= num_replica:
            return ASTRAY
        place(s, i, source, k)
        left -= 1
    return BUDGET


RUN_SIGNATURE = types.int64(
    STACK_TYPE,
    FLEET_TYPE,
    PRICE_TYPE,
    types.FunctionType(PLAN_SIGNATURE),
    types.FunctionType(ROUTE_SIGNATURE),
    types.int64,
)
"""`run` is compiled for it by who first runs ahead, not when this file is imported: stepping needs the rest alone."""
