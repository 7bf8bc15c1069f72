"""A step ends: what it computed is committed, and sequences that are done leave."""

from kernels.engine.gap import bucket
from kernels.engine.gate import let_in
from kernels.engine.heap import BY_ARRIVAL, BY_END, NONE, insert, push, take_out
from kernels.engine.lanes import drop, end_kv, lane_at, list_of
from kernels.engine.records import (
    DECODE,
    DONE,
    FINISHED,
    HELD,
    IDLE,
    IN_FLIGHT_RING,
    KV_GROW,
    KV_MAX_GROW,
    KV_SUM,
    LEAVING,
    LOST,
    NO_REASON,
    NUM_KV_FIELD,
    PREFILL,
    ROLE,
    ROW,
    RUNNING,
    SEQ,
    SWAPPED,
    TOKEN,
    WAITING,
    Engine,
)
from kernels.engine.store import share, used_block, whole_block
from kernels.jit import njit


@njit
def integrate(e: Engine, time_ps: int) -> None:
    """Carries the integrals of KV use over time to `time_ps`."""
    me = e.me
    span = time_ps - me.integrated_ps
    if span > 0:
        me.integrated_ps = time_ps
        me.token_ps += float(me.kv_token) * span
        me.final_ps += float(me.final_token) * span
        me.asked_ps += float(me.asked_token) * span
        me.allocated_ps += float(used_block(e) * me.block_token) * span


@njit
def _oldest(e: Engine) -> int:
    """Takes the lane whose step was launched first out of those in flight."""
    me = e.me
    number = e.work[IN_FLIGHT_RING + me.flight_head]
    me.flight_head = (me.flight_head + 1) % me.num_lane
    me.num_flight -= 1
    e.lane[number].in_flight = 0
    return number


@njit
def end_empty(e: Engine) -> None:
    """A step was launched: where the oldest batch in flight has no rows, it ends before the next plan."""
    if e.me.empty_ends == 1 and e.lane[e.work[IN_FLIGHT_RING + e.me.flight_head]].empty == 1:
        e.lane[_oldest(e)].empty = 0


@njit
def commit(e: Engine) -> int:
    """Commits the oldest step in flight at its end and returns that time."""
    me = e.me
    number = _oldest(e)
    lane = e.lane[number]
    if lane.empty == 1:
        lane.empty = 0
        for k in range(me.num_lane):
            e.lane[k].asleep = 0
        return me.now_ps
    end = lane.end_ps
    integrate(e, end)
    if lane.repeating == 1:
        num_grow = lane.num_grow
        lane.deferred += 1
        lane.stands -= 1
        e.book[me.book_gap + bucket(end - lane.last_end_ps)] += num_grow
        me.kv_token += num_grow
        me.num_output_token += num_grow
        me.load_token += num_grow
    else:
        _commit_plan(e, number, end)
    at = lane_at(e, number)
    for kv in range(at, at + me.num_class * NUM_KV_FIELD, NUM_KV_FIELD):
        e.work[kv + KV_SUM] += e.work[kv + KV_GROW]
        e.work[kv + KV_MAX_GROW] += 1 if e.work[kv + KV_GROW] > 0 else 0
    lane.last_end_ps = end
    for k in range(me.num_lane):
        e.lane[k].asleep = 0
    return end


@njit
def _commit_plan(e: Engine, number: int, end: int) -> None:
    me, lane = e.me, e.lane[number]
    num_end = num_token = num_output = 0
    gap = me.book_gap
    first = lane_at(e, number) + me.in_plan
    for row in range(first, first + ROW * lane.num_plan, ROW):
        role = e.work[row + ROLE]
        if role == IDLE:
            continue
        i = e.work[row + SEQ]
        s = e.seq[i]
        token = e.work[row + TOKEN]
        if role == LOST:
            if token > 0:
                num_output += _arrive_late(e, i, token, end)
                num_end += 1 if s.status == DONE else 0
            if me.drains == 1:
                _drain(e, i)
            continue
        s.ahead -= token
        new = 1  # tokens committed
        if role == DECODE:
            if token > 1:
                new = min(1 + s.accept, s.output - s.produced)
                s.verified += 1
                s.drafted += token - 1
                s.accepted += new - 1
            token = new
        num_token += token
        s.kv += token
        if role == PREFILL:
            if s.shared < s.num_unit:
                share(e, i, s.kv)
            if s.kv < s.target:
                continue
        produced = s.produced + new
        if s.produced == 0:
            s.first_ps = end
        else:
            e.book[gap + bucket(end - s.last_ps)] += 1
        if new > 1:
            e.book[gap] += new - 1  # they arrive together
        s.produced = produced
        num_output += new
        s.last_ps = end
        if produced == s.output:
            num_end += 1
            s.status = DONE
    me.kv_token += num_token
    me.num_output_token += num_output
    me.load_token += num_output
    lane.num_plan = 0
    if num_end > 0:
        lane.stands = 0
        end_done(e, list_of(e, number), end)


@njit
def _arrive_late(e: Engine, i: int, num_token: int, end: int) -> int:
    """Sequence i was preempted while its tokens were in flight; it has them all the same, whether it waits or has been
    admitted again (and is then done with its last, whatever it computes again). Returns how many."""
    me, s = e.me, e.seq[i]
    runs = s.status == RUNNING
    if not runs and s.status not in (WAITING, SWAPPED):
        return 0  # nobody waits for it any more
    new = min(num_token, s.output - s.produced)
    if s.produced == 0:
        s.first_ps = end
    else:
        e.book[me.book_gap + bucket(end - s.last_ps)] += 1
    if new > 1:
        e.book[me.book_gap] += new - 1  # they arrive together
    s.produced += new
    s.last_ps = end
    s.target = s.prompt + s.produced  # what it computed for these tokens is lost
    s.ahead -= 0 if runs else num_token
    me.epoch += 1
    if s.produced == s.output and runs:
        _forget(e, i)
        s.status = DONE
    elif s.produced == s.output:
        if me.drains == 0:
            take_out(e, i)
        else:
            me.num_waiting -= 1
        if s.status == SWAPPED:
            me.host_free_block += whole_block(e, i)
        s.status = FINISHED
        _count_end(e, i, end)
    return new


@njit
def _drain(e: Engine, i: int) -> None:
    """A step that held a row of what sequence i has lost is over; after the last one it is in the queue."""
    s = e.seq[i]
    s.stale -= 1
    if s.stale == 0 and s.status in (WAITING, SWAPPED):
        e.me.num_waiting -= 1
        push(e, i)
        e.me.epoch += 1


@njit
def _forget(e: Engine, i: int) -> None:
    """What steps in flight compute of sequence i is of no use to anybody."""
    me = e.me
    for number in range(me.num_lane):
        lane = e.lane[number]
        if lane.in_flight == 0 or lane.empty == 1 or lane.repeating == 1:
            continue
        first = lane_at(e, number) + me.in_plan
        for row in range(first, first + ROW * lane.num_plan, ROW):
            if e.work[row + SEQ] == i:
                e.work[row + ROLE] = LOST
                e.work[row + TOKEN] = 0
    e.seq[i].ahead = 0
    e.seq[i].flight = 0


@njit
def _count_end(e: Engine, i: int, end: int) -> None:
    me, s = e.me, e.seq[i]
    s.end_ps = end
    s.reason = NO_REASON
    me.outstanding -= 1
    me.load_token -= s.prompt + s.output
    me.num_finished += 1
    me.num_stop -= s.stopped
    release_children(e, i, end)
    tell(e, i)


@njit
def end_done(e: Engine, number: int, end: int) -> None:
    """Ends the sequences of a running list that are done; where a batch is held together, once all of it is done;
    where the engine hears of it late, they keep seat and blocks until `let_leave`."""
    me, lane = e.me, e.lane[number]
    first = lane_at(e, number) + me.in_running
    stop = first + lane.num
    if me.hold == 1:
        for k in range(first, stop):
            if e.seq[e.work[k]].status != DONE:
                return
    late = me.end_late == 1 and me.hold == 0
    kept = first
    for k in range(first, stop):
        i = e.work[k]
        s = e.seq[i]
        if s.status == DONE:
            _count_end(e, i, end)
            if me.hands_over == 1:
                s.step_ps = (
                    end - e.lane[e.work[IN_FLIGHT_RING + (me.flight_head + me.num_lane - 1) % me.num_lane]].begun_ps
                )
                s.status = HELD
                if me.tells == 0:  # else it is a message already
                    me.handed = insert(e.seq, BY_END, me.handed, i)
                drop(e, i)
                continue
            if late:
                s.status = LEAVING
                me.num_leaving += 1
            else:
                end_kv(e, i)
                drop(e, i)
                s.status = FINISHED
                continue
        e.work[kept] = i
        kept += 1
    lane.num = kept - first
    me.epoch += 1


@njit
def let_leave(e: Engine) -> None:
    """Sequences that ended before the last plan was made give their seats and blocks back."""
    me = e.me
    for number in range(1 if me.pooled == 1 else me.num_lane):
        lane = e.lane[number]
        first = lane_at(e, number) + me.in_running
        kept = first
        for k in range(first, first + lane.num):
            i = e.work[k]
            s = e.seq[i]
            if s.status == LEAVING:
                end_kv(e, i)
                drop(e, i)
                s.status = FINISHED
            else:
                e.work[kept] = i
                kept += 1
        lane.num = kept - first
    me.num_leaving = 0
    me.epoch += 1
    for k in range(me.num_lane):
        e.lane[k].asleep = 0


@njit
def tell(e: Engine, i: int) -> None:
    """Makes the end of sequence i a message, where somebody listens."""
    if e.me.tells == 1:
        e.me.handed = insert(e.seq, BY_END, e.me.handed, i)


@njit
def release_children(e: Engine, i: int, end: int) -> None:
    """Lets the requests that waited for i's end arrive after their think time."""
    child = e.seq[i].child
    while child != NONE:
        s = e.seq[child]
        s.arrival_ps = max(s.arrival_ps, end + s.think_ps)
        e.me.spawned = insert(e.seq, BY_ARRIVAL, e.me.spawned, child)
        child = s.sibling
    if e.seq[i].child == NONE:
        let_in(e, end)
