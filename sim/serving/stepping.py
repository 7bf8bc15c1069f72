"""One step at a time: the fleet's events in order of time, every plan asked for, nothing repeated.

The same arrays, prices and commits as the run-ahead loop, so that a plain Python policy or router means the
same; and the yardstick that the run-ahead loop is tested against.
"""

from collections.abc import Callable

from kernels.serving import layout as at
from kernels.serving.ahead import (
    ASTRAY,
    BROKEN,
    BUDGET,
    FULL,
    HORIZON,
    STUCK,
    close_lane,
    next_lane,
    next_plan,
    open_lane,
)
from kernels.serving.commit import commit
from kernels.serving.fleet import first_event, next_arrival, place
from kernels.serving.layout import Fleet, Replica, Stack
from kernels.serving.price import PackedPrice
from kernels.serving.types import view_of
from kernels.serving.verbs import lane_at

NOTHING = 2


Execute = Callable[[Replica, int], int]


def run(
    s: Stack, f: Fleet, p: PackedPrice, plan: Callable[[Replica], int], route: Callable[[Fleet, int], int], budget: int,
    execute: Execute | None = None,
) -> int:  # fmt: skip
    """As `kernels.serving.fleet.run`, with the same codes.

    `execute(replica, lane)`, where given, carries out the plan that the lane has just launched and returns the
    picoseconds that it took, which then stand instead of the price (without pipeline stages only); a negative
    number leaves the price.
    """
    views = [view_of(s, k) for k in range(len(s.reg))]
    for _ in range(budget):
        k, time_ps, kind, _ = first_event(s)
        i, source = next_arrival(s)
        if i >= 0:
            arrival_ps = int(s.seq[i, at.ARRIVAL] + s.control[at.REQUEST_PS])
            if arrival_ps < time_ps or (arrival_ps == time_ps and kind > 0):
                target = int(route(f, i)) if len(views) > 1 else 0
                if not 0 <= target < len(views):
                    return ASTRAY
                place(s, i, source, target)
                continue
        if kind == NOTHING:
            stuck = [k for k in range(len(views)) if s.reg[k, at.OUTSTANDING] > 0]
            s.control[at.STUCK_REPLICA] = stuck[0] if stuck else 0
            return STUCK if stuck else HORIZON
        r = views[k]
        s.control[at.STUCK_REPLICA] = k
        if kind == 0:
            r.reg[at.NOW] = commit(r)
            continue
        if r.reg[at.LOG_MAX] > 0 and r.reg[at.LOG_NUM] >= r.reg[at.LOG_MAX]:
            return FULL
        lane = next_lane(r)
        open_lane(r, lane, next_plan(r))
        plan(r)
        if not close_lane(r, p, lane, 0):
            return BROKEN
        if execute is not None and r.reg[lane_at(r.reg, lane) + at.IN_FLIGHT] == 1:
            _take(r, lane, execute(r, lane))
    return BUDGET


def _take(r: Replica, lane: int, time_ps: int) -> None:
    """Lets the step in flight end `time_ps` after its start."""
    reg, lane_start = r.reg, lane_at(r.reg, lane)
    if time_ps < 0:
        return
    end = int(reg[at.NOW]) + time_ps
    reg[at.AT_STAGE + at.STAGE_BUSY] += end - int(reg[lane_start + at.LANE_END])
    reg[lane_start + at.LANE_END] = reg[at.AT_STAGE + at.STAGE_FREE] = end
    if reg[at.LOG_MAX] > 0:
        row = int(reg[at.BOOK_LOG] + (reg[at.LOG_NUM] - 1) * at.NUM_LOG_COLUMN)
        r.book[row + at.LOG_COLUMNS.index("end_ps")] = end
