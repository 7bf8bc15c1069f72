"""Replay of a pipeline order with data-parallel traffic beside it: gathered weights, scattered gradients, one network.

As `kernels.schedule.replay`, and each rank has a network that carries one transfer at a time, first come first served,
beside its compute. An operation may be cut into equal *units* (layers): a unit whose weights must be gathered waits for
them, a unit whose gradients are complete hands them to the network. At most `capacity` gathered units are held: the
next is asked for when one is freed, before the gradients of that moment are sent (as FSDP's prefetch does), so that the
order on the network does not depend on time and one visit an operation stays enough.
"""

import numpy as np
import numpy.typing as npt

from kernels.jit import njit
from kernels.schedule import Ints

Bools = npt.NDArray[np.bool_]


@njit
def _ask(
    rank: int, time: int, stop: int, capacity: int, unit: Ints, gathers: Bools, gather: Ints, at: Ints,
    held: Ints, next_op: Ints, next_unit: Ints, free: Ints, arrival: Ints,
) -> None:  # fmt: skip
    """Send for the next units as long as there is room; `held[rank]` counts units asked for and not freed."""
    while held[rank] < capacity:
        i = next_op[rank]
        while i < stop and not gathers[i]:
            i += 1
        next_op[rank] = i
        if i == stop:
            return
        free[rank] = max(free[rank], time) + gather[i]
        arrival[at[i] + next_unit[rank]] = free[rank]
        held[rank] += 1
        next_unit[rank] += 1
        if next_unit[rank] == unit[i]:
            next_unit[rank] = 0
            next_op[rank] = i + 1


@njit
def replay_traffic(
    rank_start: Ints, dep: Ints, hop: Ints, duration: Ints, overlap: Bools, unit: Ints, gathers: Bools, frees: Bools,
    reduces: Bools, gather: Ints, reduce: Ints, capacity: int, start: Ints, end: Ints, network: Ints,
) -> int:  # fmt: skip
    """Fill `start`, `end` of every operation and `network[rank]`, when its last transfer ends; returns how many ran.

    `unit[op]`: equal parts of an operation; `gathers`, `frees`, `reduces[op]`: whether its units wait for weights,
    give them up as they end, complete gradients as they end; `gather`, `reduce[op]`: time of one unit's transfer.
    Both of an overlapped pair start when all their weights are there. Times are integers of one unit.
    """
    num_rank = rank_start.size - 1
    end[:] = -1
    start[:] = -1
    at = np.zeros(end.size + 1, np.int64)
    for i in range(end.size):
        at[i + 1] = at[i] + (unit[i] if gathers[i] else 0)
    arrival = np.zeros(at[end.size] + 1, np.int64)
    cursor, next_op = rank_start[:num_rank].copy(), rank_start[:num_rank].copy()
    free, next_unit, held = np.zeros((3, num_rank), np.int64)
    network[:] = 0
    waiter = np.full(end.size, -1, np.int64)
    stack = np.empty(num_rank, np.int64)
    top = num_rank
    for rank in range(num_rank):
        stack[rank] = num_rank - 1 - rank
        _ask(rank, 0, rank_start[rank + 1], capacity, unit, gathers, gather, at, held, next_op, next_unit,
             network, arrival)  # fmt: skip
    num_done = 0
    while top > 0:
        top -= 1
        rank = stack[top]
        i, stop, now = cursor[rank], rank_start[rank + 1], free[rank]
        while i < stop:
            last = i + 1 if overlap[i] else i
            blocked = False
            ready = now
            for j in range(i, last + 1):
                source = dep[j]
                if source >= 0:
                    if end[source] < 0:
                        waiter[source] = rank
                        blocked = True
                        break
                    ready = max(ready, end[source] + hop[j])
            if blocked:
                break
            now = ready
            if last > i:
                for j in range(i, last + 1):
                    if gathers[j]:
                        now = max(now, arrival[at[j + 1] - 1])
            start[i] = max(now, arrival[at[i]]) if gathers[i] else now
            start[last] = start[i]
            parts = unit[i] if last == i else 1
            for u in range(parts):
                if last == i and gathers[i]:
                    now = max(now, arrival[at[i] + u])
                now += duration[i] // parts + (1 if u < duration[i] % parts else 0)
                for j in range(i, last + 1):
                    for _ in range(1 if last == i else unit[j]):
                        if frees[j]:
                            held[rank] -= 1
                            _ask(rank, now, stop, capacity, unit, gathers, gather, at, held, next_op, next_unit,
                                 network, arrival)  # fmt: skip
                        if reduces[j]:
                            network[rank] = max(network[rank], now) + reduce[j]
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
