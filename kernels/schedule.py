"""Exact replay of a pipeline schedule whose order on each rank is fixed, in integer time.

A rank runs its operations one after the other; an operation starts when the rank is free and its input has
arrived: `end[input] + hop`. Two operations that a rank runs at once (forward of one microbatch over backward of
another) are neighbours in the order, the first with `overlap` set: both inputs must be there and both end
together. This is list scheduling on a graph of in-degree two, so one visit an operation is enough.
"""

import numpy as np
import numpy.typing as npt

from kernels.jit import njit

Ints = npt.NDArray[np.int64]

OP_KINDS: tuple[str, ...] = ("F", "B", "I", "W", "R", "O")
FORWARD, BACKWARD, INPUT_GRAD, WEIGHT_GRAD, RECOMPUTE, OPTIMIZER = range(len(OP_KINDS))
NO_INPUT, MISSING = -1, -2


@njit
def find_inputs(
    rank_start: Ints, kind: Ints, stage: Ints, microbatch: Ints, num_stage: int, num_microbatch: int, dep: Ints
) -> int:
    """For each operation the one whose output it needs, in `dep` (`NO_INPUT` for none).

    F(s, k) needs F(s-1, k); B and I of (s, k) need the B or I of (s+1, k), at the last stage their own F; W needs
    its I; R (recompute) needs its F. What a rank needs of itself (its own F before its B) is checked by order.
    Returns -1, or the first operation whose input is nowhere or comes later on its own rank.
    """
    num_op = kind.size
    forward = np.full(num_stage * num_microbatch, MISSING, np.int64)
    gradient = np.full(num_stage * num_microbatch, MISSING, np.int64)
    for i in range(num_op):
        at = stage[i] * num_microbatch + microbatch[i]
        if kind[i] == FORWARD:
            forward[at] = i
        elif kind[i] in (BACKWARD, INPUT_GRAD):
            gradient[at] = i
    for rank in range(rank_start.size - 1):
        first, stop = rank_start[rank], rank_start[rank + 1]
        for i in range(first, stop):
            at = stage[i] * num_microbatch + microbatch[i]
            own = NO_INPUT  # what must have run before on this rank
            dep[i] = NO_INPUT
            if kind[i] == FORWARD:
                if stage[i] > 0:
                    dep[i] = forward[at - num_microbatch]
            elif kind[i] in (BACKWARD, INPUT_GRAD):
                own = forward[at]
                if stage[i] + 1 < num_stage:
                    dep[i] = gradient[at + num_microbatch]
            elif kind[i] == WEIGHT_GRAD:
                own = gradient[at]
            elif kind[i] == RECOMPUTE:
                own = forward[at]
            if dep[i] == MISSING or own == MISSING or (own != NO_INPUT and not first <= own < i):
                return i
    return -1


@njit
def replay(rank_start: Ints, dep: Ints, hop: Ints, duration: Ints, overlap: npt.NDArray[np.bool_], end: Ints) -> int:
    """Fill `end` (same unit as `duration`; -1 where never run) and return how many operations ran.

    `duration[i]` of an overlapped pair is the time of both together, the same at both. Fewer operations run than
    given: the order deadlocks, and the rank cursors are the first operations with `end` -1.
    """
    num_rank = rank_start.size - 1
    end[:] = -1
    cursor = rank_start[:num_rank].copy()
    free = np.zeros(num_rank, np.int64)
    waiter = np.full(end.size, -1, np.int64)
    stack = np.empty(num_rank, np.int64)  # a rank is here once at most: it is running, waiting or stacked
    top = num_rank
    for rank in range(num_rank):
        stack[rank] = num_rank - 1 - rank
    num_done = 0
    while top > 0:
        top -= 1
        rank = stack[top]
        i, stop, now = cursor[rank], rank_start[rank + 1], free[rank]
        while i < stop:
            last = i + 1 if overlap[i] else i
            blocked = False
            for j in range(i, last + 1):
                source = dep[j]
                if source >= 0:
                    if end[source] < 0:
                        waiter[source] = rank
                        blocked = True
                        break
                    now = max(now, end[source] + hop[j])
            if blocked:
                break
            now += duration[i]
            for j in range(i, last + 1):
                end[j] = now
                num_done += 1
                if waiter[j] >= 0:
                    stack[top] = waiter[j]
                    waiter[j] = -1
                    top += 1
            i = last + 1
            free[rank] = now
        cursor[rank] = i
    return num_done
