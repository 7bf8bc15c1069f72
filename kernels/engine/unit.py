"""The table of named units: who lies in which store, an engine's own or a tier's, found by name and store.

One hash table for all stores of a world; its entries are used again once they are taken out.
"""

from kernels.engine.records import Engine
from kernels.jit import njit

NONE = 0
FIRST_ADAPTER = 1 << 30  # the name of adapter 0
FIRST_STATE = 1 << 29  # the name of the state behind unit 0; names of prefixes lie below


@njit
def _bucket(e: Engine, unit: int, store: int) -> int:
    """The bucket of a unit of a store."""
    x = int(unit) * 0x9E3779B1 + int(store) * 0x85EBCA77
    return (x ^ (x >> 17)) & (int(e.unit[0].unit) - 1)


@njit
def find_in(e: Engine, unit: int, store: int) -> int:
    """The entry of a unit in a store; 0: it does not lie there."""
    k = e.unit[_bucket(e, unit, store)].bucket
    while k != NONE and (e.unit[k].unit != unit or e.unit[k].engine != store):
        k = e.unit[k].chain
    return k


@njit
def find(e: Engine, unit: int) -> int:
    """The entry of a unit in this engine's own store; 0: it is not resident."""
    return find_in(e, unit, e.me.index)


@njit
def insert(e: Engine, unit: int, num_block: int) -> int:
    """Makes a unit of `num_block` blocks resident, held by one sequence, and returns its entry."""
    return insert_in(e, unit, num_block, e.me.index)


@njit
def insert_in(e: Engine, unit: int, num_block: int, store: int) -> int:
    """As `insert`, in any store."""
    k = e.unit[0].chain
    if k != NONE:
        e.unit[0].chain = e.unit[k].chain
    else:
        e.unit[0].ref += 1
        k = int(e.unit[0].ref)
    bucket = _bucket(e, unit, store)
    e.unit[k].unit = unit
    e.unit[k].engine = store
    e.unit[k].rank = 0
    e.unit[k].ref = 1
    e.unit[k].block = num_block
    e.unit[k].ready_ps = 0
    e.unit[k].made = -1
    e.unit[k].above = NONE
    e.unit[k].below = NONE
    e.unit[k].tail = NONE
    e.unit[k].chain = NONE
    if e.unit[bucket].bucket == NONE:
        e.unit[bucket].bucket = k
    else:  # behind the others, so that of two copies the older is found
        j = e.unit[bucket].bucket
        while e.unit[j].chain != NONE:
            j = e.unit[j].chain
        e.unit[j].chain = k
    return k


@njit
def remove(e: Engine, k: int) -> None:
    """Takes a unit that is in no order of eviction out of the table."""
    bucket = _bucket(e, e.unit[k].unit, e.unit[k].engine)
    if e.unit[bucket].bucket == k:
        e.unit[bucket].bucket = e.unit[k].chain
    else:
        j = e.unit[bucket].bucket
        while e.unit[j].chain != k:
            j = e.unit[j].chain
        e.unit[j].chain = e.unit[k].chain
    e.unit[k].chain = e.unit[0].chain
    e.unit[0].chain = k
