"""What lies in a store beyond the running sequences: named prefix units, and blocks that sequences left behind.

A *unit* is found by its name in a hash table that all engines share. It is held by `ref` sequences; at zero it joins
the order of eviction, from which it may be found again or evicted. A *run* is what one sequence left behind when it
was preempted or ended: its own full blocks, which only itself can find again, and behind them blocks without content.
It is one entry of the same order, as its blocks were released together; the deepest goes first.

Entries of the order of eviction are numbers: a unit's index (from 1), or -1 - i for the run of sequence i; 0 is none.
"""

from kernels.engine.records import BELADY, LFU, LRU, WAITING, Engine
from kernels.engine.tier import demote
from kernels.engine.unit import FIRST_STATE, NONE, find, insert, remove
from kernels.jit import njit

__all__ = [
    "NONE",
    "append",
    "evict",
    "evicts_unseen",
    "find",
    "hold",
    "insert",
    "leave_behind",
    "let_go",
    "remove",
    "take_back",
    "unlink",
    "use",
]


@njit
def hold(e: Engine, k: int) -> None:
    """One more sequence holds a resident unit."""
    if e.unit[k].ref == 0:
        unlink(e, k)
        e.me.evictable_block -= e.unit[k].block
    e.unit[k].ref += 1


@njit
def let_go(e: Engine, k: int) -> None:
    """One sequence less holds the unit; the last one leaves it to the order of eviction."""
    e.unit[k].ref -= 1
    if e.unit[k].ref == 0:
        append(e, k)
        e.me.evictable_block += e.unit[k].block


@njit
def append(e: Engine, node: int) -> None:
    """Puts a node behind all others in the order of eviction."""
    tail = e.me.lru_tail
    _set_previous(e, node, tail)
    _set_next(e, node, NONE)
    if tail == NONE:
        e.me.lru_head = node
    else:
        _set_next(e, tail, node)
    e.me.lru_tail = node


@njit
def unlink(e: Engine, node: int) -> None:
    """Takes a node out of the order of eviction."""
    if node > 0:
        previous, following = e.unit[node].previous, e.unit[node].next
    else:
        previous, following = e.seq[-1 - node].previous, e.seq[-1 - node].next
    if previous == NONE:
        e.me.lru_head = following
    else:
        _set_next(e, previous, following)
    if following == NONE:
        e.me.lru_tail = previous
    else:
        _set_previous(e, following, previous)


@njit
def _set_next(e: Engine, node: int, value: int) -> None:
    if node > 0:
        e.unit[node].next = value
    else:
        e.seq[-1 - node].next = value


@njit
def _set_previous(e: Engine, node: int, value: int) -> None:
    if node > 0:
        e.unit[node].previous = value
    else:
        e.seq[-1 - node].previous = value


@njit
def _joined(e: Engine, i: int) -> int:
    """The unit in whose branch the first blocks of sequence i's run lie; 0: none."""
    k = e.seq[i].joined
    return k if k != NONE and e.unit[k].tail == i + 1 else NONE


@njit
def _evict_branch(e: Engine, k: int) -> None:
    """Evicts a unit, and those before it in its branch."""
    me = e.me
    while k != NONE and e.unit[k].ref == 0:
        above, below = e.unit[k].above, e.unit[k].below
        if above != NONE:
            e.unit[above].below = NONE
        if below != NONE:
            e.unit[below].above = NONE
        unlink(e, k)
        me.evictable_block -= e.unit[k].block
        remove(e, k)
        me.free_block += e.unit[k].block
        # of copies the last goes down; adapters lie on the host all the same, states go nowhere
        if me.num_tier > 0 and e.unit[k].unit < FIRST_STATE and find(e, e.unit[k].unit) == NONE:
            me.kv_ready_ps = max(me.kv_ready_ps, demote(e, e.unit[k].unit, e.unit[k].rank))
        me.num_evict += 1
        k = above
    me.epoch += 1  # what stood may not: more blocks are free than were asked for


@njit
def evict(e: Engine, want: int) -> None:
    """Evicts what comes first: a whole unit, or at most `want` blocks of a run, the deepest first; and all of a
    branch. In a tree what a run holds of its prompt and of its output are a branch each."""
    me = e.me
    node = me.lru_head if me.evict_by == LRU else _least(e)
    if node > 0:
        _evict_branch(e, node)
        return
    s = e.seq[-1 - node]
    joined = _joined(e, -1 - node)
    if s.blank > 0:
        taken = min(want, s.blank)
        s.blank -= taken
    else:
        taken = min(want, s.run)
        if me.radix == 1:
            prompt = max(0, s.target - s.run_from) // me.block_token * me.run_weight
            taken = s.run - prompt if s.run > prompt else s.run
        if joined != NONE and taken > s.run - s.branch:
            taken = s.run
        s.run -= taken
        me.num_evict += taken
        if s.status == WAITING:
            me.epoch += 1  # who waits finds less of its own
    me.evictable_block -= taken
    me.free_block += taken
    if s.run + s.blank == 0:
        unlink(e, node)
        if joined != NONE:
            _evict_branch(e, joined)


@njit
def use(e: Engine, k: int, at: int) -> None:
    """Notes that the sequence whose name of the unit stands at `at` of `unit_id` uses entry k."""
    if e.me.evict_by == LFU:
        e.unit[k].rank += 1
    elif e.me.evict_by == BELADY:
        e.unit[k].rank = e.unit_id[2, at]


@njit
def _least(e: Engine) -> int:
    """What is evicted next where it is not the oldest: a run, which has no name to be asked for by, else the unit of
    the smallest rank, of equal ones the oldest."""
    best = node = e.me.lru_head
    while node != NONE:
        if node < 0:
            return node
        if e.unit[node].rank < e.unit[best].rank:
            best = node
        node = e.unit[node].next
    return best


@njit
def leave_behind(e: Engine, i: int, num_full: int, num_blank: int, from_token: int) -> None:
    """Sequence i leaves blocks in the order of eviction: full ones whose content begins at `from_token`, and blank
    ones behind them."""
    s = e.seq[i]
    s.run = num_full
    s.blank = num_blank
    s.run_from = from_token
    if num_full + num_blank > 0:
        append(e, -1 - i)
        e.me.evictable_block += num_full + num_blank


@njit
def take_back(e: Engine, i: int) -> None:
    """What sequence i left behind becomes free blocks."""
    s = e.seq[i]
    num = s.run + s.blank
    if num > 0:
        unlink(e, -1 - i)
        e.me.evictable_block -= num
        e.me.free_block += num
        s.run = 0
        s.blank = 0


@njit
def evicts_unseen(e: Engine, num_block: int) -> bool:
    """Whether `num_block` blocks come out of free ones and of one run that nobody looks for any more, so that their
    eviction changes nothing for who waits."""
    want = num_block - e.me.free_block
    if want <= 0:
        return True
    if e.me.lru_head >= 0:
        return False
    i = -1 - e.me.lru_head
    s = e.seq[i]
    run = s.run - s.branch if _joined(e, i) != NONE else s.run
    return s.status != WAITING and (s.blank if s.blank > 0 else run) >= want
