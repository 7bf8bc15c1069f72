"""Running ahead: an engine advances to a horizon in one call, repeating plans while nothing can change them.

Order at one instant: steps end, requests arrive, lanes plan. So a horizon (the next arrival) lets steps end at
that very time but no lane plan, and a router sees exactly what has been committed by then.
"""

from collections.abc import Callable

from kernels.engine.abort import abort_late
from kernels.engine.begin import begin, begin_repeat
from kernels.engine.commit import commit, integrate, let_leave
from kernels.engine.heap import END, NONE, PLAN, event
from kernels.engine.price import PackedPrice
from kernels.engine.records import IN_FLIGHT_RING, PAD, ROW, SEQ, TOKEN, Engine
from kernels.engine.repeat import repeat_ahead
from kernels.engine.verbs import lane_at, list_of, settle, settle_all
from kernels.jit import njit
from kernels.units import FOREVER_PS

HORIZON, BUDGET, SPAWN, FULL, STUCK, BROKEN, ASTRAY = range(7)
"""Why a loop came back: nothing to do before the horizon; the step budget is used; an end released an arrival;
the log of steps is full; sequences wait and nothing can change; a plan exceeds the tokens of a step; a router
named no engine."""


@njit
def next_lane(e: Engine) -> int:
    """The lane to plan next, in turn: neither in flight nor asleep; -1: none."""
    num = e.me.num_lane
    for k in range(1, num + 1):
        number = (e.me.last_lane + k) % num
        if e.lane[number].in_flight == 0 and e.lane[number].asleep == 0:
            return number
    return -1


@njit
def next_end(e: Engine) -> int:
    """When the oldest step in flight ends."""
    if e.me.num_flight == 0:
        return FOREVER_PS
    return e.lane[e.work[IN_FLIGHT_RING + e.me.flight_head]].end_ps


@njit
def next_plan(e: Engine) -> int:
    """When the next plan can be made: when the first stage can take another step; where lanes share a running list,
    as soon as one is free."""
    return e.me.now_ps if e.me.pooled == 1 else max(e.me.now_ps, e.lane[0].free_ps)


@njit
def next_event(e: Engine) -> int:
    """The engine's next event (`kernels.engine.heap.event`)."""
    end = event(next_end(e), END)
    if next_lane(e) < 0:
        return end
    return min(end, event(next_plan(e), PLAN))


@njit
def open_lane(e: Engine, number: int, time_ps: int) -> None:
    """Readies a lane for its policy at `time_ps`. Where nothing runs, nothing was planned ahead."""
    me, lane = e.me, e.lane[number]
    if me.pooled == 1:
        settle_all(e)
        first = lane_at(e, number) + me.in_plan
        for row in range(first, first + ROW * lane.num_still, ROW):  # its last step is over
            s = e.seq[e.work[row + SEQ]]
            if s.flight == number + 1:
                s.flight = 0
        lane.num_still = 0
    else:
        settle(e, number)
    integrate(e, time_ps)
    me.now_ps = time_ps
    me.plan_lane = number
    abort_late(e, list_of(e, number), time_ps)
    me.touched = 0
    me.num_plan += 1
    me.sees = me.num_plan if me.num_running > 0 else FOREVER_PS
    lane.num_plan = 0


@njit
def close_lane(e: Engine, p: PackedPrice, number: int, repeat: int) -> bool:
    """Launches what the policy planned, or puts the lane to sleep; False where the plan breaks a limit."""
    me, lane = e.me, e.lane[number]
    me.last_lane = number
    if lane.num_plan == 0:
        lane.asleep = 1
    else:
        token = 0
        first = lane_at(e, number) + me.in_plan
        for row in range(first, first + ROW * lane.num_plan, ROW):
            token += e.work[row + TOKEN] + e.work[row + PAD]
        if token > me.max_step_token:
            return False
        begin(e, p, number, me.now_ps, repeat)
    if me.num_leaving > 0:
        let_leave(e)
    return True


@njit
def advance(e: Engine, p: PackedPrice, plan: Callable[[Engine], int], horizon_ps: int, budget: int, folds: bool) -> int:
    """Runs one engine until nothing happens before `horizon_ps`, or until `budget` more steps were launched; asks for
    every plan where it does not fold."""
    me = e.me
    last_step = me.num_step + budget
    while True:
        if me.spawned != NONE:
            return SPAWN
        number = next_lane(e)
        end = next_end(e)
        time_ps = next_plan(e)
        if number < 0 or end <= time_ps:
            if end > horizon_ps or end == FOREVER_PS:
                return HORIZON
            me.now_ps = commit(e)
            continue
        if time_ps >= horizon_ps:
            return HORIZON
        if me.num_step >= last_step:
            return BUDGET
        if me.log_max > 0 and e.book[0] >= me.log_max:
            return FULL
        lane = e.lane[number]
        if folds and lane.repeat > 0 and lane.repeat_epoch == me.epoch and time_ps < lane.deadline_ps:
            integrate(e, time_ps)
            if me.num_lane == 1 and me.log_max == 0:
                if repeat_ahead(e, p, time_ps, min(horizon_ps, lane.deadline_ps), last_step - me.num_step) > 0:
                    continue
            elif begin_repeat(e, p, number, time_ps):
                me.now_ps = time_ps
                me.last_lane = number
                continue
        open_lane(e, number, time_ps)
        if not close_lane(e, p, number, plan(e)):
            return BROKEN
