"""Clients that give up, requests that a program has stopped or that cannot be computed again: each is aborted and
gives its KV back.

A plan is the moment at which the engine hears of it. Running sequences of the lane are looked at, and the head of
the waiting queue: behind it a request waits unnoticed, which costs nothing.
"""

from typing import Any

from kernels.engine.commit import end_done, release_children, tell
from kernels.engine.heap import NONE, pop
from kernels.engine.lanes import end_kv, lane_at, leave
from kernels.engine.records import ABORTED, NO_REASON, REASON_STOPPED, REASON_TIMEOUT, RUNNING, SWAPPED, Engine
from kernels.engine.store import whole_block
from kernels.jit import njit, njit_inline
from kernels.units import FOREVER_PS


@njit_inline
def _is_due(me: Any, s: Any, time_ps: int) -> bool:
    return s.stopped == 1 or (me.timeout_ps > 0 and s.arrival_ps + me.timeout_ps <= time_ps)


@njit
def abort_late(e: Engine, number: int, time_ps: int) -> None:
    """Ends the requests whose time is up at `time_ps`, and those that were stopped, when a running list is about to be
    planned."""
    me, lane = e.me, e.lane[number]
    if me.timeout_ps == 0 and me.num_stop == 0:
        return
    first = lane_at(e, number) + me.in_running
    held = lane.num
    k = held - 1
    while k >= 0:
        i = e.work[first + k]
        s = e.seq[i]
        away = s.ahead > 0 or (s.flight > 0 and e.lane[s.flight - 1].in_flight == 1)
        if s.status == RUNNING and not away and _is_due(me, s, time_ps):
            leave(e, i, number)
            end_kv(e, i)
            _end(e, i, time_ps)
        k -= 1
    if 0 < lane.num < held:
        end_done(e, number, time_ps)  # of a batch that leaves together, the rest may have waited for these
    while me.wait_root != NONE and e.seq[me.wait_root].ahead == 0 and _is_due(me, e.seq[me.wait_root], time_ps):
        i = pop(e)
        if e.seq[i].status == SWAPPED:
            me.host_free_block += whole_block(e, i)
        _end(e, i, time_ps)


@njit
def _end(e: Engine, i: int, time_ps: int) -> None:
    me, s = e.me, e.seq[i]
    me.outstanding -= 1
    me.load_token -= s.prompt + s.produced
    me.num_aborted += 1
    me.num_stop -= s.stopped
    s.status = ABORTED
    if s.reason == NO_REASON:
        s.reason = REASON_STOPPED if s.stopped == 1 else REASON_TIMEOUT
    s.end_ps = time_ps
    release_children(e, i, time_ps)
    tell(e, i)


@njit
def first_deadline(e: Engine, number: int) -> int:
    """When the next request must be aborted, of those in a running list and the one that waits first."""
    me = e.me
    if me.timeout_ps == 0:
        return FOREVER_PS
    first = FOREVER_PS
    at = lane_at(e, number) + me.in_running
    for k in range(at, at + e.lane[number].num):
        s = e.seq[e.work[k]]
        if s.status == RUNNING:
            first = min(first, s.arrival_ps + me.timeout_ps)
    if me.wait_root != NONE:
        first = min(first, e.seq[me.wait_root].arrival_ps + me.timeout_ps)
    return first
