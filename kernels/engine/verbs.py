"""What a policy may do with an engine: look at the queue, admit, make room, preempt, schedule.

This is the module that a policy file imports. A plan is made for one lane (a microbatch of the pipeline; without
pipeline stages there is one lane). Its running sequences stand in order of key or of admission, as the engine's
profile says, so that the tail is the one to preempt. A policy that wants something that does not fit gets `False`
(or -1) and decides what to do; one that asks for what cannot be (a sequence that does not exist or does not run, one
twice in a plan, tokens without KV) gets a `PlanError`. `e` is the engine, `i` a sequence.
"""

from kernels.engine import buddy
from kernels.engine.adapter import adapter_room, hold_adapter
from kernels.engine.cache import find, hold, take_back, unlink
from kernels.engine.heap import head, pop, push
from kernels.engine.records import (
    DECODE,
    DONE,
    FINISHED,
    HANDED,
    IDLE,
    LEAVING,
    LOST,
    MAX_OPTION,
    PAD,
    PAGED,
    PREFILL,
    RESERVE_MAX,
    RESERVE_POW2,
    ROLE,
    ROW,
    RUNNING,
    SEQ,
    SWAPPED,
    TOKEN,
    WAITING,
    Engine,
)
from kernels.engine.store import (
    allocate,
    block_for,
    missing_block,
    own_block,
    release,
    resident_unit,
    share,
    step_block,
)
from kernels.errors import PlanError
from kernels.jit import njit, njit_inline

MOST_PREEMPTED = 1 << 20  # times; a policy that preempts one sequence more often goes round in a circle
FOREVER = 1 << 40
"""A plan of decodes that stands until something arrives, ends or runs out of blocks."""

__all__ = [
    "FOREVER",
    "admit",
    "cached_token",
    "decode_token",
    "goes_on",
    "grow",
    "grow_or_preempt",
    "head",
    "is_alone",
    "is_done",
    "is_shut",
    "is_swapped",
    "kv_token",
    "left_output",
    "left_token",
    "max_step_token",
    "num_running",
    "option",
    "output_token",
    "page_token",
    "part_of",
    "place_of",
    "preempt",
    "prefill_left",
    "program_of",
    "prompt_token",
    "room_beside",
    "room_token",
    "running",
    "schedule",
    "schedule_idle",
    "schedule_next",
    "shut",
    "target_token",
    "touched",
    "wanted_token",
]  # fmt: skip


@njit_inline
def lane_at(e: Engine, lane: int) -> int:
    """Where a lane's section of `work` begins."""
    return e.me.at_lane + lane * e.me.lane_size


@njit_inline
def list_of(e: Engine, lane: int) -> int:
    """The lane whose running list a lane plans from."""
    return 0 if e.me.pooled == 1 else lane


@njit_inline
def _exists(e: Engine, i: int) -> None:
    if e.me.checked == 1 and (i < 0 or i >= len(e.seq)):
        raise PlanError("names a sequence that does not exist")


@njit_inline
def option(e: Engine, k: int) -> float:
    """The k-th of the policy's options."""
    if k < 0 or k >= MAX_OPTION:
        raise PlanError("asks for an option that does not exist")
    return e.real[k]


@njit_inline
def max_step_token(e: Engine) -> int:
    """Tokens that a step may compute."""
    return e.me.max_step_token


@njit_inline
def touched(e: Engine) -> bool:
    """Whether this plan has admitted, preempted or moved something."""
    return e.me.touched > 0


@njit
def prompt_token(e: Engine, i: int) -> int:
    """Tokens of the prompt of sequence i."""
    _exists(e, i)
    return e.seq[i].prompt


@njit
def output_token(e: Engine, i: int) -> int:
    """Tokens that sequence i will produce: what only an oracle knows."""
    _exists(e, i)
    return e.seq[i].output


@njit
def target_token(e: Engine, i: int) -> int:
    """Tokens to prefill before sequence i decodes: its prompt, after a recompute what it produced too."""
    _exists(e, i)
    return e.seq[i].target


@njit
def kv_token(e: Engine, i: int) -> int:
    """Tokens of sequence i whose KV is held."""
    _exists(e, i)
    return e.seq[i].kv


@njit
def program_of(e: Engine, i: int) -> int:
    """The live program that asked for sequence i; -1: none."""
    return e.seq[i].program


@njit
def part_of(e: Engine, i: int) -> int:
    """Requests that its program had asked for before sequence i."""
    return e.seq[i].part


@njit_inline
def num_running(e: Engine) -> int:
    """Sequences in the running list of the lane being planned."""
    return e.lane[list_of(e, e.me.plan_lane)].num


@njit_inline
def running(e: Engine, k: int) -> int:
    """The k-th sequence of that list."""
    if e.me.checked == 1 and (k < 0 or k >= num_running(e)):
        raise PlanError("looks beyond the ends of the running list")
    return e.work[lane_at(e, list_of(e, e.me.plan_lane)) + e.me.in_running + k]


@njit
def left_output(e: Engine, i: int) -> int:
    """Output tokens that sequence i may still produce: what was asked for, less what it has."""
    return e.seq[i].output - e.seq[i].produced


@njit
def page_token(e: Engine) -> int:
    """Tokens of a block."""
    return e.me.block_token


@njit
def shut(e: Engine) -> None:
    """Notes that nobody is to be admitted before a running sequence leaves."""
    e.me.shut = 1


@njit
def is_shut(e: Engine) -> bool:
    """Whether that was noted, and nobody has left since."""
    return e.me.shut == 1 and e.me.num_running > 0


@njit
def room_token(e: Engine) -> int:
    """Tokens for which there are blocks that nobody holds."""
    return (e.me.free_block + e.me.evictable_block) * e.me.block_token


@njit
def room_beside(e: Engine, i: int) -> int:
    """The same, once sequence i held what it finds in the cache."""
    found = resident_unit(e, i)
    held = own_block(e, i, found) * e.me.run_weight
    for k in range(found):
        if e.unit[find(e, e.unit_id[0, e.seq[i].unit_start + k])].ref == 0:
            held += e.me.unit_block
    return room_token(e) - held * e.me.block_token


@njit_inline
def prefill_left(e: Engine, i: int) -> int:
    """Tokens of sequence i to prefill before it decodes; 0: it decodes."""
    _exists(e, i)
    s = e.seq[i]
    return max(0, s.target - s.kv - s.ahead)


@njit_inline
def decode_token(e: Engine, i: int) -> int:
    """Tokens that a decode of sequence i computes: the next one and those drafted beyond it, none beyond the context
    (where its end is, nobody knows)."""
    _exists(e, i)
    s = e.seq[i]
    return min(1 + s.draft, e.me.max_context_token - s.kv)


@njit_inline
def wanted_token(e: Engine, i: int) -> int:
    """Tokens that running sequence i could compute now: the rest of its prompt, or a decode; 0 where its last step has
    not ended or it has no more to do. Who has ended unseen is computed along."""
    _exists(e, i)
    s = e.seq[i]
    if s.status != RUNNING:
        return 1 if s.status == LEAVING and e.me.ends_unseen == 1 and s.kv + 1 < e.me.max_context_token else 0
    left = s.target - s.kv - s.ahead
    if left > 0:
        return left
    if s.ahead > 0 or (s.flight > 0 and e.lane[s.flight - 1].in_flight == 1):
        return 0
    return decode_token(e, i)


@njit
def is_swapped(e: Engine, i: int) -> bool:
    """Whether the KV of sequence i lies whole elsewhere: in host memory, or computed by another pool."""
    _exists(e, i)
    return e.seq[i].status == SWAPPED or e.seq[i].status == HANDED


@njit
def is_done(e: Engine, i: int) -> bool:
    """Whether sequence i has produced all its tokens and waits for its batch, or for the engine to hear of it."""
    _exists(e, i)
    return e.seq[i].status == DONE or e.seq[i].status == LEAVING


@njit
def cached_token(e: Engine, i: int) -> int:
    """Tokens that sequence i would find computed at admission: in the prefix cache, or swapped out."""
    _exists(e, i)
    if is_swapped(e, i):
        return e.seq[i].kv
    found = resident_unit(e, i)
    return found * e.me.unit_token + own_block(e, i, found) * e.me.block_token


@njit_inline
def schedule(e: Engine, i: int, role: int, num_token: int, num_pad: int) -> None:
    """Adds to the plan: sequence i computes `num_token` tokens, and `num_pad` of padding."""
    me = e.me
    if me.checked == 1:
        _check_row(e, i, role, num_token, num_pad)
    lane = e.lane[me.plan_lane]
    row = lane_at(e, me.plan_lane) + me.in_plan + ROW * lane.num_plan
    e.work[row + SEQ] = i
    e.work[row + ROLE] = role
    e.work[row + TOKEN] = num_token
    e.work[row + PAD] = num_pad
    lane.num_plan += 1
    lane.plan_token += num_token
    s = e.seq[i]
    s.planned = me.num_plan
    if role != IDLE:
        s.ahead += num_token
        if me.pooled == 1:
            s.flight = me.plan_lane + 1
        if role == PREFILL and me.share_early == 1 and s.shared < s.num_unit:
            share(e, i, s.kv + s.ahead)
    if s.start_ps < 0:
        s.start_ps = me.now_ps


@njit
def _check_row(e: Engine, i: int, role: int, num_token: int, num_pad: int) -> None:
    """Raises where such a row cannot be in the plan."""
    _exists(e, i)
    me, s = e.me, e.seq[i]
    if s.planned == me.num_plan and s.replica == me.index:
        raise PlanError("schedules a sequence twice in one plan")
    if s.replica != me.index or s.lane != list_of(e, me.plan_lane):
        raise PlanError("schedules a sequence that is not in this running list")
    if role == IDLE:
        if s.status not in (DONE, LEAVING):
            raise PlanError("schedules a sequence as idle that is not done, or does not run")
        if num_token != 1 or num_pad != 0:
            raise PlanError("schedules an idle sequence with other than one token")
        return
    if s.status != RUNNING:
        raise PlanError("schedules a sequence that does not run, or is done")
    most = wanted_token(e, i)
    if num_token < 1 or num_token > most:
        raise PlanError("schedules other than 1 to wanted_token(e, i) tokens")
    if role != (PREFILL if prefill_left(e, i) > 0 else DECODE):
        raise PlanError("schedules with a role that the sequence is not in")
    if num_pad < 0 or num_pad > me.max_step_token or (num_pad > 0 and role == DECODE):
        raise PlanError("schedules padding that cannot be")
    if me.reserve == PAGED and missing_block(e, i, s.kv + s.ahead + num_token) > 0:
        raise PlanError("schedules tokens without KV blocks for them: ask admit or grow_or_preempt first")


@njit_inline
def schedule_next(e: Engine, i: int, num_token: int) -> None:
    """Adds running sequence i to the plan: `num_token` tokens of its prompt, or decoded ones."""
    role = PREFILL if prefill_left(e, i) > 0 else DECODE
    schedule(e, i, IDLE if e.seq[i].status == LEAVING else role, num_token, 0)


@njit
def schedule_idle(e: Engine, i: int) -> None:
    """Adds a finished sequence that is computed along with its batch and commits nothing."""
    schedule(e, i, IDLE, 1, 0)


@njit
def reserved_token(e: Engine, i: int) -> int:
    """Tokens that a contiguous reservation of sequence i asks for: the longest context; the prompt and its
    output rounded up to a power of two; the prompt and exactly its output (an oracle); and room to verify drafts."""
    s, me = e.seq[i], e.me
    if me.reserve == RESERVE_MAX:
        return me.max_context_token
    output = buddy.ceil_pow2(s.output) if me.reserve == RESERVE_POW2 else s.output
    return min(me.max_context_token, s.prompt + output + me.lookahead)


@njit
def admit(e: Engine, num_token: int) -> int:
    """Moves the head of the waiting queue into the lane with KV for its first `num_token` tokens (cached ones
    included) and returns it; -1 where there is no room.

    There is room if the running list has a place and the blocks leave the watermark free. A swapped sequence comes
    back with its KV; where KV is reserved, a contiguous chunk is taken and `num_token` is not looked at.
    """
    me = e.me
    if num_token < 0 or num_token > me.max_context_token:
        raise PlanError("admits with tokens below 0 or beyond the longest context")
    here = list_of(e, me.plan_lane)
    lane = e.lane[here]
    if lane.num >= me.max_seq:
        return -1
    i = head(e)
    if i < 0 or not _take_kv(e, i, num_token):
        return -1
    pop(e)
    s = e.seq[i]
    s.status = RUNNING
    s.lane = here
    s.ahead = 0
    s.flight = 0
    me.kv_token += s.kv
    me.final_token += s.prompt + s.output - 1
    me.num_running += 1
    me.touched += 1
    first = lane_at(e, here) + me.in_running
    k = first + lane.num
    lane.num += 1
    while me.by_admission == 0 and k > first and comes_after(e, e.work[k - 1], i):
        e.work[k] = e.work[k - 1]
        k -= 1
    e.work[k] = i
    return i


@njit
def _take_kv(e: Engine, i: int, num_token: int) -> bool:
    me, s = e.me, e.seq[i]
    if me.reserve != PAGED:
        asked = reserved_token(e, i)
        size = buddy.ceil_pow2(block_for(e, 0, asked))
        address = buddy.take(e.store, size)
        if address < 0:
            return False
        s.slot = address
        s.block = size
        me.free_block -= size
        me.asked_token += asked
        return True
    if is_swapped(e, i):
        moved = block_for(e, s.kv, s.kv) if s.status == SWAPPED else 0
        need = block_for(e, s.kv, max(num_token, s.kv))
        if need + me.watermark_block + adapter_room(e, i) > me.free_block + me.evictable_block:
            return False
        hold_adapter(e, i)
        allocate(e, need)
        s.block = need
        me.host_free_block += moved
        _count_moved(e, moved)
        return True
    return _take_paged(e, i, num_token)


@njit
def _take_paged(e: Engine, i: int, num_token: int) -> bool:
    me, s = e.me, e.seq[i]
    found = resident_unit(e, i)
    own = own_block(e, i, found)
    token = found * me.unit_token + own * me.block_token
    back = own * me.run_weight
    held = found * me.unit_block + back
    room = me.free_block + me.evictable_block - back - adapter_room(e, i)
    for k in range(found):  # what is held can no longer be evicted
        if e.unit[find(e, e.unit_id[0, s.unit_start + k])].ref == 0:
            room -= me.unit_block
    need = max(0, block_for(e, token, num_token) - held)
    floor = me.watermark_block if me.num_running > 0 or me.by_admission == 0 else 0
    if need + floor > room:
        return False
    if me.admit_whole == 1 and step_block(e, token, max(num_token, s.target)) - held > room:
        return False
    if own > 0:
        s.run -= back  # its own blocks are its own again; what is left of them is of no use to anybody
        me.evictable_block -= back
        if s.run + s.blank == 0:
            unlink(e, -1 - i)
    for k in range(found):
        entry = find(e, e.unit_id[0, s.unit_start + k])
        hold(e, entry)
        e.unit_id[1, s.unit_start + k] = entry
    take_back(e, i)
    hold_adapter(e, i)
    allocate(e, need)
    s.shared = found
    s.block = need + back
    s.kv = token
    me.num_hit_token += token
    if s.start_ps < 0:
        s.cached = token
    return True


@njit
def _count_moved(e: Engine, num_block: int) -> None:
    e.me.swap_block += num_block
    e.me.num_moved_block += num_block


@njit
def _check_grow(e: Engine, i: int, num_token: int) -> None:
    """Raises where sequence i cannot ask for KV, or not for so much."""
    _exists(e, i)
    s = e.seq[i]
    if s.status != RUNNING or s.replica != e.me.index or s.lane != list_of(e, e.me.plan_lane):
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
    need = missing_block(e, i, s.kv + s.ahead + num_token)
    if need > 0:
        if not allocate(e, need):
            return False
    else:
        e.me.free_block -= need
    s.block += need
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
def left_token(e: Engine) -> int:
    """Tokens that the step can still compute beside what is planned."""
    return e.me.max_step_token - e.lane[e.me.plan_lane].plan_token


@njit
def place_of(e: Engine, i: int, k: int) -> int:
    """Where sequence i, once the k-th, stands in the running list after preemptions: at most k."""
    while running(e, k) != i:
        k -= 1
    return k


@njit
def goes_on(e: Engine) -> bool:
    """Whether a sequence that preempted itself leaves the plan to those behind it."""
    return e.me.goes_on == 1


@njit
def is_alone(e: Engine) -> bool:
    """Whether the engine has a single request and does not cut its prompt for others."""
    return e.me.lone_prompt == 1 and e.me.num_running + e.me.num_waiting == 1


@njit
def comes_after(e: Engine, i: int, j: int) -> bool:
    """Whether sequence i stands behind j in order of key, then index."""
    return e.seq[i].key > e.seq[j].key or (e.seq[i].key == e.seq[j].key and i > j)


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
                e.seq[e.work[row + SEQ]].ahead += e.work[row + TOKEN] if e.work[row + ROLE] == DECODE else 0
            done = s.kv + s.ahead
        for row in range(first, first + ROW * num, ROW):
            if e.work[row + SEQ] == i and e.work[row + ROLE] != IDLE:
                samples = s.flight == number + 1 and done >= s.target
                token = 1 if samples else 0
                if e.work[row + ROLE] == DECODE:
                    token = 1 + (s.accept if e.work[row + TOKEN] > 1 else 0)
                e.work[row + ROLE] = LOST
                e.work[row + TOKEN] = token
                late += e.work[row + TOKEN]
    if me.share_early == 1:
        s.kv = done  # what was scheduled can be found again
    s.ahead = late  # while it waits: tokens that are still to come
    s.flight = 0


@njit
def preempt(e: Engine, i: int) -> None:
    """Sequence i leaves its lane for the waiting queue and gives its blocks back: its KV moves to host memory
    where swapping is on and there is room, else it will be computed again from the prompt and what was produced, but
    for what it finds in the cache. What the plan had of it is taken out."""
    _exists(e, i)
    me, s = e.me, e.seq[i]
    if s.status not in (RUNNING, LEAVING) or s.replica != me.index:
        raise PlanError("preempts a sequence that does not run")
    if s.preempted >= MOST_PREEMPTED:
        raise PlanError("has preempted one sequence a million times")
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
    moved = block_for(e, s.kv, s.kv)
    if me.swap == 1 and moved <= me.host_free_block and s.kv > 0:
        me.host_free_block -= moved
        _count_moved(e, moved)
        me.num_swap += 1
        s.status = SWAPPED
        release(e, i, False)
    else:
        release(e, i, True)
        me.num_recompute += 1
        s.status = WAITING
        s.kv = 0
        s.target = s.prompt + s.produced
    s.preempted += 1
    push(e, i)


@njit
def leave(e: Engine, i: int, lane: int) -> None:
    """Takes i out of the running list and the sums over running sequences."""
    last = lane_at(e, lane) + e.me.in_running + e.lane[lane].num - 1
    k = last
    while e.work[k] != i:
        k -= 1
    for j in range(k, last):
        e.work[j] = e.work[j + 1]
    e.lane[lane].num -= 1
    drop(e, i)
    e.me.epoch += 1
    e.me.touched += 1


@njit
def drop(e: Engine, i: int) -> None:
    """Takes i out of the sums over running sequences."""
    s = e.seq[i]
    e.me.shut = 0
    e.me.num_running -= 1
    e.me.kv_token -= s.kv
    e.me.final_token -= s.prompt + s.output - 1


@njit
def end_kv(e: Engine, i: int) -> None:
    """Gives back the KV of a sequence that has ended."""
    me, s = e.me, e.seq[i]
    if me.reserve == PAGED:
        release(e, i, True)
        return
    buddy.give(e.store, s.slot, s.block)
    me.asked_token -= reserved_token(e, i)
    me.free_block += s.block
    s.block = 0


@njit
def settle_all(e: Engine) -> None:
    """Writes the deferred steps of every lane to its sequences."""
    for lane in range(e.me.num_lane):
        settle(e, lane)


@njit
def settle(e: Engine, lane: int) -> None:
    """Writes the deferred steps of a repeated plan to the sequences of its decodes."""
    me, here = e.me, e.lane[lane]
    steps = here.deferred
    if steps == 0:
        return
    here.deferred = 0
    first = lane_at(e, lane) + me.in_plan
    for row in range(first, first + ROW * here.num_still, ROW):
        if e.work[row + ROLE] != DECODE:
            continue
        s = e.seq[e.work[row + SEQ]]
        if me.reserve == PAGED:
            s.block += block_for(e, s.kv + steps - 1, s.kv + steps) - block_for(e, s.kv - 1, s.kv)
        s.kv += steps
        s.produced += steps
        s.last_ps = here.last_end_ps
