"""The end of a request lets those that waited for it arrive."""

from kernels.jit import njit
from kernels.serving.layout import ARRIVAL, CHILD, FUTURE_ROOT, SIBLING, SPAWNED, THINK, Replica
from kernels.serving.waiting import NONE, insert


@njit
def release_children(r: Replica, i: int, end: int) -> None:
    """Lets the requests that waited for i's end arrive after their think time."""
    seq, reg = r.seq, r.reg
    child = seq[i, CHILD]
    while child != NONE:
        seq[child, ARRIVAL] = max(seq[child, ARRIVAL], end + seq[child, THINK])
        reg[FUTURE_ROOT] = insert(seq, ARRIVAL, reg[FUTURE_ROOT], child)
        reg[SPAWNED] = 1
        child = seq[child, SIBLING]
