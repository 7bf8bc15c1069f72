"""KV blocks of an engine: how many a sequence needs, allocation on demand, sharing of named prefix units.

Blocks are counted, not addressed: any free block serves any sequence (PagedAttention). How many blocks tokens take is
the sum over *groups* of layers, each with a rule: `linear` keeps every token, `window` the last `size` tokens,
`budget` at most `size` tokens, `ratio` an entry every `size` tokens, `state` what does not grow; `weight` is the blocks
of the store that `block_token` tokens (entries; a sequence) of the group take. `align` are states that others may find;
their blocks are counted apart (`kernels.engine.snapshot`).

At any time: free + evictable + held units + private blocks = all blocks.
"""

from typing import Any

from kernels.engine.branch import join, join_own, part
from kernels.engine.cache import NONE, evict, find, hold, insert, leave_behind, let_go, use
from kernels.engine.records import (
    ALIGN,
    BUDGET,
    GROUP_FIELDS,
    GROUP_RULE,
    GROUP_SIZE,
    GROUP_WEIGHT,
    LINEAR,
    PAGED,
    RATIO,
    WINDOW,
    Engine,
    Ints,
)
from kernels.engine.snapshot import found_state, release_states
from kernels.engine.tier import find_below
from kernels.jit import njit, njit_inline


@njit
def ceil_div(a: int, b: int) -> int:
    """The smallest integer not below a / b of non-negative integers."""
    return (a + b - 1) // b


@njit_inline
def block_for(e: Engine, computed: int, num_token: int) -> int:
    """Blocks for `num_token` tokens of which `computed` have been computed before (a window has left behind those
    that no later query reads)."""
    if e.me.plain == 1:
        return (num_token + e.me.block_token - 1) // e.me.block_token
    return _by_group(e.me, e.work, computed, num_token)


@njit
def _by_group(me: Any, work: Ints, computed: int, num_token: int) -> int:
    size = me.block_token
    num_block = 0
    for g in range(me.num_group):
        at = me.at_group + g * len(GROUP_FIELDS)
        rule, reach, weight = work[at + GROUP_RULE], work[at + GROUP_SIZE], work[at + GROUP_WEIGHT]
        if rule == LINEAR:
            num_block += weight * ceil_div(num_token, size)
        elif rule == WINDOW:
            num_block += weight * (ceil_div(num_token, size) - max(0, computed - reach + 1) // size)
        elif rule == BUDGET:
            num_block += weight * ceil_div(min(num_token, max(reach, num_token - computed)), size)
        elif rule == RATIO:
            num_block += weight * ceil_div(num_token // reach, size)
        elif rule != ALIGN:
            num_block += weight
    return num_block


@njit
def step_block(e: Engine, computed: int, num_token: int) -> int:
    """The most blocks that `num_token` tokens take while what is not `computed` is, in steps as long as may be that
    begin anywhere in a block."""
    step = e.me.max_step_token
    if e.me.plain == 1 or num_token - computed <= step:
        return block_for(e, computed, num_token)
    size, num_block = e.me.block_token, block_for(e, num_token - step, num_token)
    for g in range(e.me.num_group):
        at = e.me.at_group + g * len(GROUP_FIELDS)
        if e.work[at + GROUP_RULE] == WINDOW:
            reach, weight = e.work[at + GROUP_SIZE], e.work[at + GROUP_WEIGHT]
            held = ceil_div(num_token, size) - max(0, num_token - step - reach + 1) // size
            num_block += weight * (min(ceil_div(num_token, size), ceil_div(step + reach - 1, size) + 1) - held)
    return num_block


@njit
def allocate(e: Engine, num_block: int) -> bool:
    """Takes free blocks, evicting as far as needed; False where that is not enough."""
    me = e.me
    if num_block > me.free_block + me.evictable_block:
        return False
    while me.free_block < num_block:
        evict(e, num_block - me.free_block)
    me.free_block -= num_block
    return True


@njit
def claim(e: Engine, num_block: int) -> bool:
    """The same for the plan being made. Where the cache is a tree, who is looked up behind these may use it again or
    part a branch: what has to be evicted is, once the plan is made (`kernels.engine.advance.close_lane`)."""
    me = e.me
    if me.radix == 0 or me.share_early == 1:
        return allocate(e, num_block)
    if num_block > me.free_block + me.evictable_block:
        return False
    me.free_block -= num_block
    return True


@njit
def make_room(e: Engine, num_token: int) -> None:
    """Evicts until blocks for `num_token` tokens are free beside what the plan has claimed, as far as there are any;
    a plan that stands wants as much in each of its steps."""
    me = e.me
    e.lane[me.plan_lane].room = want = ceil_div(num_token, me.block_token)
    if me.free_block < want and me.evictable_block > 0 and me.num_waiting > 0:
        me.touched += 1  # who waits finds less, and may come in with less
    while me.free_block < want and me.evictable_block > 0:
        evict(e, want - me.free_block)


@njit
def resident_unit(e: Engine, i: int) -> int:
    """Leading units of sequence i that are resident or lie in a tier below, and may be used: one token at least is left
    to compute, and where it needs a state to go on from, there is one behind the last of them."""
    found = resident_key(e, i)
    return found_state(e, i, found) if e.me.state_block > 0 else found


@njit
def resident_key(e: Engine, i: int) -> int:
    """The same, whatever states there are."""
    s = e.seq[i]
    most = min(s.num_unit, (s.target - 1) // e.me.unit_token)
    count = 0
    while count < most:
        unit = e.unit_id[0, s.unit_start + count]
        if find(e, unit) == NONE and (e.me.num_tier == 0 or find_below(e, unit) == NONE):
            break
        count += 1
    return count


@njit
def below_unit(e: Engine, i: int, found: int) -> int:
    """Of the `found` leading units of sequence i, those that are not resident: they need blocks."""
    if e.me.num_tier == 0:
        return 0
    count = 0
    for k in range(found):
        count += 1 if find(e, e.unit_id[0, e.seq[i].unit_start + k]) == NONE else 0
    return count


@njit
def idle_block(e: Engine, i: int, found: int) -> int:
    """Blocks of the `found` leading units of sequence i that could be evicted while it does not hold them."""
    num_block = 0
    for k in range(found):
        entry = find(e, e.unit_id[0, e.seq[i].unit_start + k])
        if entry != NONE and e.unit[entry].ref == 0:
            num_block += e.me.unit_block
    return num_block


@njit
def own_block(e: Engine, i: int, found: int) -> int:
    """Stretches of `block_token` tokens that sequence i left behind and finds again behind `found` units."""
    s = e.seq[i]
    token = found * e.me.unit_token
    if s.run == 0 or token < s.run_from:
        return 0
    most = (s.target - 1 - token) // e.me.block_token
    return max(0, min(s.run // e.me.run_weight - (token - s.run_from) // e.me.block_token, most))


@njit
def share(e: Engine, i: int, num_token: int) -> None:
    """Names the units that the first `num_token` tokens of sequence i complete: its private blocks become a unit, or,
    where somebody else was first, they are freed and the resident unit is held (or kept, as another copy)."""
    s, me = e.seq[i], e.me
    most = min(s.num_unit, num_token // me.unit_token)
    last, is_new = NONE, False
    while s.shared < most:
        at = s.unit_start + s.shared
        k = find(e, e.unit_id[0, at])
        if k == NONE or me.keep_duplicate == 1:
            k = insert(e, e.unit_id[0, at], me.unit_block)
            if me.radix == 1 and last != NONE and is_new:
                join(e, last, k)
            elif me.radix == 1 and last != NONE:
                part(e, last)
            is_new = True
        else:
            hold(e, k)
            me.free_block += me.unit_block
            is_new = False
        last = k
        e.unit_id[1, at] = k
        use(e, k, at)
        s.block -= me.unit_block
        s.shared += 1
    if me.radix == 1 and last != NONE:
        num_full = (num_token - s.shared * me.unit_token) // me.block_token
        if not is_new:
            part(e, last)
        elif num_full > 0:
            join_own(e, i, last, num_full * me.run_weight)


@njit
def release(e: Engine, i: int, keeps: bool) -> None:
    """Gives back every block of sequence i: completed units stay behind as cache, its own full blocks too where
    the store keeps them and `keeps` says that their content stands."""
    s, me = e.seq[i], e.me
    share(e, i, s.kv)
    if me.own_cache == 1 and keeps and s.block > 0:
        named = s.shared * me.unit_token
        full = min(me.run_weight * max(0, (s.kv - named) // me.block_token), s.block)
        blank = s.block - full
        if me.release_order == 0:
            me.free_block += blank
            blank = 0
        leave_behind(e, i, full, blank, named)
    else:
        me.free_block += s.block
    for k in range(s.shared - 1, -1, -1):
        let_go(e, e.unit_id[1, s.unit_start + k])
    if s.entry != NONE:
        let_go(e, s.entry)
        s.entry = NONE
    s.shared = 0
    s.block = 0
    if me.state_block > 0:
        release_states(e, i)


@njit
def whole_block(e: Engine, i: int) -> int:
    """Blocks of all that sequence i keeps while it does not run."""
    return block_for(e, e.seq[i].kv, e.seq[i].kv) + e.me.state_block


@njit_inline
def missing_block(e: Engine, i: int, num_token: int) -> int:
    """Blocks that sequence i needs beyond those it holds for `num_token` tokens of KV in all (below 0: a window has
    passed over some)."""
    s = e.seq[i]
    return block_for(e, s.kv + s.ahead, num_token) - s.block - s.shared * e.me.unit_block


@njit_inline
def used_block(e: Engine) -> int:
    """Blocks that sequences hold."""
    return e.me.num_block - e.me.free_block - e.me.evictable_block


@njit
def is_paged(e: Engine) -> bool:
    """Whether blocks are taken on demand."""
    return e.me.reserve == PAGED
