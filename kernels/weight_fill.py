"""Weight gradients into the gaps of a fixed order of forwards and input gradients, in time, under a memory limit.

Ranks act in order of their clocks. Where the next operation's input is not there yet, a rank may run a forward or an
input gradient that comes later in its order (if it ends in time and memory allows it until its old place) or a weight
gradient.
"""

import numpy as np

from kernels.jit import njit
from kernels.schedule import FORWARD, INPUT_GRAD, WEIGHT_GRAD, Ints

# settings, or'ed: forwards may move ahead (freely: trusting that weight gradients run in time), input gradients may
HOIST, HOIST_FREELY, HOIST_GRADIENT = 1, 2, 4


@njit
def _arrival(op: int, dep: Ints, rank: Ints, hop: Ints, duration: Ints, end: Ints, now: Ints) -> int:
    """When the input of `op` arrives: exactly where its producer has run, else a lower bound, as `-bound - 1`."""
    tail, bound, sure = 0, 0, True
    while dep[op] >= 0:
        tail += hop[op]
        op = dep[op]
        if end[op] >= 0:
            bound = max(bound, end[op] + tail)
            break
        sure = False
        tail += duration[op]
        bound = max(bound, now[rank[op]] + tail)
    return bound if sure else -bound - 1


@njit
def fill(
    rank_start: Ints, kind: Ints, rank: Ints, dep: Ints, own: Ints, hop: Ints, duration: Ints, weight_duration: Ints,
    delta: Ints, limit: int, setting: int, slack: float, out: Ints,
) -> int:  # fmt: skip
    """Order with weight gradients: `out[rank, n]` is an operation i of the given F and I, or `-i - 1` for the weight
    gradient of input gradient i. `own[op]`: the forward of an input gradient, on the same rank. `delta[kind]` changes
    memory. Returns the longest span of a rank, or -1 where the
    memory does not allow it or the order deadlocks.
    """
    num_rank, num_op = rank_start.size - 1, kind.size
    now, mem, gap = np.zeros(num_rank, np.int64), np.zeros(num_rank, np.int64), np.zeros(num_rank, np.int64)
    first = np.full(num_rank, -1, np.int64)
    sequence, position = np.arange(num_op), rank_start[:num_rank].copy()
    queue, head, tail = np.empty(num_op, np.int64), position.copy(), position.copy()  # put-off weight gradients
    length = np.zeros(num_rank, np.int64)
    end = np.full(num_op, -1, np.int64)
    stuck = np.zeros(num_rank, np.bool_)
    while True:
        r = -1
        for q in range(num_rank):
            if length[q] < 3 * (rank_start[q + 1] - rank_start[q]) // 2 and not stuck[q] and (r < 0 or now[q] < now[r]):
                r = q
        if r < 0:
            break
        run, weight = -1, False
        if position[r] == rank_start[r + 1]:
            weight = True
        else:
            op = sequence[position[r]]
            arrival = _arrival(op, dep, rank, hop, duration, end, now)
            known = arrival >= 0
            when = arrival if known else -arrival - 1
            full = mem[r] + delta[kind[op]] > limit
            if full and head[r] == tail[r]:
                return -1
            if full:
                weight = True
            elif known and when <= now[r]:
                run = op
            else:
                if setting != 0:
                    run = _hoist(
                        r,
                        position,
                        rank_start,
                        sequence,
                        kind,
                        dep,
                        own,
                        hop,
                        duration,
                        end,
                        now,
                        mem,
                        delta,
                        limit,
                        when,
                        setting,
                    )
                if run < 0 and head[r] < tail[r]:
                    fits = now[r] + weight_duration[queue[head[r]]] <= when
                    weight = fits or (known and when - now[r] > slack * gap.max() - gap[r])
                if run < 0 and not weight:
                    if known:
                        run = op
                    elif when > now[r]:
                        if first[r] >= 0:
                            gap[r] += when - now[r]
                        now[r] = when
                        continue
                    else:
                        stuck[r] = True
                        continue
        if weight:
            item = queue[head[r]]
            head[r] += 1
            out[r, length[r]] = -item - 1
            now[r] += weight_duration[item]
            mem[r] += delta[WEIGHT_GRAD]
        else:
            ready = _arrival(run, dep, rank, hop, duration, end, now)
            if first[r] < 0:
                first[r] = max(ready, now[r])
            elif ready > now[r]:
                gap[r] += ready - now[r]
            now[r] = max(now[r], ready) + duration[run]
            end[run] = now[r]
            mem[r] += delta[kind[run]]
            out[r, length[r]] = run
            position[r] += 1
            if kind[run] == INPUT_GRAD:
                queue[tail[r]] = run
                tail[r] += 1
            stuck[:] = False
        length[r] += 1
    if length.sum() < 3 * num_op // 2:
        return -1
    span = 0
    for q in range(num_rank):
        span = max(span, now[q] - max(first[q], 0))
    return span


@njit
def _hoist(
    r: int, position: Ints, rank_start: Ints, sequence: Ints, kind: Ints, dep: Ints, own: Ints, hop: Ints,
    duration: Ints, end: Ints, now: Ints, mem: Ints, delta: Ints, limit: int, when: int, setting: int,
) -> int:  # fmt: skip
    """The first later operation of rank r that is ready, ends by `when` and fits, moved to the front; or -1."""
    level, fits = mem[r], setting & (HOIST | HOIST_FREELY) != 0
    for at in range(position[r], rank_start[r + 1]):
        op = sequence[at]
        if level + delta[FORWARD] > limit:
            fits = False  # between here and its place a forward would not fit
        may = fits if kind[op] == FORWARD else setting & HOIST_GRADIENT != 0 and end[own[op]] >= 0
        if not fits and setting & HOIST_GRADIENT == 0:
            return -1
        if at > position[r] and may and now[r] + duration[op] <= when:
            source = dep[op]
            if source < 0 or (end[source] >= 0 and end[source] + hop[op] <= now[r]):
                sequence[position[r] + 1 : at + 1] = sequence[position[r] : at].copy()
                sequence[position[r]] = op
                return op
        level += delta[FORWARD] if kind[op] == FORWARD else delta[INPUT_GRAD]
        if kind[op] != FORWARD and setting & HOIST_FREELY:
            level += delta[WEIGHT_GRAD]
    return -1
