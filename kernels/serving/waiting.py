"""The waiting queue: a skew heap threaded through the sequences, smallest `(key, index)` first.

A sequence is in one heap at most, so the links are two columns of `seq` and a queue is the index of its root:
no capacity to choose, amortized logarithmic time, and memory that grows with requests alone. The same heap
orders arrivals that depend on an earlier request's end (by `ARRIVAL`).
"""

from kernels.jit import njit
from kernels.serving.layout import ARRIVAL, KEY, LEFT, NUM_WAITING, RIGHT, SEEN, SEES, WAIT_ROOT, Ints, Replica

NONE = -1


@njit
def merge(seq: Ints, column: int, a: int, b: int) -> int:
    """Root of two skew heaps ordered by `column`: walk down the right spines, swap the children behind."""
    root = NONE
    parent = NONE
    while min(a, b) != NONE:
        if seq[b, column] < seq[a, column] or (seq[b, column] == seq[a, column] and b < a):
            a, b = b, a
        if parent == NONE:
            root = a
        else:
            seq[parent, LEFT] = a
        right = seq[a, RIGHT]
        seq[a, RIGHT] = seq[a, LEFT]
        parent, a = a, right
    rest = a if a != NONE else b
    if parent == NONE:
        return rest
    seq[parent, LEFT] = rest
    return root


@njit
def insert(seq: Ints, column: int, root: int, i: int) -> int:
    """Root of the heap with `i` in it."""
    seq[i, LEFT] = NONE
    seq[i, RIGHT] = NONE
    return merge(seq, column, root, i)


@njit
def push(r: Replica, i: int) -> None:
    """Puts sequence `i` into the waiting queue."""
    r.reg[WAIT_ROOT] = insert(r.seq, KEY, r.reg[WAIT_ROOT], i)
    r.reg[NUM_WAITING] += 1


@njit
def head(r: Replica) -> int:
    """The sequence that waits with the smallest key, or -1; -1 too while the plan being made cannot see it."""
    i = r.reg[WAIT_ROOT]
    return NONE if i != NONE and r.seq[i, SEEN] > r.reg[SEES] else i


@njit
def pop(r: Replica) -> int:
    """Takes the head out of a queue that is not empty."""
    i = r.reg[WAIT_ROOT]
    r.reg[WAIT_ROOT] = merge(r.seq, KEY, r.seq[i, LEFT], r.seq[i, RIGHT])
    r.reg[NUM_WAITING] -= 1
    return i


@njit
def pop_arrival(seq: Ints, root: int) -> int:
    """Root of an arrival heap without its first."""
    return merge(seq, ARRIVAL, seq[root, LEFT], seq[root, RIGHT])
