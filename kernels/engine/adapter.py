"""Adapters (LoRA) in the store that holds KV: fetched from the host, shared by reference, evicted as cached blocks are.

An adapter is a unit of the store (`kernels.engine.cache`) under a name beyond those of prefixes, of as many blocks as
its rank takes. Who runs with it holds it; with nobody it stays behind in the one order of eviction, among cached KV
(S-LoRA's unified paging). An admission needs room for it, and where it is not resident its fetch begins there, behind
earlier ones on the engine's link to the host; a step begins when the adapters of all its rows have arrived. While a
step runs, the adapter of who is next in the queue is fetched ahead.
"""

from kernels.engine.cache import NONE, find, hold, insert, let_go
from kernels.engine.heap import head
from kernels.engine.records import RANK_BLOCK, RANK_FETCH_PS, RANK_FIELDS, Engine
from kernels.engine.store import allocate
from kernels.engine.unit import FIRST_ADAPTER
from kernels.jit import njit


@njit
def rank_of(e: Engine, i: int, field: int) -> int:
    """A field of the rank of sequence i's adapter: ranks go round."""
    kind = (e.seq[i].adapter - 1) % e.me.num_rank
    return int(e.work[e.me.at_rank + kind * len(RANK_FIELDS) + field])


@njit
def entry_of(e: Engine, i: int) -> int:
    """Where sequence i's adapter is resident; 0: nowhere."""
    return find(e, FIRST_ADAPTER + e.seq[i].adapter - 1)


@njit
def adapter_room(e: Engine, i: int) -> int:
    """Blocks that the admission of sequence i takes from what is free or could be evicted, for its adapter."""
    if e.seq[i].adapter == 0:
        return 0
    k = entry_of(e, i)
    return 0 if k != NONE and e.unit[k].ref > 0 else rank_of(e, i, RANK_BLOCK)


@njit
def hold_adapter(e: Engine, i: int) -> None:
    """Sequence i holds its adapter, whose fetch begins now if it is not resident; there is room for it."""
    if e.seq[i].adapter == 0:
        return
    k = entry_of(e, i)
    if k == NONE:
        k = _fetch(e, i)
    else:
        hold(e, k)
    e.seq[i].entry = k


@njit
def _fetch(e: Engine, i: int) -> int:
    """Blocks for sequence i's adapter and a place on the link; its entry, held by one."""
    me, num_block = e.me, rank_of(e, i, RANK_BLOCK)
    allocate(e, num_block)
    k = insert(e, FIRST_ADAPTER + e.seq[i].adapter - 1, num_block)
    me.link_ps = max(me.link_ps, me.now_ps) + rank_of(e, i, RANK_FETCH_PS)
    e.unit[k].ready_ps = me.link_ps
    me.num_fetch += 1
    return k


@njit
def fetch_ahead(e: Engine) -> None:
    """Begins to fetch the adapter of who is next in the queue; nobody holds it yet. Where there is no room, no plan
    stands: the next step looks again."""
    i = head(e)
    if i < 0 or e.seq[i].adapter == 0 or entry_of(e, i) != NONE:
        return
    if rank_of(e, i, RANK_BLOCK) <= e.me.free_block + e.me.evictable_block:
        let_go(e, _fetch(e, i))
    else:
        e.me.epoch += 1
