"""One step at a time, for a policy or router in plain Python or a step that somebody else carries out: compiled code
lets time pass until a decision is due, and returns for it.

The same records, prices and commits as the run-ahead loop, so that a decision in plain Python means the same.
"""

from collections.abc import Callable
from typing import Any

from kernels.engine.advance import ASTRAY, BROKEN, BUDGET, next_event
from kernels.engine.by_step import place_of, plan_at, planned_at, until_at
from kernels.engine.heap import reset
from kernels.engine.party import PLAN_NEXT, ROUTE_NEXT, next_arrival, place
from kernels.engine.price import PackedPrice
from kernels.engine.records import LOG_COLUMNS, NUM_LOG_COLUMN, STUCK_ENGINE, Engine, Fleet, World
from kernels.engine.types import engine_of

Execute = Callable[[Any, int], int]


def run(
    w: World, f: Fleet, p: PackedPrice, plan: Callable[[Engine], int] | int, route: Callable[[Fleet, int], int],
    budget: int, execute: Execute | None = None,
) -> int:  # fmt: skip
    """As `kernels.engine.party.run`, with the same codes; `plan` is a function, or the address of a compiled one.

    `execute(engine, lane)`, where given, carries out the plan that the lane has just launched and returns the
    picoseconds that it took, which then stand instead of the price (without pipeline stages only); a negative
    number leaves the price.
    """
    num = len(w.engine)
    views = [engine_of(w, k) for k in range(num)]
    here, table, real, control = place_of(w), p.table, p.real, w.control
    for _ in range(budget):
        code = until_at(here, table, real)
        if code == ROUTE_NEXT:
            i = next_arrival(w)
            target = int(route(f, i)) if num > 1 else 0
            if not 0 <= target < num:
                return ASTRAY
            place(w, i, target)
            continue
        if code != PLAN_NEXT:
            return int(code)
        k = int(control[STUCK_ENGINE])
        if isinstance(plan, int):
            plan_at(here, k, plan)
        else:
            plan(views[k])
        if not planned_at(here, table, real, k):
            return BROKEN
        if execute is None:
            continue
        number = int(w.engine[k]["plan_lane"])
        if w.lane[k, number]["in_flight"] == 1 and w.lane[k, number]["empty"] == 0:
            _take(w, k, number, execute(views[k], number))
    return BUDGET


def _take(w: World, k: int, number: int, time_ps: int) -> None:
    """Lets the step in flight end `time_ps` after its start."""
    me, lane = w.engine[k], w.lane[k, number]
    if time_ps < 0:
        return
    end = int(me["now_ps"]) + time_ps
    lane["busy_ps"] += end - int(lane["end_ps"])
    lane["end_ps"] = lane["free_ps"] = end
    if me["log_max"] > 0:
        row = int(me["book_log"] + (w.book[0] - 1) * NUM_LOG_COLUMN)
        w.book[row + LOG_COLUMNS.index("end_ps")] = end
    reset(w, k, next_event(engine_of(w, k)))
