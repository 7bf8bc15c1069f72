"""Engines that take no requests: off, loading, draining, failed. And what is left of one that is switched off.

`down` is what a router's choice is held against: a request goes to the next engine that takes any, or, where none does,
to the one that will first (`up_ps`), and waits there.
"""

from kernels.engine.advance import next_event
from kernels.engine.cache import take_back
from kernels.engine.commit import integrate
from kernels.engine.deliver import deliver
from kernels.engine.heap import NEVER, reset
from kernels.engine.lanes import settle_all
from kernels.engine.preemption import give_up
from kernels.engine.records import WAITING, World
from kernels.engine.tier import forget_own
from kernels.engine.types import engine_of
from kernels.engine.unit import NONE, remove
from kernels.jit import njit
from kernels.units import FOREVER_PS


@njit
def taking(w: World, k: int) -> int:
    """Engine k, or the next one that takes requests; where none does, the one that will first."""
    num = len(w.engine)
    if k < 0 or k >= num or w.engine[k].down == 0:
        return k
    best = k
    for step in range(num):
        j = (k + step) % num
        if w.engine[j].down == 0:
            return j
        if w.engine[j].up_ps < w.engine[best].up_ps:
            best = j
    return best


@njit
def open_ps(w: World, k: int, now: int) -> int:
    """When KV can begin to come to engine k, at the earliest: where it is still to come up, then."""
    up_ps = w.engine[k].up_ps
    return int(up_ps) if w.engine[k].down == 1 and now < up_ps < FOREVER_PS - 1 else now


@njit
def settle(w: World, k: int, time_ps: int) -> None:
    """Writes what engine k has deferred to its sequences, and its integrals up to a time."""
    e = engine_of(w, k)
    settle_all(e)
    integrate(e, time_ps)


@njit
def forget(w: World, k: int) -> None:
    """Engine k, on which nobody runs or waits, loses what lies in its store and in tiers of its own."""
    e = engine_of(w, k)
    for bucket in range(int(e.unit[0].unit)):
        entry = e.unit[bucket].bucket
        while entry != NONE:
            following = e.unit[entry].chain
            if e.unit[entry].engine == k:
                remove(e, entry)
            entry = following
    e.me.lru_head = e.me.lru_tail = NONE
    e.me.evictable_block = 0
    e.me.free_block = e.me.num_block
    forget_own(e)
    reset(w, k, NEVER)


@njit
def leave_nothing(w: World, i: int) -> None:
    """What sequence i, which has left, has left behind in its engine's store becomes free blocks."""
    e = engine_of(w, w.seq[i].replica)
    take_back(e, i)
    e.me.epoch += 1


@njit
def resend(w: World, i: int, k: int, time_ps: int, produced: int) -> None:
    """Sequence i, whose engine has failed, reaches engine k: its KV is computed again, what it produced is
    kept."""
    e = engine_of(w, k)
    s = e.seq[i]
    deliver(e, i, time_ps)
    if s.status == WAITING and produced > 0:
        s.produced = produced
        s.target = s.prompt + produced
        e.me.load_token += produced
        give_up(e, i)
    reset(w, k, next_event(e))
