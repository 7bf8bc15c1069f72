"""Running ahead: an engine advances to a horizon in one call, repeating plans while nothing can change them.

Order at one instant: steps end, requests arrive, lanes plan. So a horizon (the next arrival) lets steps end at
that very time but no lane plan, and a router sees exactly what has been committed by then.
"""

from collections.abc import Callable

from kernels.engine.abort import abort_late
from kernels.engine.begin import begin, begin_repeat
from kernels.engine.commit import commit, end_empty, integrate, let_leave
from kernels.engine.heap import END, NONE, PLAN, event, head
from kernels.engine.lanes import lane_at, list_of, settle, settle_all
from kernels.engine.price import PackedPrice
from kernels.engine.records import DECODE, IDLE, IN_FLIGHT_RING, PAD, ROLE, ROW, SEQ, TOKEN, Engine
from kernels.engine.repeat import repeat_ahead
from kernels.engine.store import allocate
from kernels.jit import njit
from kernels.units import FOREVER_PS

HORIZON, BUDGET, SPAWN, FULL, STUCK, BROKEN, ASTRAY, MESSAGE = range(8)
"""Why a loop came back: nothing to do before the horizon; the step budget is used; an end released an arrival;
the log of steps is full; sequences wait and nothing can change; a plan exceeds the tokens of a step or those that a
decode may verify or commit, or has idle rows alone; a router named no engine; a sequence has ended for another pool."""


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
    lane = e.lane[e.work[IN_FLIGHT_RING + e.me.flight_head]]
    return e.me.now_ps if lane.empty == 1 else lane.end_ps


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
    plan = event(next_plan(e), PLAN)
    return plan if e.me.pooled == 1 else min(end, plan)


@njit
def open_lane(e: Engine, number: int, time_ps: int) -> None:
    """Readies a lane for its policy at `time_ps`. Where nothing runs, nothing was planned ahead."""
    me, lane = e.me, e.lane[number]
    if me.pooled == 1:
        settle_all(e)
        for k in range(me.num_lane):  # the last steps of idle lanes are over, and none is repeated
            idle = e.lane[k]
            if idle.in_flight == 0:
                first = lane_at(e, k) + me.in_plan
                for row in range(first, first + ROW * idle.num_still, ROW):
                    s = e.seq[e.work[row + SEQ]]
                    if s.flight == k + 1:
                        s.flight = 0
                idle.num_still = 0
                idle.stands = 0
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
    lane.plan_token = 0
    lane.room = 0


@njit
def _is_busy(e: Engine) -> bool:
    """Whether a step with rows is in flight."""
    busy = 0
    for k in range(e.me.num_lane):
        busy += e.lane[k].in_flight * (1 - e.lane[k].empty)
    return busy > 0


@njit
def rest(e: Engine, number: int) -> None:
    """Nothing was planned: the lane sleeps until something changes (which a preemption is, in this very plan). Where
    lanes share a running list, its empty batch takes a place in flight (all that are left, where such batches fill
    them), and the oldest step must end before the next plan."""
    me, lane = e.me, e.lane[number]
    lane.asleep = 0 if me.touched > 0 else 1
    if me.pooled == 1:
        me.epoch += 1  # what this lane leaves undone, any lane may do
    if me.pooled == 1 and _is_busy(e):
        for k in range(number, number + me.num_lane):
            other = e.lane[k % me.num_lane]
            if other.in_flight == 0 and (k == number or me.empty_fills == 1):
                other.empty = 1
                other.in_flight = 1
                e.work[IN_FLIGHT_RING + (me.flight_head + me.num_flight) % me.num_lane] = k % me.num_lane
                me.num_flight += 1
            other.asleep = 1


@njit
def close_lane(e: Engine, p: PackedPrice, number: int, repeat: int) -> bool:
    """Launches what the policy planned, or puts the lane to sleep; False where the plan breaks a limit."""
    me, lane = e.me, e.lane[number]
    me.last_lane = number
    evicted = me.num_evict
    allocate(e, 0)  # what the plan has claimed beyond the free blocks
    if me.num_evict != evicted and head(e) >= 0:
        me.touched += 1  # who waits finds less, and may come in with less
    if lane.num_plan == 0:
        rest(e, number)
    else:
        token = num_idle = 0
        first = lane_at(e, number) + me.in_plan
        for row in range(first, first + ROW * lane.num_plan, ROW):
            token += e.work[row + TOKEN] + e.work[row + PAD]
            num_idle += 1 if e.work[row + ROLE] == IDLE else 0
            beyond = e.work[row + TOKEN] - 1 if e.work[row + ROLE] == DECODE else 0
            if beyond > 0 and not 0 <= e.seq[e.work[row + SEQ]].accept <= beyond <= me.lookahead:
                return False
        if token > me.max_step_token or (me.hold == 1 and num_idle == lane.num_plan):
            return False
        begin(e, p, number, me.now_ps, repeat)
        end_empty(e)
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
        if me.spawned != NONE or me.handed != NONE:
            return SPAWN
        number = next_lane(e)
        end = next_end(e)
        time_ps = next_plan(e)
        if number < 0 or (end <= time_ps and me.pooled == 0):
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
        if folds and lane.stands > 0 and lane.repeat_epoch == me.epoch and time_ps < lane.deadline_ps:
            integrate(e, time_ps)
            if me.num_lane == 1 and me.log_max == 0:
                if repeat_ahead(e, p, time_ps, min(horizon_ps, lane.deadline_ps), last_step - me.num_step) > 0:
                    continue
            elif begin_repeat(e, p, number, time_ps):
                me.now_ps = time_ps
                me.last_lane = number
                end_empty(e)
                continue
        open_lane(e, number, time_ps)
        if not close_lane(e, p, number, plan(e)):
            return BROKEN
