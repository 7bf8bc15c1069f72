"""Neighbouring operations of a rank swapped as long as that shortens a schedule: the last percent of a greedy pass."""

import numpy as np
import numpy.typing as npt

from kernels.jit import njit
from kernels.schedule import FORWARD, INPUT_GRAD, WEIGHT_GRAD, Ints, replay


@njit
def _worth(rank_start: Ints, duration: Ints, end: Ints) -> tuple[int, int]:
    """(longest stay of a rank, sum of all ends), both the smaller the better."""
    span = 0
    for rank in range(rank_start.size - 1):
        first, last = rank_start[rank], rank_start[rank + 1] - 1
        span = max(span, end[last] - end[first] + duration[first])
    return span, end.sum()


@njit
def polish(
    rank_start: Ints, kind: Ints, own: Ints, dep: Ints, hop: Ints, duration: Ints, delta: Ints, limit: int,
    max_visit: int, order: Ints,
) -> int:  # fmt: skip
    """Improve `order` (operations, rank after rank) in place; returns the longest stay of a rank.

    `own[op]`: what must have run on its rank before (its F before I, its I before W; -1: nothing). A swap is taken if
    the longest stay falls, or stays and the sum of ends falls; memory (`delta[kind]`) stays within `limit`. It ends
    when a sweep changes nothing or `max_visit` operations have been replayed.
    """
    num_op = kind.size
    place = np.empty(num_op, np.int64)  # of an operation in the order
    end, moved_end = np.empty(num_op, np.int64), np.empty(num_op, np.int64)
    none = np.zeros(num_op, np.bool_)
    new_dep, new_hop, new_duration = np.empty(num_op, np.int64), np.empty(num_op, np.int64), np.empty(num_op, np.int64)
    for i in range(num_op):
        place[order[i]] = i
    for i in range(num_op):
        op = order[i]
        new_dep[i] = place[dep[op]] if dep[op] >= 0 else -1
        new_hop[i], new_duration[i] = hop[op], duration[op]
    replay(rank_start, new_dep, new_hop, new_duration, none, end)
    best_span, best_sum = _worth(rank_start, new_duration, end)
    user = np.full((num_op, 2), -1, np.int64)  # operations that wait for one, at most two
    for op in range(num_op):
        if dep[op] >= 0:
            user[dep[op], 0 if user[dep[op], 0] < 0 else 1] = op
    visit, changed = 0, True
    while changed and visit < max_visit:
        changed = False
        for rank in range(rank_start.size - 1):
            mem = 0
            for i in range(rank_start[rank], rank_start[rank + 1] - 1):
                a, b = order[i], order[i + 1]
                before = mem
                mem += delta[kind[a]]
                if own[b] == a or dep[b] == a or before + delta[kind[b]] > limit or kind[a] == kind[b] == WEIGHT_GRAD:
                    continue
                if visit >= max_visit:
                    return best_span
                for turn in range(2):  # there, and back if it is no better
                    order[i], order[i + 1] = order[i + 1], order[i]
                    for at in (i, i + 1):
                        op = order[at]
                        place[op] = at
                        new_dep[at] = place[dep[op]] if dep[op] >= 0 else -1
                        new_hop[at], new_duration[at] = hop[op], duration[op]
                    for at in (i, i + 1):
                        for n in range(2):
                            other = user[order[at], n]
                            if other >= 0:
                                new_dep[place[other]] = at
                    if turn == 1:
                        break
                    visit += num_op
                    done = replay(rank_start, new_dep, new_hop, new_duration, none, moved_end)
                    if done == num_op:
                        span, total = _worth(rank_start, new_duration, moved_end)
                        if span < best_span or (span == best_span and total < best_sum):
                            best_span, best_sum, changed = span, total, True
                            mem = before + delta[kind[b]]
                            break
    return best_span


def own_before(kind: Ints, stage: Ints, microbatch: Ints) -> npt.NDArray[np.int64]:
    """`[op]` the operation of the same stage and microbatch that must come first: F before I, I before W, else -1."""
    number = stage * (microbatch.max() + 1) + microbatch
    out = np.full(kind.size, -1, np.int64)
    for first, then in ((FORWARD, INPUT_GRAD), (INPUT_GRAD, WEIGHT_GRAD)):
        at = np.full(int(number.max()) + 1, -1, np.int64)
        index = np.flatnonzero(kind == first)
        at[number[index]] = index
        later = np.flatnonzero(kind == then)
        out[later] = at[number[later]]
    return out
