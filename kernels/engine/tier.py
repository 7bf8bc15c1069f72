"""Tiers below an engine's store (host memory, CXL, NVMe, remote): units that it evicts go down, and come up again.

A unit lies in the first tier below, or in the engine's own store; a tier that is full sends down what its order says
and, where there is nothing below it, loses it. What is found in a tier is read at its request's admission and lies in
the engine's store from then on; a tier of one engine gives it away, one that several share keeps it too. So equal
orders of eviction all the way down are one cache as large as all of them.

Every tier has a link, of two directions: units pass it one after another, at the pace of the slowest where they pass
two (`via`), and engines that share a link wait for each other. The blocks of a unit are free once it has been written
below, which needs room there first; a step begins when what it takes from or gives to a tier has been moved.
"""

from kernels.engine.records import (
    LINK_DOWN_PS,
    LINK_READ_PS,
    LINK_UP_PS,
    LINK_WRITE_PS,
    LRU,
    TIER_FREE,
    TIER_HEAD,
    TIER_LATENCY_PS,
    TIER_LINK,
    TIER_LOST,
    TIER_ORDER,
    TIER_READ,
    TIER_STAYS,
    TIER_STORE,
    TIER_TAIL,
    TIER_VIA,
    TIER_WRITE,
    Engine,
)
from kernels.engine.unit import NONE, find_in, insert_in, remove
from kernels.jit import njit


@njit
def find_below(e: Engine, unit: int) -> int:
    """The entry of a unit in the first tier that has it; 0: none has."""
    for t in range(e.me.num_tier):
        k = find_in(e, unit, e.book[_row(e, t) + TIER_STORE])
        if k != NONE:
            return int(k)
    return NONE


@njit
def read(e: Engine, unit: int) -> int:
    """Reads a unit that lies in a tier; when it has arrived."""
    t = k = 0
    at = _row(e, 0)
    while k == NONE:
        at = _row(e, t)
        k = find_in(e, unit, e.book[at + TIER_STORE])
        t += 1
    end_ps = _pass(e, at, LINK_UP_PS, LINK_READ_PS, max(e.me.now_ps, e.unit[k].ready_ps))
    e.book[at + TIER_READ] += 1
    _unlink(e, at, k)
    if e.book[at + TIER_STAYS] == 1:
        _append(e, at, k)
    else:
        remove(e, k)
        e.book[at + TIER_FREE] += 1
    return end_ps


@njit
def demote(e: Engine, unit: int, rank: int) -> int:
    """Writes a unit that the engine has evicted to the first tier; when the blocks that it had are free."""
    num, name, stop = e.me.num_tier, unit, 0
    while stop < num:  # tiers before `stop` are full: each sends one down
        at = _row(e, stop)
        if e.book[at + TIER_FREE] > 0 or find_in(e, name, e.book[at + TIER_STORE]) != NONE:
            break
        name = e.unit[_victim(e, at)].unit
        stop += 1
    if stop == num:
        at = _row(e, num - 1)
        _take(e, at, _victim(e, at))
        e.book[at + TIER_LOST] += 1
        stop -= 1
    free_ps = e.me.now_ps
    for t in range(stop, 0, -1):
        above = _row(e, t - 1)
        k = _victim(e, above)
        name, order, ready_ps = e.unit[k].unit, e.unit[k].rank, e.unit[k].ready_ps
        _take(e, above, k)
        free_ps = _write(e, _row(e, t), name, order, max(free_ps, ready_ps))
    return _write(e, _row(e, 0), unit, rank, free_ps)


@njit
def forget_own(e: Engine) -> None:
    """Loses what lies in the tiers that no other engine shares."""
    for t in range(e.me.num_tier):
        at = _row(e, t)
        while e.book[at + TIER_STAYS] == 0 and e.book[at + TIER_HEAD] != NONE:
            _take(e, at, int(e.book[at + TIER_HEAD]))


@njit
def _row(e: Engine, t: int) -> int:
    """Where tier t of the engine has its fields in `book`."""
    return int(e.work[e.me.at_tier + t])


@njit
def _write(e: Engine, at: int, unit: int, rank: int, from_ps: int) -> int:
    """Writes a unit to a tier that has room for it, from a time on; when that is done. One that lies there is only
    used again."""
    k = find_in(e, unit, e.book[at + TIER_STORE])
    end_ps = from_ps
    if k != NONE:
        _unlink(e, at, k)
    else:
        end_ps = _pass(e, at, LINK_DOWN_PS, LINK_WRITE_PS, from_ps)
        k = insert_in(e, unit, 1, e.book[at + TIER_STORE])
        e.unit[k].ready_ps = end_ps
        e.book[at + TIER_FREE] -= 1
        e.book[at + TIER_WRITE] += 1
    e.unit[k].rank = rank
    _append(e, at, k)
    return end_ps


@njit
def _pass(e: Engine, at: int, free: int, pace: int, from_ps: int) -> int:
    """Passes a unit over the links of a tier in one direction, from a time on; when it has arrived."""
    book = e.book
    link, via = book[at + TIER_LINK], book[at + TIER_VIA]
    start_ps, unit_ps = max(from_ps, book[link + free]), book[link + pace]
    if via >= 0:
        start_ps, unit_ps = max(start_ps, book[via + free]), max(unit_ps, book[via + pace])
        book[via + free] = start_ps + book[via + pace]
    book[link + free] = start_ps + book[link + pace]
    return int(start_ps + unit_ps + book[at + TIER_LATENCY_PS])


@njit
def _victim(e: Engine, at: int) -> int:
    """What a tier sends down next: the oldest, or the smallest rank and of equal ones the oldest."""
    best = k = int(e.book[at + TIER_HEAD])
    if e.book[at + TIER_ORDER] == LRU:
        return best
    while k != NONE:
        if e.unit[k].rank < e.unit[best].rank:
            best = k
        k = int(e.unit[k].next)
    return best


@njit
def _take(e: Engine, at: int, k: int) -> None:
    """Takes a unit out of a tier."""
    _unlink(e, at, k)
    remove(e, k)
    e.book[at + TIER_FREE] += 1


@njit
def _append(e: Engine, at: int, k: int) -> None:
    """Puts a unit behind all others of a tier."""
    tail = int(e.book[at + TIER_TAIL])
    e.unit[k].previous = tail
    e.unit[k].next = NONE
    if tail == NONE:
        e.book[at + TIER_HEAD] = k
    else:
        e.unit[tail].next = k
    e.book[at + TIER_TAIL] = k


@njit
def _unlink(e: Engine, at: int, k: int) -> None:
    """Takes a unit out of the order of a tier."""
    previous, following = int(e.unit[k].previous), int(e.unit[k].next)
    if previous == NONE:
        e.book[at + TIER_HEAD] = following
    else:
        e.unit[previous].next = following
    if following == NONE:
        e.book[at + TIER_TAIL] = previous
    else:
        e.unit[following].previous = previous
