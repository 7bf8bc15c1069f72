"""Flows over shared links as arrays: what runs, what is left of it, when the next one ends.

Rates are max-min fair (`kernels.fairness`) and hold from one change to the next: `move` counts what has been moved
since the last change and takes out what has ended, `fill` takes in what has begun and gives all rates anew. Time is
whole units (picoseconds in `sim.fabric`), rates are bytes a unit of time.
"""

from typing import Any, NamedTuple

import numpy as np

from kernels.engine.arrays import addressed
from kernels.engine.handle import passed_by_address
from kernels.fairness import Floats, Ints, Routes, advance, max_min_rates, next_end, scratch
from kernels.jit import njit

RUNNING, BEGUN, FREE, SINCE = range(4)  # of `tally`: flows with rates, flows without yet, free rows, the last change
START = 64  # rows at first


class Flows(NamedTuple):
    """Rows of flows. `active` lists those that run, in the order in which they began, and behind them those that have
    begun since the last change."""

    capacity: Floats  # [link] bytes a unit of time
    link_byte: Floats  # [link] moved up to the last change
    route: Routes  # [row, hop]
    left: Floats  # [row] bytes
    rate: Floats  # [row]
    tag: Ints  # [row] whose flow it is, as the caller counts
    active: Ints  # [row]
    free: Ints  # [row] rows to use, the last first
    ended: Ints  # [row] tags of what ended at the last change
    tally: Ints
    unfixed: Ints  # work space of `kernels.fairness.max_min_rates`, zeros between calls
    start: Ints
    room: Floats
    table: Ints  # where all of it lies, for compiled code (see `kernels.engine.handle`)
    at: int


def flows(capacity: Floats, num_row: int = START, num_hop: int = 1) -> Flows:
    """No flows on links of `capacity`."""
    tally = np.zeros(4, np.int64)
    tally[FREE] = num_row
    tag, active, ended = np.zeros((3, num_row), np.int64)
    return addressed(
        Flows, np.ascontiguousarray(capacity, np.float64), np.zeros(len(capacity)),
        np.full((num_row, num_hop), -1, np.int32), np.zeros(num_row), np.zeros(num_row), tag, active,
        np.arange(num_row - 1, -1, -1), ended, tally, *scratch(len(capacity)),
    )  # fmt: skip


def grown(f: Flows, num_more: int, num_hop: int) -> Flows:
    """The same flows with room for `num_more` that begin, of up to `num_hop` links."""
    held = int(f.tally[FREE])
    old, width = f.route.shape
    if num_more <= held and num_hop <= width:
        return f
    num_row = old + max(num_more - held, old) if num_more > held else old
    made = flows(f.capacity, num_row, max(width, num_hop))
    made.link_byte[:] = f.link_byte
    made.route[:old, :width] = f.route
    for name in ("left", "rate", "tag", "active"):
        getattr(made, name)[:old] = getattr(f, name)
    made.free[: num_row - old] = np.arange(num_row - 1, old - 1, -1)
    made.free[num_row - old : num_row - old + held] = f.free[:held]
    made.tally[:] = f.tally
    made.tally[FREE] = held + num_row - old
    return made


FLOWS_TYPE: Any = passed_by_address(flows(np.ones(1), 1))


@njit
def begin_one(f: Flows, byte: float, tag: int) -> int:
    """Takes a row for a flow of `byte` bytes and returns it; the caller writes its links. There must be a free row."""
    tally = f.tally
    tally[FREE] -= 1
    row = f.free[tally[FREE]]
    f.active[tally[RUNNING] + tally[BEGUN]] = row
    tally[BEGUN] += 1
    f.left[row] = byte
    f.tag[row] = tag
    return int(row)


@njit
def begin(f: Flows, route: Routes, byte: Floats, tag: int) -> int:
    """Begins flows, and returns how many: one without bytes or without links has ended already. -1 where a size is
    below 0 or is no number."""
    for k in range(byte.size):
        if not byte[k] >= 0.0:
            return -1
    num = 0
    for k in range(byte.size):
        if byte[k] > 0.0 and route[k, 0] >= 0:
            row = begin_one(f, byte[k], tag)
            f.route[row] = -1
            f.route[row, : route.shape[1]] = route[k]
            num += 1
    return num


@njit
def move(f: Flows, now: int) -> int:
    """Moves what runs on to `now`; returns how many flows ended: `ended` has their tags, in the order in which they
    began."""
    tally = f.tally
    num = tally[RUNNING]
    elapsed = float(now - tally[SINCE])
    tally[SINCE] = now
    if num == 0 or advance(f.route, f.active[:num], f.rate, f.left, elapsed, f.link_byte) == 0:
        return 0
    kept = num_ended = 0
    for k in range(num + tally[BEGUN]):
        row = f.active[k]
        if k < num and f.left[row] <= 0.0:
            f.ended[num_ended] = f.tag[row]
            num_ended += 1
            f.free[tally[FREE]] = row
            tally[FREE] += 1
        else:
            f.active[kept] = row
            kept += 1
    tally[RUNNING] = num - num_ended
    return num_ended


@njit
def fill(f: Flows) -> int:
    """Takes in what has begun and gives every flow its rate; returns the time until the next end, -1 where nothing
    runs."""
    tally = f.tally
    tally[RUNNING] += tally[BEGUN]
    tally[BEGUN] = 0
    num = tally[RUNNING]
    if num == 0:
        return -1
    max_min_rates(f.route, f.active[:num], f.capacity, f.rate, (f.unfixed, f.start, f.room))
    return next_end(f.active[:num], f.rate, f.left)


@njit
def cancel(f: Flows, tag: int) -> float:
    """Takes a flow of this tag out and returns the bytes that were left of it at the last change; -1: there is none.
    Its links are the others' from the next `fill` on."""
    tally = f.tally
    num = tally[RUNNING] + tally[BEGUN]
    at = 0
    while at < num and f.tag[f.active[at]] != tag:
        at += 1
    if at == num:
        return -1.0
    row = f.active[at]
    for k in range(at, num - 1):
        f.active[k] = f.active[k + 1]
    tally[RUNNING if at < tally[RUNNING] else BEGUN] -= 1
    f.free[tally[FREE]] = row
    tally[FREE] += 1
    return float(f.left[row])


@njit
def count_down(ended: Ints, left: Ints) -> int:
    """One flow less of each batch in `ended`; batches of which none is left move to its front. Returns how many."""
    num = 0
    for k in range(ended.size):
        batch = ended[k]
        left[batch] -= 1
        if left[batch] == 0:
            ended[num] = batch
            num += 1
    return num
