"""Effective bandwidth of one DRAM channel in closed form, from its organisation and timing.

A channel moves a burst of `burst_byte` in `burst` clock cycles. What it loses, term by term:

- refresh: every tREFI a rank is away for tRFC, plus closing and reopening the row in use;
- rows: opening a row costs nothing while the other banks can be opened in time (tRC over the banks in turn,
  tFAW over four activates, tRRD) and while a row has bursts enough to hide it;
- bank groups: two bursts to one bank group are tCCD_L apart, to two groups tCCD_S;
- ranks: a change of rank costs tRTRS on the data bus;
- turn-around: a change from reads to writes and back idles the data bus.

`kernels/dram_command.py` issues the same traffic command by command; tests hold the two together. All times in
cycles of the command clock (`tck_ps`), unless said. Sources of the constraints: JESD235D (HBM2), JESD238A (HBM3).
"""

from typing import NamedTuple

import numpy as np

from kernels.jit import njit


class Dram(NamedTuple):
    """One channel (or pseudo-channel): organisation, then timing in clock cycles."""

    num_rank: int
    num_group: int  # bank groups a rank
    num_bank: int  # banks a group
    page_byte: int  # a row of one bank
    burst_byte: int
    burst: int  # data-bus cycles of a burst
    row_bus: int  # 1: row commands have their own command bus (HBM); 0: one command a cycle in all
    tck_ps: int
    tcl: int
    tcwl: int
    trcdrd: int
    trcdwr: int
    trp: int
    tras: int
    trrd_s: int
    trrd_l: int
    tfaw: int
    tccd_s: int
    tccd_l: int
    trtp: int
    twr: int
    twtr_s: int
    twtr_l: int
    trtw: int  # read command to write command
    trtrs: int  # data bus hand-over between ranks
    trfc: int
    trefi: int


@njit
def row_cycle(dram: Dram) -> int:
    """tRC: activate to activate of one bank."""
    return dram.tras + dram.trp


@njit
def bank_count(dram: Dram) -> int:
    """Banks of the channel, all ranks."""
    return dram.num_rank * dram.num_group * dram.num_bank


@njit
def peak_byte_per_s(dram: Dram) -> float:
    """Pin bandwidth of the channel, byte/s."""
    return dram.burst_byte / (dram.burst * dram.tck_ps * 1e-12)


@njit
def refresh_share(dram: Dram) -> float:
    """Share of time left by all-bank refresh: 1 - tRFC/tREFI."""
    return 1.0 - dram.trfc / dram.trefi


@njit
def activate_cycle(dram: Dram) -> float:
    """Least cycles between two activates of the channel, all banks and ranks taking turns."""
    rank = max(dram.tfaw / 4.0, float(dram.trrd_s))
    return max(rank / dram.num_rank, row_cycle(dram) / bank_count(dram), 1.0)


@njit
def next_activate_cycle(dram: Dram, reach: float, interleaved: bool) -> float:
    """Least cycles between two activates of rows in order: bank after bank of a group (or group after group where
    `interleaved`), rank after rank; only the `reach` rows that requests in flight touch can be opened out of turn."""
    near = (dram.trrd_l * (dram.num_bank - 1.0) + dram.trrd_s) / dram.num_bank
    space = max(float(dram.trrd_s) if interleaved else near, dram.tfaw / 4.0)
    ranks = min(float(dram.num_rank), 1.0 + reach / (dram.num_group * dram.num_bank))
    return space / ranks


@njit
def turn_cycle(dram: Dram, write_share: float, queue: float) -> float:
    """Data-bus cycles that a burst loses, on average, by changes from reads to writes and back: the write queue
    fills to `queue` and drains to a quarter of it, so a change of both kinds comes every 3/4 queue writes."""
    a_turn = dram.trtw - dram.burst + dram.tcwl + dram.twtr_l
    return a_turn * write_share / (0.75 * queue)


@njit
def stream_share(dram: Dram, stride_byte: float, write_share: float, queue: float, interleaved: bool) -> float:
    """Share of the pin bandwidth of a sequential stream (`stride_byte` <= a burst) or of one burst every
    `stride_byte`, bank after bank; the bursts moved count, whether used or not.

    `write_share`: part of the bursts that are writes. `queue`: requests in flight, the look-ahead that hides the
    opening of the next row. `interleaved`: consecutive bursts go to different bank groups (else one, at tCCD_L).
    """
    burst_a_row = max(1.0, np.floor(dram.page_byte / max(stride_byte, float(dram.burst_byte))))
    column = float(max(dram.burst, dram.tccd_s if interleaved else dram.tccd_l))
    if not interleaved:  # requests in flight that reach into the next bank groups take turns
        groups = min(float(dram.num_group), 1.0 + max(0.0, queue / burst_a_row - 1.0) / dram.num_bank)
        column = max(float(max(dram.burst, dram.tccd_s)), column / groups)
    row = burst_a_row * column
    closed = min(1.0, row * bank_count(dram) / dram.trefi)  # rows that a refresh has closed in the meantime
    opening = dram.trp * (1 - closed) + dram.trcdrd
    group_row = burst_a_row * (dram.num_group if interleaved else 1)  # groups open their rows together
    if group_row >= queue:
        row += max(0.0, opening - queue * column) / (dram.num_group if interleaved else 1)
    else:  # the requests in flight reach over several rows, which open side by side
        row = max(row, (opening + column) * burst_a_row / queue)
    commands = burst_a_row + (0.0 if dram.row_bus else 2.0)
    least = max(activate_cycle(dram), next_activate_cycle(dram, queue / burst_a_row, interleaved))
    if group_row < queue:  # limits that meet both hurt, as in `random_share`
        row = (row**3 + least**3) ** (1.0 / 3.0)
    row = max(row, least, commands) + burst_a_row * turn_cycle(dram, write_share, queue)
    return refresh_share(dram) * burst_a_row * dram.burst / row


@njit
def random_share(dram: Dram, write_share: float, queue: float) -> float:
    """Share of the pin bandwidth of single bursts on random banks and rows with `queue` in flight.

    Two limits. The queue: a burst stays for tRP + tRCD and, if its bank is busy, for what is left of that bank's
    tRC (the mean wait of a server of constant service time at use rho, tRC * rho / (2 (1 - rho))); the rate X at
    which queue = X * stay is found by bisection. The shared parts: activates (tFAW, tRRD), data bus with the
    rank changes of random order, command bus. Near where they meet both hurt: their times add as fourth
    powers (exponent fitted to the command-level model over the catalogue, queues of 8 to 32: within 13 %).
    """
    tier = dram.num_rank * dram.num_group * dram.num_bank
    other_rank = (dram.num_rank - 1.0) / dram.num_rank
    own_group = (1.0 - other_rank) / dram.num_group
    space = own_group * max(dram.burst, dram.tccd_l) + (1.0 - own_group) * max(dram.burst, dram.tccd_s)
    bus = max(space + other_rank * dram.trtrs, 1.0 if dram.row_bus else 3.0)
    shared = max(bus, activate_cycle(dram))
    low, high = 0.0, tier / row_cycle(dram)
    for _ in range(40):
        rate = 0.5 * (low + high)
        rho = rate * row_cycle(dram) / tier
        stay = dram.trp + dram.trcdrd + 0.5 * row_cycle(dram) * rho / (1.0 - rho)
        if rate * stay < queue:
            low = rate
        else:
            high = rate
    cycle = (shared**4 + (1.0 / low) ** 4) ** 0.25 + turn_cycle(dram, write_share, queue)
    return refresh_share(dram) * dram.burst / cycle
