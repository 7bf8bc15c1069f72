"""A graph of operators on streams in integer time, where durations are known beforehand.

A stream runs its operators in order; an operator starts when its stream is free and its predecessors have ended.
Operators of one rendezvous (the parts of a collective on several streams) start together, when the last of them can,
and end together. Without sharing this is a longest path, so one visit an operator is enough.
"""

import numpy as np
import numpy.typing as npt

from kernels.jit import njit

Ints = npt.NDArray[np.int64]
Ints32 = npt.NDArray[np.int32]


@njit
def replay_graph(
    num_predecessor: Ints32,
    successor_start: Ints32,
    successor: Ints32,
    stream: Ints,
    rendezvous: Ints,
    duration: Ints,
    start: Ints,
    end: Ints,
) -> int:
    """Fill `start` and `end` of every operator (-1 where never run); returns how many ran, fewer than given where they
    wait for each other.

    `stream[op]`: -1 for none (it starts when its predecessors have ended). `rendezvous[op]`: -1 for none; its operators
    last as long as the longest of them. Order on a stream is the order of the operators.
    """
    num_op = stream.size
    end[:] = -1
    start[:] = -1
    wait = num_predecessor.astype(np.int64)
    ready = np.zeros(num_op, np.int64)  # when predecessors and stream let it start
    follower = np.full(num_op, -1, np.int64)  # the next operator of its stream
    last = np.full(stream.max() + 2 if num_op else 1, -1, np.int64)
    for op in range(num_op):
        if stream[op] >= 0:
            before = last[stream[op]]
            if before >= 0:
                follower[before] = op
                wait[op] += 1
            last[stream[op]] = op
    num_group = rendezvous.max() + 1 if num_op else 0
    absent = np.zeros(num_group + 1, np.int64)
    first = np.full(num_group + 1, -1, np.int64)  # members as a list
    other = np.full(num_op, -1, np.int64)
    for op in range(num_op):
        if rendezvous[op] >= 0:
            absent[rendezvous[op]] += 1
            other[op] = first[rendezvous[op]]
            first[rendezvous[op]] = op
    stack = np.empty(num_op, np.int64)
    top = 0
    for op in range(num_op):
        if wait[op] == 0:
            stack[top] = op
            top += 1
    num_run = 0
    while top > 0:
        top -= 1
        op = stack[top]
        group = rendezvous[op]
        begin, long = ready[op], duration[op]
        member = op
        if group >= 0:
            absent[group] -= 1
            if absent[group] > 0:
                continue
            member = first[group]
            scan = member
            while scan >= 0:
                begin, long = max(begin, ready[scan]), max(long, duration[scan])
                scan = other[scan]
        while member >= 0:
            start[member], end[member] = begin, begin + long
            num_run += 1
            for at in range(successor_start[member], successor_start[member + 1] + 1):
                after = successor[at] if at < successor_start[member + 1] else follower[member]
                if after >= 0:
                    ready[after] = max(ready[after], end[member])
                    wait[after] -= 1
                    if wait[after] == 0:
                        stack[top] = after
                        top += 1
            member = other[member] if group >= 0 else -1
    return num_run
