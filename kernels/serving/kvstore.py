"""KV blocks of a replica: allocation on demand, and a prefix cache with reference counts and LRU eviction.

Blocks are counted, not addressed: any free block serves any sequence (PagedAttention). A *prefix unit* is a
named stretch of `UNIT_TOKEN` tokens, `UNIT_BLOCK` blocks. A resident unit is held by `ref` sequences; at zero it
joins the tail of the LRU list, where it may be found again or evicted from the head. A sequence gives its units
back deepest first, so that leaves of the prefix tree are evicted before their parents.

At any time: free + evictable + held units + private blocks = all blocks.
"""

from kernels.jit import njit
from kernels.serving.layout import (
    BLOCK,
    BLOCK_TOKEN,
    EPOCH,
    EVICTABLE_BLOCK,
    FREE_BLOCK,
    KV,
    LRU_HEAD,
    LRU_TAIL,
    NUM_EVICT,
    NUM_UNIT_FIELD,
    SHARED,
    TARGET,
    UNIT_BLOCK,
    UNIT_NEXT,
    UNIT_PREVIOUS,
    UNIT_REF,
    UNIT_START,
    UNIT_STOP,
    UNIT_TOKEN,
    Replica,
)

ABSENT = -1
NONE = -1


@njit
def ceil_div(a: int, b: int) -> int:
    """The smallest integer not below a / b of non-negative integers."""
    return (a + b - 1) // b


@njit
def allocate(r: Replica, num_block: int) -> bool:
    """Takes free blocks, evicting the least recently used units as far as needed; False where that is not enough."""
    reg = r.reg
    if num_block > reg[FREE_BLOCK] + reg[EVICTABLE_BLOCK]:
        return False
    while reg[FREE_BLOCK] < num_block:
        unit = reg[LRU_HEAD]
        _unlink(r, unit)
        r.store[NUM_UNIT_FIELD * unit + UNIT_REF] = ABSENT
        reg[FREE_BLOCK] += reg[UNIT_BLOCK]
        reg[NUM_EVICT] += 1
        reg[EPOCH] += 1  # what stood may not: a unit gone leaves more blocks free than were asked for
    reg[FREE_BLOCK] -= num_block
    return True


@njit
def _unlink(r: Replica, unit: int) -> None:
    """Takes a unit out of the LRU list."""
    previous, following = r.store[NUM_UNIT_FIELD * unit + UNIT_PREVIOUS], r.store[NUM_UNIT_FIELD * unit + UNIT_NEXT]
    if previous == NONE:
        r.reg[LRU_HEAD] = following
    else:
        r.store[NUM_UNIT_FIELD * previous + UNIT_NEXT] = following
    if following == NONE:
        r.reg[LRU_TAIL] = previous
    else:
        r.store[NUM_UNIT_FIELD * following + UNIT_PREVIOUS] = previous
    r.reg[EVICTABLE_BLOCK] -= r.reg[UNIT_BLOCK]


@njit
def hold(r: Replica, unit: int) -> None:
    """One more sequence holds a resident unit."""
    if r.store[NUM_UNIT_FIELD * unit + UNIT_REF] == 0:
        _unlink(r, unit)
    r.store[NUM_UNIT_FIELD * unit + UNIT_REF] += 1


@njit
def let_go(r: Replica, unit: int) -> None:
    """One sequence less holds the unit; the last one leaves it at the tail of the LRU list."""
    r.store[NUM_UNIT_FIELD * unit + UNIT_REF] -= 1
    if r.store[NUM_UNIT_FIELD * unit + UNIT_REF] > 0:
        return
    tail = r.reg[LRU_TAIL]
    r.store[NUM_UNIT_FIELD * unit + UNIT_PREVIOUS] = tail
    r.store[NUM_UNIT_FIELD * unit + UNIT_NEXT] = NONE
    if tail == NONE:
        r.reg[LRU_HEAD] = unit
    else:
        r.store[NUM_UNIT_FIELD * tail + UNIT_NEXT] = unit
    r.reg[LRU_TAIL] = unit
    r.reg[EVICTABLE_BLOCK] += r.reg[UNIT_BLOCK]


@njit
def resident_unit(r: Replica, i: int) -> int:
    """Leading units of sequence i that are resident and may be used: one token at least is left to compute."""
    seq = r.seq
    start = seq[i, UNIT_START]
    most = min(seq[i, UNIT_STOP] - start, (seq[i, TARGET] - 1) // r.reg[UNIT_TOKEN])
    count = 0
    while count < most and r.store[NUM_UNIT_FIELD * r.unit_id[start + count] + UNIT_REF] != ABSENT:
        count += 1
    return count


@njit
def share(r: Replica, i: int) -> None:
    """Names the units that sequence i has completed: its private blocks become a unit, or, where somebody else
    was first, they are freed and the resident unit is held."""
    seq, reg = r.seq, r.reg
    start = seq[i, UNIT_START]
    most = min(seq[i, UNIT_STOP] - start, seq[i, KV] // reg[UNIT_TOKEN])
    while seq[i, SHARED] < most:
        unit = r.unit_id[start + seq[i, SHARED]]
        if r.store[NUM_UNIT_FIELD * unit + UNIT_REF] == ABSENT:
            r.store[NUM_UNIT_FIELD * unit + UNIT_REF] = 1
        else:
            hold(r, unit)
            reg[FREE_BLOCK] += reg[UNIT_BLOCK]
        seq[i, BLOCK] -= reg[UNIT_BLOCK]
        seq[i, SHARED] += 1


@njit
def release(r: Replica, i: int) -> None:
    """Gives back every block of sequence i; completed units stay behind as cache."""
    seq = r.seq
    share(r, i)
    start = seq[i, UNIT_START]
    for k in range(seq[i, SHARED] - 1, -1, -1):
        let_go(r, r.unit_id[start + k])
    seq[i, SHARED] = 0
    r.reg[FREE_BLOCK] += seq[i, BLOCK]
    seq[i, BLOCK] = 0


@njit
def missing_block(r: Replica, i: int, num_token: int) -> int:
    """Blocks that sequence i needs beyond those it holds for `num_token` tokens of KV in all."""
    held = r.seq[i, BLOCK] + r.seq[i, SHARED] * r.reg[UNIT_BLOCK]
    return max(0, ceil_div(num_token, r.reg[BLOCK_TOKEN]) - held)
