"""Queues without a capacity to choose: skew heaps threaded through the sequences, and an indexed heap of engines.

A sequence is in one skew heap at most, so its links are two fields of its record and a queue is the index of its root:
amortized logarithmic time, and memory that grows with requests alone. The waiting queue is ordered by `(key, index)`,
the arrivals that ends have released by `(arrival_ps, index)`, the
sequences that were handed over by `(end_ps, index)`.
"""

from kernels.engine.records import Engine, Ints, Records, World
from kernels.jit import njit, njit_inline
from kernels.units import FOREVER_PS

NONE = -1
BY_KEY, BY_ARRIVAL, BY_END = range(3)
END, PLAN = range(2)  # kinds of event, in the order in which they happen at one instant
NEVER = (1 << 63) - 1  # no event


@njit
def before(seq: Records, by: int, a: int, b: int) -> bool:
    """Whether sequence a stands before b."""
    if by == BY_KEY:
        return seq[a].key < seq[b].key or (seq[a].key == seq[b].key and a < b)
    if by == BY_ARRIVAL:
        return seq[a].arrival_ps < seq[b].arrival_ps or (seq[a].arrival_ps == seq[b].arrival_ps and a < b)
    return seq[a].end_ps < seq[b].end_ps or (seq[a].end_ps == seq[b].end_ps and a < b)


@njit
def merge(seq: Records, by: int, a: int, b: int) -> int:
    """Root of two skew heaps: walk down the right spines, swap the children behind."""
    root = NONE
    parent = NONE
    while min(a, b) != NONE:
        if before(seq, by, b, a):
            a, b = b, a
        if parent == NONE:
            root = a
        else:
            seq[parent].left = a
        right = seq[a].right
        seq[a].right = seq[a].left
        parent, a = a, right
    rest = a if a != NONE else b
    if parent == NONE:
        return rest
    seq[parent].left = rest
    return root


@njit
def insert(seq: Records, by: int, root: int, i: int) -> int:
    """Root of the heap with `i` in it."""
    seq[i].left = NONE
    seq[i].right = NONE
    return merge(seq, by, root, i)


@njit
def without_first(seq: Records, by: int, root: int) -> int:
    """Root of a heap without its first."""
    return merge(seq, by, seq[root].left, seq[root].right)


@njit
def push(e: Engine, i: int) -> None:
    """Puts sequence `i` into the waiting queue."""
    e.me.wait_root = insert(e.seq, BY_KEY, e.me.wait_root, i)
    e.me.num_waiting += 1


@njit_inline
def head(e: Engine) -> int:
    """The sequence that waits with the smallest key, or -1; -1 too while the plan being made cannot see it. A token of
    it may still be in flight."""
    i = e.me.wait_root
    return NONE if i != NONE and e.seq[i].seen > e.me.sees else i


@njit
def pop(e: Engine) -> int:
    """Takes the head out of a queue that is not empty."""
    i = e.me.wait_root
    e.me.wait_root = without_first(e.seq, BY_KEY, i)
    e.me.num_waiting -= 1
    return i


@njit
def take_out(e: Engine, i: int) -> None:
    """Takes sequence `i` out of the waiting queue, wherever it stands."""
    aside = NONE  # who stands before it, in the order of arrival: any order keeps them
    while e.me.wait_root != i:
        aside = insert(e.seq, BY_ARRIVAL, aside, pop(e))
    pop(e)
    while aside != NONE:
        first = aside
        aside = without_first(e.seq, BY_ARRIVAL, aside)
        push(e, first)


@njit
def event(time_ps: int, kind: int) -> int:
    """An event as one number, in the order of time and then of kind."""
    return NEVER if time_ps >= FOREVER_PS else 2 * time_ps + kind


@njit
def reset(w: World, k: int, when: int) -> None:
    """Engine k acts next at the event `when`: moves it to its place."""
    w.event[k] = when
    heap = w.heap
    at = heap[1, k]
    while at > 0 and _earlier(w.event, k, heap[0, (at - 1) // 2]):
        _put(heap, at, heap[0, (at - 1) // 2])
        at = (at - 1) // 2
    num = len(w.event)
    while 2 * at + 1 < num:
        child = 2 * at + 1
        if child + 1 < num and _earlier(w.event, heap[0, child + 1], heap[0, child]):
            child += 1
        if not _earlier(w.event, heap[0, child], k):
            break
        _put(heap, at, heap[0, child])
        at = child
    _put(heap, at, k)


@njit
def second(w: World) -> int:
    """When the first of all engines but the top one acts, as an event."""
    first = NEVER
    for at in range(1, min(3, len(w.event))):
        first = min(first, w.event[w.heap[0, at]])
    return first


@njit
def _earlier(event: Ints, a: int, b: int) -> bool:
    return event[a] < event[b] or (event[a] == event[b] and a < b)


@njit
def _put(heap: Ints, at: int, k: int) -> None:
    heap[0, at] = k
    heap[1, k] = at
