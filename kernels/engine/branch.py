"""Branches of a prefix tree: what one step of one sequence makes resident is used again and evicted as a whole.

A *branch* is a chain of units, each the only one behind the one before it, and the own blocks of the sequence that
brought them (`tail`). It parts behind a unit where a look-up ends, or where another sequence goes on with something
else. In the order of eviction its deepest part stands first: what is evicted next has nothing behind it.
"""

from kernels.engine.cache import NONE, append, find, unlink
from kernels.engine.records import Engine
from kernels.jit import njit


@njit
def join(e: Engine, k: int, below: int) -> None:
    """Unit `below` goes on with the branch that ends with unit `k`."""
    e.unit[k].below = below
    e.unit[below].above = k


@njit
def join_own(e: Engine, i: int, k: int, num_block: int) -> None:
    """`num_block` own blocks of sequence i end the branch of unit `k`."""
    s = e.seq[i]
    s.joined = k
    s.branch = num_block
    e.unit[k].tail = i + 1


@njit
def part(e: Engine, k: int) -> None:
    """A branch ends with unit `k`; what it had behind it is one of its own."""
    below = e.unit[k].below
    if below != NONE:
        e.unit[below].above = NONE
    e.unit[k].below = NONE
    e.unit[k].tail = NONE


@njit
def _renew(e: Engine, k: int) -> None:
    """A unit that is resident and that nobody holds is evicted last."""
    if k != NONE and e.unit[k].ref == 0:
        unlink(e, k)
        append(e, k)


@njit
def look_up(e: Engine, i: int, found: int, own: int) -> None:
    """Sequence i finds its first `found` units, and `own` stretches of its own behind them: they are used again, with
    all of the branch in which the last one lies, and that branch parts there."""
    if e.me.radix == 0 or found == 0:
        return
    start = e.seq[i].unit_start
    last = find(e, e.unit_id[0, start + found - 1])
    k = last  # none, where it lies in a tier below: no branch goes on behind it here
    while k != NONE and e.unit[k].below != NONE:
        k = e.unit[k].below
    j = e.unit[k].tail - 1 if k != NONE else NONE - 1
    if j >= 0 and e.seq[j].joined == k and e.seq[j].run + e.seq[j].blank > 0:
        unlink(e, -1 - j)
        append(e, -1 - j)
    while k != last:
        _renew(e, k)
        k = e.unit[k].above
    deepest = NONE  # of those that are resident
    for unit in range(found - 1, -1, -1):
        k = find(e, e.unit_id[0, start + unit])
        deepest = k if deepest == NONE else deepest
        _renew(e, k)
    if deepest != NONE and (own == 0 or last == NONE):
        part(e, deepest)
