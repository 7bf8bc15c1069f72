"""When a DRAM command may be issued, and what it forbids afterwards: the timing state of one channel.

Commands, their scope and effect (PIM commands act on a range of banks: one bank, a group, a rank or all):

==========  ==================================================================================
ACT PRE     open and close a row of one bank in the normal row buffer (PRE of group -1: a rank)
RD WR       a burst from or to the open row
REF         all-bank refresh of one rank
GWRITE      copy a row into the global vector buffer; holds the data bus
PACT PPRE   open and close rows for the PIM units (a gang of banks at once)
COMP        one column of every bank in scope times the vector buffer; `arg` columns when composite
READRES     accumulators to the data bus
==========  ==================================================================================

With a single row buffer the PIM commands share the bank state of ACT and RD. With a dual row buffer they have
their own, and only activates (tFAW, tRRD), the command bus and the data bus remain shared.
Constraints: JESD235D; PIM ones from the Newton (MICRO'20) and NeuPIMs (ASPLOS'24) papers.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.dram import Dram
from kernels.jit import njit

Ints = npt.NDArray[np.int64]

COMMANDS: tuple[str, ...] = ("act", "pre", "rd", "wr", "ref", "gwrite", "pact", "comp", "readres", "ppre", "header")
ACT, PRE, RD, WR, REF, GWRITE, PACT, COMP, READRES, PPRE, HEADER = range(len(COMMANDS))
NUM_COMMAND = len(COMMANDS)


class PimTiming(NamedTuple):
    """PIM units of one channel, clock cycles."""

    dual: int  # 1: dual row buffer
    pact_space: int  # between two gang activates of a rank (tFAW, or a stretched spacing)
    mac: int  # between two columns of COMP
    comp_min: int  # least columns that a composite COMP lasts for (pipeline depth)
    gwrite: int  # GWRITE holds the data bus


class State(NamedTuple):
    """Earliest issue cycles. `p_` arrays are the PIM side of a bank; with one row buffer they are the same arrays."""

    row: Ints  # [bank] open row, -1 closed
    act: Ints  # [bank]
    column_rd: Ints  # [bank]
    column_wr: Ints  # [bank]
    pre: Ints  # [bank]
    p_row: Ints
    p_act: Ints
    p_comp: Ints
    p_pre: Ints
    group_act: Ints  # [rank, group]: tRRD, tFAW
    group_rd: Ints  # [rank, group]: tCCD, tWTR, tRTRS
    group_wr: Ints
    window: Ints  # [rank, 4] times of the last four activates
    gang: Ints  # [rank] earliest gang activate
    bus: Ints  # [1] earliest READRES or GWRITE by the data bus
    group_of: Ints  # [bank] its bank group, counted over the ranks
    rank_of: Ints  # [bank]


def new_state(dram: Dram, dual: bool) -> State:
    """An idle channel with all rows closed."""
    num_bank = dram.num_rank * dram.num_group * dram.num_bank
    num_group = dram.num_rank * dram.num_group

    bank = np.arange(num_bank)

    def zero() -> Ints:
        return np.zeros(num_bank, np.int64)

    row, act, rd, pre = np.full(num_bank, -1, np.int64), zero(), zero(), zero()
    p_row, p_act, p_comp, p_pre = (
        (np.full(num_bank, -1, np.int64), zero(), zero(), zero()) if dual else (row, act, rd, pre)
    )
    group_act, group_rd, group_wr = (np.zeros(num_group, np.int64) for _ in range(3))
    window = np.full((dram.num_rank, 4), -(10**6), np.int64)
    gang, bus = np.zeros(dram.num_rank, np.int64), np.zeros(1, np.int64)
    group_of, rank_of = bank // dram.num_bank, bank // (num_bank // dram.num_rank)
    return State(
        row, act, rd, zero(), pre, p_row, p_act, p_comp, p_pre,
        group_act, group_rd, group_wr, window, gang, bus, group_of, rank_of,
    )  # fmt: skip


@njit
def activate(state: State, dram: Dram, dual: int, bank: int, row: int, at: int) -> None:
    """ACT of one bank at cycle `at`."""
    group, rank = state.group_of[bank], state.rank_of[bank]
    state.row[bank] = row
    state.act[bank] = at + dram.tras + dram.trp
    state.column_rd[bank] = at + dram.trcdrd
    state.column_wr[bank] = at + dram.trcdwr
    state.pre[bank] = at + dram.tras
    if dual == 1:  # the other row buffer of the bank: only the spacing of activates
        state.p_act[bank] = max(state.p_act[bank], at + dram.trrd_l)
    oldest = state.window[rank, 1]
    state.window[rank, 0], state.window[rank, 1], state.window[rank, 2] = (
        state.window[rank, 1], state.window[rank, 2], state.window[rank, 3],
    )  # fmt: skip
    state.window[rank, 3] = at
    state.gang[rank] = max(state.gang[rank], at + dram.tfaw)
    for g in range(rank * dram.num_group, (rank + 1) * dram.num_group):
        space = dram.trrd_l if g == group else dram.trrd_s
        state.group_act[g] = max(state.group_act[g], at + space, oldest + dram.tfaw)


@njit
def gang_activate(state: State, dram: Dram, pim: PimTiming, low: int, high: int, row: int, at: int) -> None:
    """PACT of banks low..high-1. A gang of four or more fills a tFAW window of its rank by itself; a smaller
    one counts bank by bank, like ACT."""
    dual = pim.dual
    for bank in range(low, high):
        state.p_row[bank] = row
        state.p_act[bank] = at + dram.tras + dram.trp
        state.p_comp[bank] = at + dram.trcdrd
        state.p_pre[bank] = at + dram.tras
        if dual == 1:
            state.act[bank] = max(state.act[bank], at + dram.trrd_l)
    bank_a_rank = dram.num_group * dram.num_bank
    first, last = low // bank_a_rank, (high - 1) // bank_a_rank
    for rank in range(first, last + 1):
        size = min(high, (rank + 1) * bank_a_rank) - max(low, rank * bank_a_rank)
        for _ in range(min(size, 4)):
            for i in range(3):
                state.window[rank, i] = state.window[rank, i + 1]
            state.window[rank, 3] = at
        space = max(pim.pact_space, dram.tfaw)
        if size >= 4:
            state.gang[rank] = max(state.gang[rank], at + pim.pact_space)
        else:
            space = dram.trrd_l
            state.gang[rank] = max(state.gang[rank], at + dram.tfaw)
        for g in range(rank * dram.num_group, (rank + 1) * dram.num_group):
            state.group_act[g] = max(state.group_act[g], at + space, state.window[rank, 0] + dram.tfaw)


@njit
def precharge(state: State, dram: Dram, bank: int, at: int) -> None:
    """PRE of one bank."""
    state.row[bank] = -1
    state.act[bank] = max(state.act[bank], at + dram.trp)


@njit
def column(state: State, dram: Dram, bank: int, write: int, at: int) -> None:
    """RD (`write` 0) or WR (1) on the open row of a bank."""
    group, rank = state.group_of[bank], state.rank_of[bank]
    if write == 0:
        state.pre[bank] = max(state.pre[bank], at + dram.trtp)
        state.bus[0] = max(state.bus[0], at + dram.burst)
    else:
        state.pre[bank] = max(state.pre[bank], at + dram.tcwl + dram.burst + dram.twr)
        state.bus[0] = max(state.bus[0], at + dram.tcwl + dram.burst + dram.trtrs - dram.tcl)
    mine, other = (state.group_rd, state.group_wr) if write == 0 else (state.group_wr, state.group_rd)
    turn_from = at + dram.tcwl + dram.burst  # end of write data
    first = rank * dram.num_group
    for g in range(dram.num_rank * dram.num_group):
        if g == group:
            same, turn = max(dram.burst, dram.tccd_l), turn_from + dram.twtr_l
        elif first <= g < first + dram.num_group:
            same, turn = max(dram.burst, dram.tccd_s), turn_from + dram.twtr_s
        else:
            same, turn = dram.burst + dram.trtrs, turn_from + dram.trtrs - dram.tcl
        mine[g] = max(mine[g], at + same)
        other[g] = max(other[g], at + dram.trtw if write == 0 else turn)


@njit
def hold_bus(state: State, dram: Dram, cycle: int, at: int) -> None:
    """READRES or GWRITE: the data bus is taken as by a read for `cycle` cycles."""
    for g in range(dram.num_rank * dram.num_group):
        state.group_rd[g] = max(state.group_rd[g], at + cycle + dram.trtrs)
        state.group_wr[g] = max(state.group_wr[g], at + cycle + dram.trtw)
    state.bus[0] = max(state.bus[0], at + cycle)


@njit
def compute(state: State, dram: Dram, pim: PimTiming, low: int, high: int, num_column: int, at: int) -> int:
    """COMP on banks low..high-1; returns the cycle in which the units are free again."""
    busy = pim.mac * max(num_column, pim.comp_min) if num_column > 1 else pim.mac * max(num_column, 1)
    for bank in range(low, high):
        state.p_comp[bank] = max(state.p_comp[bank], at + busy)
        state.p_pre[bank] = max(state.p_pre[bank], at + busy + dram.trtp - pim.mac)
    return at + busy


@njit
def gang_precharge(state: State, dram: Dram, low: int, high: int, at: int) -> None:
    """PPRE of banks low..high-1."""
    for bank in range(low, high):
        state.p_row[bank] = -1
        state.p_act[bank] = max(state.p_act[bank], at + dram.trp)


@njit
def refresh(state: State, dram: Dram, rank: int, at: int) -> None:
    """REF of a rank with all its rows closed, both row buffers."""
    low = rank * dram.num_group * dram.num_bank
    for bank in range(low, low + dram.num_group * dram.num_bank):
        state.act[bank] = at + dram.trfc
        state.p_act[bank] = at + dram.trfc
