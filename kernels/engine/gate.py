"""The gate of a cap on concurrency: chains of requests beyond the cap wait there for a client who is free, in order.

Who waits is linked by `sibling`, which nothing else uses of a request that no other one is the parent of.
"""

from kernels.engine.heap import BY_ARRIVAL, NONE, insert
from kernels.engine.records import IN_GATE, Engine, Ints, Records, SmallInts
from kernels.jit import njit


def shut(seq: Records, book: Ints, waiting: SmallInts) -> None:
    """Holds these requests back, the first in front."""
    if len(waiting):
        seq["sibling"][waiting] = [*waiting[1:], NONE]
        book[IN_GATE] = waiting[0] + 1


@njit
def let_in(e: Engine, end: int) -> None:
    """A chain is over at `end`: who waits longest arrives."""
    if e.book[IN_GATE] == 0:
        return
    i = e.book[IN_GATE] - 1
    s = e.seq[i]
    e.book[IN_GATE] = s.sibling + 1
    s.sibling = NONE
    s.arrival_ps = max(s.arrival_ps, end)
    e.me.spawned = insert(e.seq, BY_ARRIVAL, e.me.spawned, i)
