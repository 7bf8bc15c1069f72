"""A sequence comes in: the head of the waiting queue takes its KV, what it finds in the cache included."""

from kernels.engine import buddy
from kernels.engine.adapter import adapter_room, hold_adapter
from kernels.engine.branch import look_up
from kernels.engine.cache import NONE, find, hold, insert, let_go, take_back, unlink, use
from kernels.engine.heap import head, pop
from kernels.engine.lanes import comes_after, count_moved, is_swapped, lane_at, list_of, reserved_token
from kernels.engine.records import PAGED, RUNNING, SWAPPED, Engine
from kernels.engine.snapshot import hold_state, idle_state, is_fresh_state, missing_state, take_states
from kernels.engine.store import (
    allocate,
    below_unit,
    block_for,
    claim,
    idle_block,
    own_block,
    resident_unit,
    step_block,
    whole_block,
)
from kernels.engine.tier import find_below, read
from kernels.errors import PlanError
from kernels.jit import njit


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
        moved = whole_block(e, i) if s.status == SWAPPED else 0
        need = block_for(e, s.kv, max(num_token, s.kv))
        state = 0
        if me.state_block > 0:
            state = missing_state(e, i, 0, max(num_token, s.kv)) * me.state_block
        if need + state + me.watermark_block + adapter_room(e, i) > me.free_block + me.evictable_block:
            return False
        hold_adapter(e, i)
        allocate(e, need + state)
        s.block = need
        if state > 0:
            take_states(e, i, 0, max(num_token, s.kv))
        me.host_free_block += moved
        count_moved(e, moved)
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
    below = below_unit(e, i, found)
    # what is held can no longer be evicted, and what comes up takes blocks
    room = me.free_block + me.evictable_block - back - adapter_room(e, i)
    room -= idle_block(e, i, found) + below * me.unit_block
    need = max(0, step_block(e, token, num_token) - held)  # whole prompts are computed step by step, windows too
    floor = me.watermark_block if me.num_running > 0 or me.by_admission == 0 else 0
    state = last = 0
    if me.state_block > 0:
        if found > 0 and is_fresh_state(e, i, found):
            return False  # it is computed in the step of this plan
        room -= idle_state(e, i, found)
        state = missing_state(e, i, token, num_token) * me.state_block
        last = missing_state(e, i, token, max(num_token, s.target)) * me.state_block
    if need + state + floor > room:
        return False
    if me.admit_whole == 1 and step_block(e, token, max(num_token, s.target)) - held + last > room:
        return False
    look_up(e, i, found, own)
    if own > 0:
        s.run -= back  # its own blocks are its own again; what is left of them is of no use to anybody
        me.evictable_block -= back
        if s.run + s.blank == 0:
            unlink(e, -1 - i)
    _hold_units(e, i, found)
    take_back(e, i)
    hold_adapter(e, i)
    if me.state_block > 0:
        hold_state(e, i, found)
        take_states(e, i, token, num_token)
    claim(e, need + state + below * me.unit_block)
    for at in range(s.unit_start, s.unit_start + found):
        use(e, e.unit_id[1, at], at)
    s.shared = found
    s.joined = 0
    s.block = need + back
    s.kv = token
    me.num_hit_token += token
    if s.start_ps < 0:
        s.cached = token
    return True


@njit
def _hold_units(e: Engine, i: int, found: int) -> None:
    """Sequence i holds its `found` leading units; those in a tier below are read, into blocks still to be taken."""
    me = e.me
    for at in range(e.seq[i].unit_start, e.seq[i].unit_start + found):
        unit = e.unit_id[0, at]
        entry = find(e, unit)
        if entry != NONE:
            hold(e, entry)
        else:
            rank = e.unit[find_below(e, unit)].rank
            ready_ps = read(e, unit)
            entry = insert(e, unit, me.unit_block)
            e.unit[entry].ready_ps, e.unit[entry].rank = ready_ps, rank
            me.num_below_token += me.unit_token
        if me.num_tier > 0:
            me.kv_ready_ps = max(me.kv_ready_ps, e.unit[entry].ready_ps)
        e.unit_id[1, at] = entry


@njit
def read_ahead(e: Engine) -> None:
    """Reads what the head of the queue finds in tiers below while a step runs, if it waits for nothing but its turn:
    nobody holds it yet. It is not read where that would take blocks of its own."""
    me, i = e.me, head(e)
    if i < 0 or is_swapped(e, i):
        return
    s, found = e.seq[i], resident_unit(e, i)
    need = below_unit(e, i, found) * me.unit_block
    if need == 0 or need > me.free_block + me.evictable_block - idle_block(e, i, found):
        return
    planned_ps, me.kv_ready_ps = me.kv_ready_ps, 0
    look_up(e, i, found, 0)
    _hold_units(e, i, found)
    allocate(e, need)
    for at in range(s.unit_start + found - 1, s.unit_start - 1, -1):
        entry = e.unit_id[1, at]
        e.unit[entry].ready_ps = max(e.unit[entry].ready_ps, me.kv_ready_ps)
        let_go(e, entry)
    me.kv_ready_ps = planned_ps
