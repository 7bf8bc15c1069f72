"""A sequence comes in: the head of the waiting queue takes its KV, what it finds in the cache included."""

from kernels.engine import buddy
from kernels.engine.adapter import adapter_room, hold_adapter
from kernels.engine.branch import look_up
from kernels.engine.cache import find, hold, take_back, unlink
from kernels.engine.heap import head, pop
from kernels.engine.lanes import comes_after, count_moved, is_swapped, lane_at, list_of, reserved_token
from kernels.engine.records import PAGED, RUNNING, SWAPPED, Engine
from kernels.engine.store import allocate, block_for, claim, own_block, resident_unit, step_block
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
        moved = block_for(e, s.kv, s.kv) if s.status == SWAPPED else 0
        need = block_for(e, s.kv, max(num_token, s.kv))
        if need + me.watermark_block + adapter_room(e, i) > me.free_block + me.evictable_block:
            return False
        hold_adapter(e, i)
        allocate(e, need)
        s.block = need
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
    room = me.free_block + me.evictable_block - back - adapter_room(e, i)
    for k in range(found):  # what is held can no longer be evicted
        if e.unit[find(e, e.unit_id[0, s.unit_start + k])].ref == 0:
            room -= me.unit_block
    need = max(0, step_block(e, token, num_token) - held)  # whole prompts are computed step by step, windows too
    floor = me.watermark_block if me.num_running > 0 or me.by_admission == 0 else 0
    if need + floor > room:
        return False
    if me.admit_whole == 1 and step_block(e, token, max(num_token, s.target)) - held > room:
        return False
    look_up(e, i, found, own)
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
    claim(e, need)
    s.shared = found
    s.joined = 0
    s.block = need + back
    s.kv = token
    me.num_hit_token += token
    if s.start_ps < 0:
        s.cached = token
    return True
