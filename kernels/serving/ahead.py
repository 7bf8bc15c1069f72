"""Running ahead: a replica advances to a horizon in one call, repeating plans while nothing can change them.

Order at one instant: steps end, requests arrive, lanes plan. So a horizon (the next arrival) lets steps end at
that very time but no lane plan, and a router sees exactly what has been committed by then.
"""

from collections.abc import Callable

from kernels.jit import njit
from kernels.serving.abort import abort_late
from kernels.serving.commit import commit, integrate
from kernels.serving.layout import (
    ASLEEP,
    AT_FLIGHT,
    AT_STAGE,
    DEADLINE,
    EPOCH,
    FLIGHT_HEAD,
    IN_FLIGHT,
    IN_PLAN,
    LANE_END,
    LANE_NUM_PLAN,
    LAST_LANE,
    LOG_MAX,
    LOG_NUM,
    MAX_STEP_TOKEN,
    NOW,
    NUM_FLIGHT,
    NUM_LANE,
    NUM_PLAN,
    NUM_RUNNING,
    NUM_STEP,
    PAD,
    PLAN_LANE,
    REPEAT,
    REPEAT_EPOCH,
    SEES,
    SPAWNED,
    STAGE_FREE,
    TOKEN,
    TOUCHED,
    Replica,
)
from kernels.serving.price import PackedPrice
from kernels.serving.repeat import repeat_ahead
from kernels.serving.step import begin, begin_repeat
from kernels.serving.verbs import lane_at, settle
from kernels.units import FOREVER_PS

HORIZON, BUDGET, SPAWN, FULL, STUCK, BROKEN, ASTRAY = range(7)
"""Why a loop came back: nothing to do before the horizon; the step budget is used; an end released an arrival;
the log of steps is full; sequences wait and nothing can change; a plan exceeds the tokens of a step; a router
named no replica."""


@njit
def next_lane(r: Replica) -> int:
    """The lane to plan next, in turn: neither in flight nor asleep; -1: none."""
    reg = r.reg
    num = reg[NUM_LANE]
    for k in range(1, num + 1):
        lane = (reg[LAST_LANE] + k) % num
        at = lane_at(reg, lane)
        if reg[at + IN_FLIGHT] == 0 and reg[at + ASLEEP] == 0:
            return lane
    return -1


@njit
def next_end(r: Replica) -> int:
    """When the oldest step in flight ends."""
    reg = r.reg
    if reg[NUM_FLIGHT] == 0:
        return FOREVER_PS
    return reg[lane_at(reg, reg[reg[AT_FLIGHT] + reg[FLIGHT_HEAD]]) + LANE_END]


@njit
def next_plan(r: Replica) -> int:
    """When the first stage can take another step."""
    return max(r.reg[NOW], r.reg[AT_STAGE + STAGE_FREE])


@njit
def open_lane(r: Replica, lane: int, time_ps: int) -> None:
    """Readies a lane for its policy at `time_ps`. Where nothing runs, nothing was planned ahead."""
    reg = r.reg
    settle(r, lane)
    integrate(r, time_ps)
    reg[NOW] = time_ps
    reg[PLAN_LANE] = lane
    abort_late(r, lane, time_ps)
    reg[TOUCHED] = 0
    reg[NUM_PLAN] += 1
    reg[SEES] = reg[NUM_PLAN] if reg[NUM_RUNNING] > 0 else FOREVER_PS
    reg[lane_at(reg, lane) + LANE_NUM_PLAN] = 0


@njit
def close_lane(r: Replica, p: PackedPrice, lane: int, repeat: int) -> bool:
    """Launches what the policy planned, or puts the lane to sleep; False where the plan breaks a limit."""
    reg = r.reg
    reg[LAST_LANE] = lane
    at = lane_at(reg, lane)
    num_row = reg[at + LANE_NUM_PLAN]
    if num_row == 0:
        reg[at + ASLEEP] = 1
        return True
    token = 0
    first = at + reg[IN_PLAN]
    for row in range(first, first + 4 * num_row, 4):
        token += reg[row + TOKEN] + reg[row + PAD]
    if token > reg[MAX_STEP_TOKEN]:
        return False
    begin(r, p, lane, reg[NOW], repeat)
    return True


@njit
def advance(r: Replica, p: PackedPrice, plan: Callable[[Replica], int], horizon_ps: int, budget: int) -> int:
    """Runs one replica until nothing happens before `horizon_ps`, or until `budget` more steps were launched."""
    reg = r.reg
    last_step = reg[NUM_STEP] + budget
    while True:
        if reg[SPAWNED] == 1:
            return SPAWN
        lane = next_lane(r)
        end = next_end(r)
        time_ps = next_plan(r)
        if lane < 0 or end <= time_ps:
            if end > horizon_ps or end == FOREVER_PS:
                return HORIZON
            reg[NOW] = commit(r)
            continue
        if time_ps >= horizon_ps:
            return HORIZON
        if reg[NUM_STEP] >= last_step:
            return BUDGET
        if reg[LOG_MAX] > 0 and reg[LOG_NUM] >= reg[LOG_MAX]:
            return FULL
        at = lane_at(reg, lane)
        if reg[at + REPEAT] > 0 and reg[at + REPEAT_EPOCH] == reg[EPOCH] and time_ps < reg[at + DEADLINE]:
            integrate(r, time_ps)
            if reg[NUM_LANE] == 1 and reg[LOG_MAX] == 0:
                if repeat_ahead(r, p, time_ps, min(horizon_ps, reg[at + DEADLINE]), last_step - reg[NUM_STEP]) > 0:
                    continue
            elif begin_repeat(r, p, lane, time_ps):
                reg[NOW] = time_ps
                reg[LAST_LANE] = lane
                continue
        open_lane(r, lane, time_ps)
        if not close_lane(r, p, lane, plan(r)):
            return BROKEN
