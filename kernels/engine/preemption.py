"""A sequence grows, and another makes room for it: who goes, and what it leaves behind."""

from kernels.engine.heap import NEVER, push
from kernels.engine.lanes import (
    comes_after,
    count_moved,
    end_kv,
    exists,
    lane_at,
    leave,
    list_of,
    settle_all,
    step_of_repeat,
)
from kernels.engine.records import (
    DECODE,
    FINISHED,
    IDLE,
    LEAVING,
    LOST,
    NO_REASON,
    PAGED,
    ROLE,
    ROW,
    RUNNING,
    SEQ,
    SWAPPED,
    TOKEN,
    WAITING,
    Engine,
)
from kernels.engine.refusal import lost_for_good
from kernels.engine.snapshot import missing_state, pass_states, take_states
from kernels.engine.store import claim, missing_block, release, whole_block
from kernels.errors import PlanError
from kernels.jit import njit, njit_inline

MOST_PREEMPTED = 1 << 20  # times; a policy that preempts one sequence more often goes round in a circle


@njit
def _check_grow(e: Engine, i: int, num_token: int) -> None:
    """Raises where sequence i cannot ask for KV, or not for so much. Who has ended unseen is computed along."""
    exists(e, i)
    s = e.seq[i]
    runs = s.status == RUNNING or (s.status == LEAVING and e.me.ends_unseen == 1)
    if not runs or s.replica != e.me.index or s.lane != list_of(e, e.me.plan_lane):
        raise PlanError("asks for KV of a sequence that does not run in this lane")
    if num_token < 0 or num_token > e.me.max_context_token:
        raise PlanError("asks for KV of tokens below 0 or beyond the longest context")


@njit_inline
def grow(e: Engine, i: int, num_token: int) -> bool:
    """Blocks for `num_token` more tokens of running sequence i; False where there are none left."""
    if e.me.checked == 1:
        _check_grow(e, i, num_token)
    if e.me.reserve != PAGED:
        return True
    s = e.seq[i]
    held = s.kv + s.ahead
    state = 0
    if e.me.state_block > 0:
        pass_states(e, i)
        state = missing_state(e, i, held, held + num_token) * e.me.state_block
    need = missing_block(e, i, held + num_token)
    if need + state > 0:
        if not claim(e, need + state):
            return False
    else:
        e.me.free_block -= need
    s.block += need
    if state > 0:
        take_states(e, i, held, held + num_token)
    return True


@njit
def grow_or_preempt(e: Engine, i: int, num_token: int) -> bool:
    """Blocks for `num_token` more tokens of running sequence i, preempting from the tail of the list as vLLM does.

    Where lanes have lists of their own and i itself is the tail, the tail of another lane that is not in flight goes
    first if its key is larger; while a lane is in flight i waits with what it holds. Where they share one, its tail
    goes, in flight or not. Else i is preempted. False: i does nothing this step.
    """
    me = e.me
    while not grow(e, i, num_token):
        here = list_of(e, me.plan_lane)
        victim = _largest(e, here, i) if me.victim_by_key == 1 else _tail(e, here)
        if victim == i and me.pooled == 0:
            for lane in range(me.num_lane):
                tail = _tail(e, lane)
                if tail >= 0 and e.lane[lane].in_flight == 0 and comes_after(e, tail, victim):
                    victim = tail
            if victim == i and me.num_flight > 0:
                return False
        preempt(e, victim)
        if victim == i:
            return False
    return True


@njit
def _unschedule(e: Engine, i: int) -> None:
    """Takes sequence i out of the plan being made, if it is in it."""
    lane = e.lane[e.me.plan_lane]
    first = lane_at(e, e.me.plan_lane) + e.me.in_plan
    stop = first + ROW * lane.num_plan
    row = first
    while row < stop and e.work[row + SEQ] != i:
        row += ROW
    if row == stop:
        return
    e.seq[i].planned = 0
    if e.work[row + ROLE] != IDLE:
        e.seq[i].ahead -= e.work[row + TOKEN]
    lane.plan_token -= e.work[row + TOKEN]
    lane.num_plan -= 1
    for k in range(row, stop - ROW):
        e.work[k] = e.work[k + ROW]


@njit
def _largest(e: Engine, lane: int, i: int) -> int:
    """The sequence of a running list with the largest key."""
    first = lane_at(e, lane) + e.me.in_running
    worst = i
    for k in range(first, first + e.lane[lane].num):
        if comes_after(e, e.work[k], worst):
            worst = e.work[k]
    return worst


@njit
def _tail(e: Engine, lane: int) -> int:
    """The last sequence of a running list; -1: it has none."""
    num = e.lane[lane].num
    return e.work[lane_at(e, lane) + e.me.in_running + num - 1] if num > 0 else -1


@njit
def _lose(e: Engine, i: int) -> None:
    """Marks the rows of sequence i in steps in flight: they leave no KV, and the token that one may sample."""
    me, s = e.me, e.seq[i]
    done = s.kv + s.ahead
    late = 0
    for number in range(me.num_lane):
        lane = e.lane[number]
        if number == me.plan_lane or lane.in_flight == 0 or lane.empty == 1:
            continue
        first = lane_at(e, number) + me.in_plan
        num = lane.num_still
        if lane.repeating == 1:  # it counts its rows alone: from now on as a plan of its own
            lane.repeating = 0
            lane.num_plan = num
            for row in range(first, first + ROW * num, ROW):
                if e.work[row + ROLE] == DECODE:
                    other = e.seq[e.work[row + SEQ]]
                    other.block += step_of_repeat(e, other.kv)
                    other.ahead += e.work[row + TOKEN]
            done = s.kv + s.ahead
        for row in range(first, first + ROW * num, ROW):
            if e.work[row + SEQ] == i and e.work[row + ROLE] == LOST:  # of an earlier time
                late += e.work[row + TOKEN]
            elif e.work[row + SEQ] == i and e.work[row + ROLE] != IDLE:
                samples = s.flight == number + 1 and done >= s.target
                token = 1 if samples else 0
                if e.work[row + ROLE] == DECODE:
                    token = 1 + (s.accept if e.work[row + TOKEN] > 1 else 0)
                e.work[row + ROLE] = LOST
                e.work[row + TOKEN] = token
                late += e.work[row + TOKEN]
                s.stale += me.drains
    if me.share_early == 1:
        s.kv = done  # what was scheduled can be found again
    s.ahead = late  # while it waits: tokens that are still to come
    s.flight = 0


@njit
def preempt(e: Engine, i: int) -> None:
    """Sequence i leaves its lane for the waiting queue and gives its blocks back: its KV moves to host memory
    where swapping is on and there is room, else it will be computed again from the prompt and what was produced, but
    for what it finds in the cache, or given up where that does not fit. What the plan had of it is taken out."""
    exists(e, i)
    me, s = e.me, e.seq[i]
    if s.status not in (RUNNING, LEAVING) or s.replica != me.index:
        raise PlanError("preempts a sequence that does not run")
    if s.preempted >= MOST_PREEMPTED:
        raise PlanError("has preempted one sequence a million times")
    # where blocks are named as they are scheduled, one that its last step filled has no name yet: that step was planned
    # before its token was known
    unheard = me.plan_ahead * me.share_early == 1 and s.planned == me.num_plan - 1 and s.kv > s.target
    if s.planned == me.num_plan:
        _unschedule(e, i)
    if me.pooled == 0 and (s.ahead > 0 or e.lane[s.lane].in_flight == 1):
        raise PlanError("preempts a sequence whose step has not ended")
    settle_all(e)
    leave(e, i, s.lane)
    if s.status == LEAVING:  # it has ended, and gives its blocks back before the engine hears of it
        end_kv(e, i)
        s.status = FINISHED
        me.num_leaving -= 1
        return
    if me.pooled == 1:
        _lose(e, i)
    moved = whole_block(e, i)
    if me.swap == 1 and moved <= me.host_free_block and s.kv > 0:
        me.host_free_block -= moved
        count_moved(e, moved)
        me.num_swap += 1
        s.status = SWAPPED
        release(e, i, False)
    else:
        s.kv -= 1 if unheard else 0
        release(e, i, True)
        me.num_recompute += 1
        s.status = WAITING
        s.kv = 0
        s.target = s.prompt + s.produced
        give_up(e, i)
    s.preempted += 1
    if me.drains == 1 and me.victim_by_key == 0:  # before all that wait: they may have been admitted after it
        me.front_key -= 1
        s.key = me.front_key
    if s.stale > 0:
        me.num_waiting += 1  # no plan sees it before `kernels.engine.commit` has seen these steps end
    else:
        push(e, i)


@njit
def give_up(e: Engine, i: int) -> None:
    """Where sequence i can never be computed again, no plan sees it any more, and it is aborted as one that was
    stopped."""
    s = e.seq[i]
    why = lost_for_good(e, i)
    if why != NO_REASON:
        s.reason = why
        s.seen = NEVER
        e.me.num_stop += 1 - s.stopped
        s.stopped = 1
