"""Clients that give up: a request that has not ended in time is aborted and gives its KV back.

A plan is the moment at which the engine hears of it. Running sequences of the lane are looked at, and the head of
the waiting queue: behind it a request waits unnoticed, which costs nothing.
"""

from kernels.jit import njit
from kernels.serving.commit import end_done
from kernels.serving.kvstore import ceil_div
from kernels.serving.layout import (
    ABORTED,
    ARRIVAL,
    BLOCK_TOKEN,
    END,
    HOST_FREE_BLOCK,
    IN_RUNNING,
    KV,
    LANE_NUM,
    LOAD_TOKEN,
    NUM_ABORTED,
    OUTSTANDING,
    PRODUCED,
    PROMPT,
    REASON,
    REASON_TIMEOUT,
    RUNNING,
    STATUS,
    SWAPPED,
    TIMEOUT,
    WAIT_ROOT,
    Replica,
)
from kernels.serving.release import release_children
from kernels.serving.verbs import end_kv, lane_at, leave
from kernels.serving.waiting import NONE, pop
from kernels.units import FOREVER_PS


@njit
def abort_late(r: Replica, lane: int, time_ps: int) -> None:
    """Ends the requests whose time is up at `time_ps`, when the lane is about to be planned."""
    reg, seq = r.reg, r.seq
    if reg[TIMEOUT] == 0:
        return
    at = lane_at(reg, lane)
    held = reg[at + LANE_NUM]
    k = held - 1
    while k >= 0:
        i = reg[at + reg[IN_RUNNING] + k]
        if seq[i, STATUS] == RUNNING and seq[i, ARRIVAL] + reg[TIMEOUT] <= time_ps:
            leave(r, i, lane)
            end_kv(r, i)
            _end(r, i, time_ps)
        k -= 1
    if 0 < reg[at + LANE_NUM] < held:
        end_done(r, at, time_ps)  # of a batch that leaves together, the rest may have waited for these
    while reg[WAIT_ROOT] != NONE and seq[reg[WAIT_ROOT], ARRIVAL] + reg[TIMEOUT] <= time_ps:
        i = pop(r)
        if seq[i, STATUS] == SWAPPED:
            reg[HOST_FREE_BLOCK] += ceil_div(seq[i, KV], reg[BLOCK_TOKEN])
        _end(r, i, time_ps)


@njit
def _end(r: Replica, i: int, time_ps: int) -> None:
    reg, seq = r.reg, r.seq
    reg[OUTSTANDING] -= 1
    reg[LOAD_TOKEN] -= seq[i, PROMPT] + seq[i, PRODUCED]
    reg[NUM_ABORTED] += 1
    seq[i, STATUS] = ABORTED
    seq[i, REASON] = REASON_TIMEOUT
    seq[i, END] = time_ps
    release_children(r, i, time_ps)


@njit
def first_deadline(r: Replica, lane: int) -> int:
    """When the next request must be aborted, of those that run in the lane and the one that waits first."""
    reg, seq = r.reg, r.seq
    if reg[TIMEOUT] == 0:
        return FOREVER_PS
    first = FOREVER_PS
    at = lane_at(reg, lane)
    for k in range(at + reg[IN_RUNNING], at + reg[IN_RUNNING] + reg[at + LANE_NUM]):
        if seq[reg[k], STATUS] == RUNNING:
            first = min(first, seq[reg[k], ARRIVAL] + reg[TIMEOUT])
    if reg[WAIT_ROOT] != NONE:
        first = min(first, seq[reg[WAIT_ROOT], ARRIVAL] + reg[TIMEOUT])
    return first
