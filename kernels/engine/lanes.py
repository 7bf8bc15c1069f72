"""Lanes and their running lists: where a lane's section lies, who leaves it, what it has deferred."""

from kernels.engine import buddy
from kernels.engine.records import DECODE, HANDED, PAGED, RESERVE_MAX, RESERVE_POW2, ROLE, ROW, SEQ, SWAPPED, Engine
from kernels.engine.store import block_for, release
from kernels.errors import PlanError
from kernels.jit import njit, njit_inline


@njit_inline
def lane_at(e: Engine, lane: int) -> int:
    """Where a lane's section of `work` begins."""
    return e.me.at_lane + lane * e.me.lane_size


@njit_inline
def list_of(e: Engine, lane: int) -> int:
    """The lane whose running list a lane plans from."""
    return 0 if e.me.pooled == 1 else lane


@njit_inline
def exists(e: Engine, i: int) -> None:
    """Raises where a user's policy names a sequence that does not exist."""
    if e.me.checked == 1 and (i < 0 or i >= len(e.seq)):
        raise PlanError("names a sequence that does not exist")


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
def count_moved(e: Engine, num_block: int) -> None:
    """Counts blocks that move between device and host."""
    e.me.swap_block += num_block
    e.me.num_moved_block += num_block


@njit
def comes_after(e: Engine, i: int, j: int) -> bool:
    """Whether sequence i stands behind j in order of key, then index."""
    return e.seq[i].key > e.seq[j].key or (e.seq[i].key == e.seq[j].key and i > j)


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


@njit
def is_swapped(e: Engine, i: int) -> bool:
    """Whether the KV of sequence i lies whole elsewhere: in host memory, or computed by another pool."""
    exists(e, i)
    return e.seq[i].status == SWAPPED or e.seq[i].status == HANDED


@njit
def step_of_repeat(e: Engine, kv: int) -> int:
    """Blocks that a decode which holds `kv` tokens takes in a repeated step."""
    return block_for(e, kv, kv + 1) - block_for(e, kv - 1, kv)


@njit
def repeated_block(e: Engine, i: int, number: int) -> int:
    """Blocks that the repeated step in flight in a lane (-1: none) has taken for sequence i, which its record counts
    once the step has ended and been settled."""
    s = e.seq[i]
    if number < 0 or e.me.reserve != PAGED or s.ahead > 0 or s.kv < s.target:
        return 0
    if e.lane[number].in_flight == 0 or e.lane[number].repeating == 0:
        return 0
    return step_of_repeat(e, s.kv)
