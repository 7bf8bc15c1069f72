"""Command-level reference of one DRAM channel: every command at its exact cycle.

A controller with a read and a write queue serves requests first-ready first-come-first-served: of all commands
that would serve a queued request, the one that may issue earliest goes next, columns before rows, older before
newer; a row is not closed while a queued request hits it. Writes drain when their queue is full. Refresh is
all-bank, rank by rank, at tREFI. A PIM program runs beside the requests, tile by tile; a tile starts with HEADER
(whose argument is its estimated length, so that no refresh falls into it) and ends with its last PPRE.

With a single row buffer (blocked) requests wait while a tile runs, and between two tiles `quantum` bursts of
waiting requests are served. With a dual row buffer both sides issue whenever a command is ready, and a PIM
activate holds back the rank's other activates. The log has a row a command: cycle, command, rank, group, bank,
row or argument (-1: all). An independent checker in the tests reads it.
"""

import numpy as np
import numpy.typing as npt

from kernels.dram import Dram
from kernels.dram_timing import (
    ACT,
    COMP,
    GWRITE,
    HEADER,
    NUM_COMMAND,
    PACT,
    PPRE,
    PRE,
    RD,
    READRES,
    REF,
    WR,
    PimTiming,
    State,
    activate,
    column,
    compute,
    gang_activate,
    gang_precharge,
    hold_bus,
    new_state,
    precharge,
    refresh,
)
from kernels.jit import njit

Ints = npt.NDArray[np.int64]
FAR = 1 << 60
NO_PIM = PimTiming(0, 0, 1, 1, 1)
REQUEST_DTYPE = np.dtype([("arrive", "i8"), ("bank", "i4"), ("row", "i4"), ("write", "i1")])
PROGRAM_DTYPE = np.dtype(
    [("command", "i1"), ("rank", "i4"), ("group", "i4"), ("bank", "i4"), ("row", "i4"), ("arg", "i4")]
)
Requests = npt.NDArray[np.void]
Program = npt.NDArray[np.void]


def run_channel(
    dram: Dram,
    requests: Requests,
    program: Program | None = None,
    pim: PimTiming = NO_PIM,
    *,
    queue: int = 8,
    quantum: int = 64,
    log: bool = False,
) -> tuple[Ints, Ints, Ints]:
    """Serve `requests` (`REQUEST_DTYPE`, in order of arrival; `bank` counts over ranks and groups) and `program`
    (`PROGRAM_DTYPE`, -1 meaning all) on one idle channel.

    Returns the count of each command [NUM_COMMAND], the cycles in which (requests, program) ended, and the log
    [command, 6] (empty unless asked for).
    """
    steps = np.zeros(0, PROGRAM_DTYPE) if program is None else program
    count = np.zeros(NUM_COMMAND, np.int64)
    end = np.zeros(2, np.int64)
    capacity = 4 * len(requests) + 4 * len(steps) + 1024 if log else 0
    table = np.empty((capacity, 6), np.int64)
    used = _run(dram, pim, new_state(dram, bool(pim.dual)), requests, steps, queue, quantum, count, end, table)
    if log and used > capacity:  # refreshes of a long idle stretch: now the size is known
        table = np.empty((used, 6), np.int64)
        count[:] = 0
        _run(dram, pim, new_state(dram, bool(pim.dual)), requests, steps, queue, quantum, count, end, table)
    return count, end, table[:used] if log else table


@njit
def scope(dram: Dram, rank: int, group: int, bank: int) -> tuple[int, int]:
    """Range of banks that (rank, group, bank) names, -1 meaning all; narrower fields need the wider ones."""
    bank_a_rank = dram.num_group * dram.num_bank
    if rank < 0:
        return 0, dram.num_rank * bank_a_rank
    if group < 0:
        return rank * bank_a_rank, (rank + 1) * bank_a_rank
    low = rank * bank_a_rank + group * dram.num_bank
    if bank < 0:
        return low, low + dram.num_bank
    return low + bank, low + bank + 1


@njit
def _program_next(
    dram: Dram, pim: PimTiming, state: State, kind: int, low: int, high: int, free: int
) -> tuple[int, int]:
    """Earliest cycle and command of a PIM step (a PRE of one bank of a shared row buffer may have to go first);
    the bank of that PRE is returned as `-1 - bank` in place of the command."""
    at = free
    if kind == PACT:
        for bank in range(low, high):
            if state.p_row[bank] >= 0:
                return max(free, state.p_pre[bank]), -1 - bank
            at = max(at, state.p_act[bank])
        for group in range(state.group_of[low], state.group_of[high - 1] + 1):
            at = max(at, state.group_act[group])
        if high - low >= 4:
            for rank in range(state.rank_of[low], state.rank_of[high - 1] + 1):
                at = max(at, state.gang[rank])
    elif kind == COMP:
        for bank in range(low, high):
            at = max(at, state.p_comp[bank])
        if pim.dual == 0:
            for group in range(state.group_of[low], state.group_of[high - 1] + 1):
                at = max(at, state.group_rd[group])
    elif kind == PPRE:
        for bank in range(low, high):
            at = max(at, state.p_pre[bank])
    elif kind == GWRITE:
        at = max(at, state.bus[0])
    elif kind == READRES:
        at = max(at, state.bus[0])
        for bank in range(low, high):
            at = max(at, state.p_comp[bank])
    return at, kind


@njit
def _apply_program(
    dram: Dram, pim: PimTiming, state: State, kind: int, low: int, high: int, row: int, arg: int, at: int
) -> None:
    if kind == PACT:
        gang_activate(state, dram, pim, low, high, row, at)
    elif kind == COMP:
        compute(state, dram, pim, low, high, arg, at)
    elif kind == PPRE:
        gang_precharge(state, dram, low, high, at)
    elif kind == GWRITE:
        hold_bus(state, dram, pim.gwrite, at)
    else:
        hold_bus(state, dram, dram.burst, at)


@njit
def _apply_refresh(dram: Dram, state: State, rank: int, kind: int, hits: Ints, at: int) -> None:
    """PRE of all open rows of a rank, or REF."""
    if kind == REF:
        refresh(state, dram, rank, at)
        return
    bank_a_rank = dram.num_group * dram.num_bank
    for bank in range(rank * bank_a_rank, (rank + 1) * bank_a_rank):
        if state.row[bank] >= 0:
            precharge(state, dram, bank, at)
        hits[0, bank] = hits[1, bank] = 0


@njit
def _request_next(
    dram: Dram, state: State, bank: int, row: int, write: int, hit: int, row_from: int, column_from: int
) -> tuple[int, int]:
    """Earliest cycle and command (RD for either column command) that serves a queued request of a bank."""
    group = state.group_of[bank]
    if state.row[bank] == row:
        if write == 0:
            return max(state.column_rd[bank], state.group_rd[group], column_from), RD
        return max(state.column_wr[bank], state.group_wr[group], column_from), RD
    if state.row[bank] < 0:
        return max(state.act[bank], state.group_act[group], row_from), ACT
    if hit > 0:
        return FAR, PRE
    return max(state.pre[bank], row_from), PRE


@njit
def _refresh_next(dram: Dram, state: State, rank: int, row_from: int) -> tuple[int, int]:
    """Earliest PRE of all open rows of a rank (else REF), and which of the two."""
    bank_a_rank = dram.num_group * dram.num_bank
    ready, close, any_open = row_from, row_from, False
    for bank in range(rank * bank_a_rank, (rank + 1) * bank_a_rank):
        if state.row[bank] >= 0:
            any_open, close = True, max(close, state.pre[bank])
        ready = max(ready, state.act[bank], state.p_act[bank])
    return (close, PRE) if any_open else (ready, REF)


@njit
def _run(
    dram: Dram, pim: PimTiming, state: State, requests: Requests, steps: Program,
    depth: int, quantum: int, count: Ints, end: Ints, log: Ints,
) -> int:  # fmt: skip
    """The loop of one command a pass; returns the number of commands.

    `soonest[i]` is twice a lower bound of the cycle at which queue entry i can have its next command, plus 1
    for a row command. Constraints only grow, so an entry whose old bound is not below the least found is passed
    over; the bounds of a bank start anew when its row or its hits change.
    """
    num_request, num_step = len(requests), len(steps)
    num_rank, bank_a_rank = dram.num_rank, dram.num_group * dram.num_bank
    queue_bank = np.zeros(2 * depth, np.int64)  # read queue, then write queue; oldest first
    queue_row = np.zeros(2 * depth, np.int64)
    soonest = np.zeros(2 * depth, np.int64)
    size = np.zeros(2, np.int64)
    hits = np.zeros((2, num_rank * bank_a_rank), np.int64)  # queued requests that hit the open row
    due = np.zeros(num_rank, np.bool_)
    next_ref = np.zeros(num_rank, np.int64)
    for rank in range(num_rank):
        next_ref[rank] = dram.trefi * (rank + 1) // num_rank
    fetched, served, step, used = 0, 0, 0, 0
    now, row_free, column_free, last_row = 0, 0, 0, 0
    draining, in_tile, since_tile = 0, False, quantum
    while served < num_request or step < num_step:
        while fetched < num_request:  # requests that have arrived enter their queue
            side, arrive = requests[fetched]["write"], requests[fetched]["arrive"]
            if size[side] == depth:
                break
            if arrive > now:
                if size[0] + size[1] > 0 or step < num_step:
                    break
                now = arrive  # nothing else to do: time passes
            bank, i = requests[fetched]["bank"], side * depth + size[side]
            queue_bank[i], queue_row[i], soonest[i] = bank, requests[fetched]["row"], 0
            size[side] += 1
            if state.row[bank] == requests[fetched]["row"]:
                hits[side, bank] += 1
            fetched += 1
        if size[1] == depth or (size[0] == 0 and size[1] > 0):
            draining = 1
        elif size[1] == 0 or (draining == 1 and size[1] <= depth // 4 and size[0] > 0):
            draining = 0
        row_from, column_from = max(now, row_free), max(now, column_free)
        # the PIM program's next command
        pim_at, pim_kind, low, high = FAR, -1, 0, 0
        while step < num_step and steps[step]["command"] == HEADER:
            if pim.dual == 0 and since_tile < quantum and size[0] + size[1] > 0:
                break
            any_due = False
            for rank in range(num_rank):
                due[rank] = due[rank] or now + steps[step]["arg"] > next_ref[rank]
                any_due = any_due or due[rank]
            if any_due:
                break
            in_tile, since_tile = True, 0
            step += 1
        if step < num_step and steps[step]["command"] != HEADER:
            low, high = scope(dram, steps[step]["rank"], steps[step]["group"], steps[step]["bank"])
            kind = steps[step]["command"]
            free = row_from if kind in (PACT, PPRE) else column_from
            pim_at, pim_kind = _program_next(dram, pim, state, kind, low, high, free)
        # the requests' next command
        best, best_kind, best_slot = FAR, -1, -1
        if size[draining] > 0 and not (in_tile and pim.dual == 0):
            least, last = 2 * FAR, -1
            for i in range(draining * depth, draining * depth + size[draining]):
                bank = queue_bank[i]
                if soonest[i] >= least or (bank == last and queue_row[i] == last_row):
                    continue
                last, last_row = bank, queue_row[i]
                at, kind = _request_next(
                    dram, state, bank, last_row, draining, hits[draining, bank], row_from, column_from
                )
                rank = state.rank_of[bank]
                if due[rank] or (
                    kind == ACT and pim_kind == PACT and state.rank_of[low] <= rank <= state.rank_of[high - 1]
                ):
                    at = FAR  # the rank waits for its refresh, or for a PIM activate to find its window
                key = 2 * at + (0 if kind == RD else 1)
                soonest[i] = key
                if key < least:
                    least, best, best_kind, best_slot = key, at, kind, i
        # refresh comes before anything that would be issued after its time
        first = min(best, pim_at)
        ref_at, ref_kind, ref_rank, newly = FAR, REF, -1, False
        for rank in range(num_rank):
            if not due[rank]:
                if next_ref[rank] <= first < FAR:
                    due[rank] = newly = True
            elif not in_tile:
                at, kind = _refresh_next(dram, state, rank, row_from)
                if at < ref_at:
                    ref_at, ref_kind, ref_rank = at, kind, rank
        if newly:
            soonest[:] = 0
            continue
        # issue the earliest; refresh and PIM win ties
        bank, arg = -1, -1
        if ref_at <= first:
            now, kind, rank = ref_at, ref_kind, ref_rank
            _apply_refresh(dram, state, rank, kind, hits, now)
            if kind == REF:
                due[rank] = False
                next_ref[rank] += dram.trefi
            soonest[:] = 0
        elif pim_at <= best:
            now, kind = pim_at, pim_kind
            if kind < 0:  # a normal row that a shared row buffer must close first
                bank = -1 - kind
                kind = PRE
                precharge(state, dram, bank, now)
                hits[0, bank] = hits[1, bank] = 0
            else:
                arg = steps[step]["row"] if kind == PACT else steps[step]["arg"]
                _apply_program(dram, pim, state, kind, low, high, steps[step]["row"], steps[step]["arg"], now)
                if pim.dual == 0 and kind in (PACT, PPRE):
                    hits[:, low:high] = 0
                step += 1
                in_tile = step < num_step and steps[step]["command"] != HEADER
                end[1] = now
            soonest[:] = 0
        else:
            now, kind = best, best_kind
            bank, arg = queue_bank[best_slot], queue_row[best_slot]
            if kind == RD:
                column(state, dram, bank, draining, now)
                hits[draining, bank] -= 1
                for i in range(best_slot, draining * depth + size[draining] - 1):
                    queue_bank[i] = queue_bank[i + 1]
                    queue_row[i] = queue_row[i + 1]
                    soonest[i] = soonest[i + 1]
                size[draining] -= 1
                served += 1
                since_tile += 1
                end[0] = now + (dram.tcwl if draining == 1 else dram.tcl) + dram.burst
                kind = WR if draining == 1 else RD
            else:
                if kind == ACT:
                    activate(state, dram, pim.dual, bank, arg, now)
                else:
                    precharge(state, dram, bank, now)
                hits[0, bank] = hits[1, bank] = 0
            for side in range(2):
                for i in range(side * depth, side * depth + size[side]):
                    if queue_bank[i] == bank:
                        soonest[i] = 0
                        if kind == ACT and queue_row[i] == arg:
                            hits[side, bank] += 1
        if kind in (RD, WR, COMP, READRES, GWRITE) or dram.row_bus == 0:
            column_free = now + 1
        if kind in (ACT, PRE, REF, PACT, PPRE) or dram.row_bus == 0:
            row_free = now + 1
        count[kind] += 1
        if used < len(log):
            log[used, 0], log[used, 1], log[used, 5] = now, kind, arg
            if kind >= GWRITE:
                log[used, 2], log[used, 3], log[used, 4] = (
                    steps[step - 1]["rank"],
                    steps[step - 1]["group"],
                    steps[step - 1]["bank"],
                )
            elif bank < 0:
                log[used, 2], log[used, 3], log[used, 4] = rank, -1, -1
            else:
                log[used, 2] = state.rank_of[bank]
                log[used, 3], log[used, 4] = state.group_of[bank] % dram.num_group, bank % dram.num_bank
        used += 1
    return used
