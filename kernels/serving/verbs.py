"""What a policy may do with a replica: look at the queue, admit, make room, preempt, schedule.

A plan is made for one lane (a microbatch of the pipeline; without pipeline stages there is one lane). Its
running sequences stand in order of key, so that the tail is the one to preempt. A policy that wants something
that does not fit gets `False` and decides what to do.
"""

from kernels.jit import njit
from kernels.serving import buddy
from kernels.serving.kvstore import allocate, ceil_div, hold, missing_block, release, resident_unit
from kernels.serving.layout import (
    ASKED_TOKEN,
    AT_LANE,
    BLOCK,
    BLOCK_TOKEN,
    CACHED,
    DECODE,
    DEFERRED,
    EPOCH,
    EVICTABLE_BLOCK,
    FINAL_TOKEN,
    FREE_BLOCK,
    HOST_FREE_BLOCK,
    IDLE,
    IN_FLIGHT,
    IN_OPTION,
    IN_PLAN,
    IN_RUNNING,
    KEY,
    KV,
    KV_TOKEN,
    LANE,
    LANE_NUM,
    LANE_NUM_PLAN,
    LANE_SIZE,
    LAST,
    LAST_END,
    MAX_CONTEXT,
    MAX_SEQ,
    NOW,
    NUM_FLIGHT,
    NUM_HIT_TOKEN,
    NUM_LANE,
    NUM_MOVED_BLOCK,
    NUM_RECOMPUTE,
    NUM_RUNNING,
    NUM_SWAP,
    NUM_UNIT_FIELD,
    OUTPUT,
    PAD,
    PAGED,
    PLAN_LANE,
    PREEMPTED,
    PREFILL,
    PRODUCED,
    PROMPT,
    RESERVE,
    RESERVE_MAX,
    RESERVE_POW2,
    ROLE,
    RUNNING,
    SEQ,
    SHARED,
    SLOT,
    START,
    STATUS,
    SWAP,
    SWAP_BLOCK,
    SWAPPED,
    TARGET,
    TOKEN,
    TOUCHED,
    UNIT_BLOCK,
    UNIT_REF,
    UNIT_START,
    UNIT_TOKEN,
    WAITING,
    WATERMARK_BLOCK,
    Ints,
    Replica,
)
from kernels.serving.waiting import head, pop, push

FOREVER = 1 << 40
"""A plan of decodes that stands until something arrives, ends or runs out of blocks."""


@njit
def lane_at(reg: Ints, lane: int) -> int:
    """Where a lane's section begins."""
    return reg[AT_LANE] + lane * reg[LANE_SIZE]


@njit
def option(r: Replica, k: int) -> float:
    """The k-th of the policy's options."""
    return r.real[IN_OPTION + k]


@njit
def num_running(r: Replica) -> int:
    """Sequences running in the lane being planned."""
    return r.reg[lane_at(r.reg, r.reg[PLAN_LANE]) + LANE_NUM]


@njit
def running(r: Replica, k: int) -> int:
    """The k-th running sequence of the lane being planned, in order of key."""
    return r.reg[lane_at(r.reg, r.reg[PLAN_LANE]) + r.reg[IN_RUNNING] + k]


@njit
def prefill_left(r: Replica, i: int) -> int:
    """Tokens of sequence i to prefill before it decodes; 0: it decodes."""
    return max(0, r.seq[i, TARGET] - r.seq[i, KV])


@njit
def is_swapped(r: Replica, i: int) -> bool:
    """Whether the KV of sequence i lies in host memory."""
    return r.seq[i, STATUS] == SWAPPED


@njit
def cached_token(r: Replica, i: int) -> int:
    """Tokens that sequence i would find computed at admission: in the prefix cache, or swapped out."""
    if r.seq[i, STATUS] == SWAPPED:
        return r.seq[i, KV]
    return resident_unit(r, i) * r.reg[UNIT_TOKEN]


@njit
def schedule(r: Replica, i: int, role: int, num_token: int, num_pad: int) -> None:
    """Adds to the plan: sequence i computes `num_token` tokens, and `num_pad` of padding."""
    reg = r.reg
    lane = lane_at(reg, reg[PLAN_LANE])
    row = lane + reg[IN_PLAN] + 4 * reg[lane + LANE_NUM_PLAN]
    reg[row + SEQ] = i
    reg[row + ROLE] = role
    reg[row + TOKEN] = num_token
    reg[row + PAD] = num_pad
    reg[lane + LANE_NUM_PLAN] += 1
    if r.seq[i, START] < 0:
        r.seq[i, START] = reg[NOW]


@njit
def schedule_next(r: Replica, i: int, num_token: int) -> None:
    """Adds running sequence i to the plan: `num_token` tokens of its prompt, or one decoded token."""
    schedule(r, i, PREFILL if prefill_left(r, i) > 0 else DECODE, num_token, 0)


@njit
def schedule_idle(r: Replica, i: int) -> None:
    """Adds a finished sequence that is computed along with its batch and commits nothing."""
    schedule(r, i, IDLE, 1, 0)


@njit
def reserved_token(r: Replica, i: int) -> int:
    """Tokens that a contiguous reservation of sequence i asks for: the longest context; the prompt and its
    output rounded up to a power of two; the prompt and exactly its output (an oracle)."""
    prompt, output = r.seq[i, PROMPT], r.seq[i, OUTPUT]
    if r.reg[RESERVE] == RESERVE_MAX:
        return r.reg[MAX_CONTEXT]
    if r.reg[RESERVE] == RESERVE_POW2:
        return min(r.reg[MAX_CONTEXT], prompt + buddy.ceil_pow2(output))
    return prompt + output


@njit
def admit(r: Replica, num_token: int) -> int:
    """Moves the head of the waiting queue into the lane with KV for its first `num_token` tokens (cached ones
    included) and returns it; -1 where there is no room.

    There is room if the lane has a place and the blocks leave the watermark free. A swapped sequence comes
    back with its KV; where KV is reserved, a contiguous chunk is taken and `num_token` is not looked at.
    """
    reg, seq = r.reg, r.seq
    lane = lane_at(reg, reg[PLAN_LANE])
    if reg[lane + LANE_NUM] >= reg[MAX_SEQ]:
        return -1
    i = head(r)
    if not _take_kv(r, i, num_token):
        return -1
    pop(r)
    seq[i, STATUS] = RUNNING
    seq[i, LANE] = reg[PLAN_LANE]
    reg[KV_TOKEN] += seq[i, KV]
    reg[FINAL_TOKEN] += seq[i, PROMPT] + seq[i, OUTPUT] - 1
    reg[NUM_RUNNING] += 1
    reg[TOUCHED] += 1
    row = lane + reg[IN_RUNNING]
    k = row + reg[lane + LANE_NUM]
    reg[lane + LANE_NUM] += 1
    while k > row and comes_after(seq, reg[k - 1], i):
        reg[k] = reg[k - 1]
        k -= 1
    reg[k] = i
    return i


@njit
def _take_kv(r: Replica, i: int, num_token: int) -> bool:
    reg, seq = r.reg, r.seq
    if reg[RESERVE] != PAGED:
        asked = reserved_token(r, i)
        size = buddy.ceil_pow2(missing_block(r, i, asked))
        address = buddy.take(r.store, size)
        if address < 0:
            return False
        seq[i, SLOT] = address
        seq[i, BLOCK] = size
        reg[FREE_BLOCK] -= size
        reg[ASKED_TOKEN] += asked
        return True
    if seq[i, STATUS] == SWAPPED:
        moved = missing_block(r, i, seq[i, KV])
        need = missing_block(r, i, max(num_token, seq[i, KV]))
        if need + reg[WATERMARK_BLOCK] > reg[FREE_BLOCK] + reg[EVICTABLE_BLOCK]:
            return False
        allocate(r, need)
        seq[i, BLOCK] = need
        reg[HOST_FREE_BLOCK] += moved
        _count_moved(r, moved)
        return True
    found = resident_unit(r, i)
    first = seq[i, UNIT_START]
    room = reg[FREE_BLOCK] + reg[EVICTABLE_BLOCK]
    for k in range(found):  # what is held can no longer be evicted
        if r.store[NUM_UNIT_FIELD * r.unit_id[first + k] + UNIT_REF] == 0:
            room -= reg[UNIT_BLOCK]
    need = max(0, missing_block(r, i, num_token) - found * reg[UNIT_BLOCK])
    if need + reg[WATERMARK_BLOCK] > room:
        return False
    for k in range(found):
        hold(r, r.unit_id[first + k])
    seq[i, SHARED] = found
    allocate(r, need)
    seq[i, BLOCK] = need
    seq[i, KV] = found * reg[UNIT_TOKEN]
    reg[NUM_HIT_TOKEN] += seq[i, KV]
    if seq[i, START] < 0:
        seq[i, CACHED] = seq[i, KV]
    return True


@njit
def _count_moved(r: Replica, num_block: int) -> None:
    r.reg[SWAP_BLOCK] += num_block
    r.reg[NUM_MOVED_BLOCK] += num_block


@njit
def grow(r: Replica, i: int, num_token: int) -> bool:
    """Blocks for `num_token` more tokens of running sequence i; False where there are none left."""
    if r.reg[RESERVE] != PAGED:
        return True
    need = missing_block(r, i, r.seq[i, KV] + num_token)
    if not allocate(r, need):
        return False
    r.seq[i, BLOCK] += need
    return True


@njit
def grow_or_preempt(r: Replica, i: int, num_token: int) -> bool:
    """Blocks for `num_token` more tokens of running sequence i, preempting from the tail of the lane as vLLM does.

    Where i itself is the tail, the tail of another lane that is not in flight goes first if its key is larger;
    while a lane is in flight i waits with what it holds; else i is preempted. False: i does nothing this step.
    """
    reg, seq = r.reg, r.seq
    while not grow(r, i, num_token):
        victim = _tail(reg, reg[PLAN_LANE])
        if victim == i:
            for lane in range(reg[NUM_LANE]):
                tail = _tail(reg, lane)
                if tail >= 0 and reg[lane_at(reg, lane) + IN_FLIGHT] == 0 and comes_after(seq, tail, victim):
                    victim = tail
            if victim == i and reg[NUM_FLIGHT] > 0:
                return False
        preempt(r, victim)
        if victim == i:
            return False
    return True


@njit
def comes_after(seq: Ints, i: int, j: int) -> bool:
    """Whether sequence i stands behind j in order of key, then index."""
    return seq[i, KEY] > seq[j, KEY] or (seq[i, KEY] == seq[j, KEY] and i > j)


@njit
def _tail(reg: Ints, lane: int) -> int:
    """The last running sequence of a lane; -1: none."""
    at = lane_at(reg, lane)
    return reg[at + reg[IN_RUNNING] + reg[at + LANE_NUM] - 1] if reg[at + LANE_NUM] > 0 else -1


@njit
def preempt(r: Replica, i: int) -> None:
    """Sequence i leaves its lane for the waiting queue and gives its blocks back: its KV moves to host memory
    where swapping is on and there is room, else it will be computed again from the prompt and what was produced."""
    reg, seq = r.reg, r.seq
    lane = seq[i, LANE]
    settle(r, lane)
    leave(r, i, lane)
    moved = ceil_div(seq[i, KV], reg[BLOCK_TOKEN])
    if reg[SWAP] == 1 and moved <= reg[HOST_FREE_BLOCK] and seq[i, KV] > 0:
        reg[HOST_FREE_BLOCK] -= moved
        _count_moved(r, moved)
        reg[NUM_SWAP] += 1
        seq[i, STATUS] = SWAPPED
        release(r, i)
    else:
        release(r, i)
        reg[NUM_RECOMPUTE] += 1
        seq[i, STATUS] = WAITING
        seq[i, KV] = 0
        seq[i, TARGET] = seq[i, PROMPT] + seq[i, PRODUCED]
    seq[i, PREEMPTED] += 1
    push(r, i)


@njit
def leave(r: Replica, i: int, lane: int) -> None:
    """Takes i out of the running list and the sums over running sequences."""
    reg = r.reg
    at = lane_at(reg, lane)
    last = at + reg[IN_RUNNING] + reg[at + LANE_NUM] - 1
    k = last
    while reg[k] != i:
        k -= 1
    for j in range(k, last):
        reg[j] = reg[j + 1]
    reg[at + LANE_NUM] -= 1
    drop(r, i)
    r.reg[EPOCH] += 1
    r.reg[TOUCHED] += 1


@njit
def drop(r: Replica, i: int) -> None:
    """Takes i out of the sums over running sequences."""
    r.reg[NUM_RUNNING] -= 1
    r.reg[KV_TOKEN] -= r.seq[i, KV]
    r.reg[FINAL_TOKEN] -= r.seq[i, PROMPT] + r.seq[i, OUTPUT] - 1


@njit
def end_kv(r: Replica, i: int) -> None:
    """Gives back the KV of a sequence that has ended."""
    if r.reg[RESERVE] == PAGED:
        release(r, i)
        return
    buddy.give(r.store, r.seq[i, SLOT], r.seq[i, BLOCK])
    r.reg[ASKED_TOKEN] -= reserved_token(r, i)
    r.reg[FREE_BLOCK] += r.seq[i, BLOCK]
    r.seq[i, BLOCK] = 0


@njit
def settle(r: Replica, lane: int) -> None:
    """Writes the deferred steps of a repeated plan to the lane's sequences."""
    seq, reg = r.seq, r.reg
    at = lane_at(reg, lane)
    steps = reg[at + DEFERRED]
    if steps == 0:
        return
    reg[at + DEFERRED] = 0
    block_token = reg[BLOCK_TOKEN]
    row = at + reg[IN_RUNNING]
    for k in range(row, row + reg[at + LANE_NUM]):
        i = reg[k]
        if seq[i, STATUS] == RUNNING:
            kv = seq[i, KV]
            seq[i, KV] = kv + steps
            seq[i, PRODUCED] += steps
            seq[i, LAST] = reg[at + LAST_END]
            if reg[RESERVE] == PAGED:
                seq[i, BLOCK] += (kv + steps + block_token - 1) // block_token - (kv + block_token - 1) // block_token
