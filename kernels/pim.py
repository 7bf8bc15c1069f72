"""Matrix-vector products of attention on PIM units, in cycles of the memory clock.

A *row tile* is one DRAM row in every bank of a channel: the banks are opened gang by gang (`act_space` apart, the
power limit), each result takes `n` columns of multiply-accumulate and is read out (a composite command's last one while
the rows close), then the rows are closed; tiles of little work are held back by activates:

    row_tile = max(tile_min, (gangs a rank - 1) * act_space + tRCD + results * columns
                             + (results - 1) * readout + close + extra)

- logit = q . K: a page of the key cache holds the values of several heads of one token and a bank one token, so a
  tile gives `heads a page` results of head_dim/column values for as many tokens as banks. The query goes to the
  global vector buffer once for each page of width.
- attend = p . V: a page holds the tokens of one value column, a bank one column, so a tile gives one result.

A composite command (NeuPIMs, ASPLOS'24) does all columns of a result; with fine-grained ones (Newton, MICRO'20) every
column and every readout is a command. Where all channels are fed from one queue that lets a command go every `issue`
cycles, channel after channel, a channel starts when those before it are through: fine-grained commands then cost far
more than the units do. Mapping: NeuPIMs, algorithm 1; constants that a device fits are named in its file.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.jit import njit

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class PimUnit(NamedTuple):
    """PIM of one channel as numbers (cycles of the memory clock)."""

    num_channel: int
    num_bank: int  # banks of a channel, all ranks, that compute together
    page_value: int  # values of a row of one bank
    column_value: int  # values of one COMP column
    num_gang: int  # gangs to open a rank's banks
    act_space: int  # between gang activates of a rank
    trcd: int
    close: int  # tRTP + tRP
    mac: int  # a column
    comp_min: int  # least columns that a composite command lasts for
    readout: int  # a result to the bus after its columns
    fine: int  # 1: every column is a command of its own
    issue: int  # cycles between two commands of the one queue that feeds all channels; 0: a queue a channel
    extra: int  # command handling a tile
    tile_min: int  # least cycles of a tile
    gwrite: int  # a page of operands into the global vector buffer
    handover: int  # after the last logit: its softmax, before the attends begin


@njit
def ceil_div(a: int, b: int) -> int:
    """Ceiling of a/b for positive integers."""
    return -(-a // b)


@njit
def row_tile_cycle(unit: PimUnit, num_result: int, num_column: int) -> int:
    """Cycles of one row tile with `num_result` results of `num_column` columns each.

    >>> bare = PimUnit(32, 32, 512, 16, 4, 30, 14, 18, 2, 6, 2, 0, 0, 0, 0, 100, 0)
    >>> row_tile_cycle(bare, 4, 8)  # NeuPIMs: 104 activation + 72 compute + 18 precharge, the last readout hidden
    192
    """
    opened = (unit.num_gang - 1) * unit.act_space + unit.trcd
    columns = num_column if unit.fine == 1 else max(num_column, unit.comp_min)
    work = num_result * unit.mac * columns + (num_result - 1) * unit.readout
    last = unit.readout if unit.fine == 1 else 0
    return max(unit.tile_min, opened + work + unit.close + unit.extra) + last


@njit
def row_tile_command(unit: PimUnit, num_result: int, num_column: int) -> int:
    """Commands of one row tile: its header, and one a result or (fine-grained) one a column and one a readout."""
    return 1 + num_result * (num_column + 1 if unit.fine == 1 else 1)


@njit
def logit_cycle(unit: PimUnit, kv_len: int, num_head: int, head_dim: int) -> int:
    """q . K of one query row over `kv_len` tokens of `num_head` KV heads, all on one channel."""
    width = num_head * head_dim
    head_a_page = max(1, unit.page_value // head_dim)
    num_chunk = ceil_div(width, head_a_page * head_dim)
    num_tile = ceil_div(kv_len, unit.num_bank)
    last = num_head - (num_chunk - 1) * head_a_page
    num_column = ceil_div(head_dim, unit.column_value)
    full = unit.gwrite + num_tile * row_tile_cycle(unit, head_a_page, num_column)
    return (num_chunk - 1) * full + unit.gwrite + num_tile * row_tile_cycle(unit, last, num_column)


@njit
def attend_cycle(unit: PimUnit, kv_len: int, num_head: int, head_dim: int) -> int:
    """p . V of one query row over `kv_len` tokens of `num_head` KV heads, all on one channel."""
    num_chunk = ceil_div(kv_len, unit.page_value)
    num_tile = ceil_div(head_dim, unit.num_bank)
    full = unit.gwrite + num_tile * row_tile_cycle(unit, 1, unit.page_value // unit.column_value)
    rest = kv_len - (num_chunk - 1) * unit.page_value
    last = unit.gwrite + num_tile * row_tile_cycle(unit, 1, ceil_div(rest, unit.column_value))
    return num_head * ((num_chunk - 1) * full + last)


@njit
def request_cycle(unit: PimUnit, kv_len: int, query_len: int, num_head: int, num_kv_head: int, head_dim: int) -> int:
    """Both products of one request, equal requests on all channels: every query row and every query head of a KV head
    repeats the pass, for the units multiply matrix by vector."""
    passes = query_len * num_head // num_kv_head
    issue = unit.issue * unit.num_channel
    logit = max(
        logit_cycle(unit, kv_len, num_kv_head, head_dim), issue * logit_command(unit, kv_len, num_kv_head, head_dim)
    )
    attend = max(
        attend_cycle(unit, kv_len, num_kv_head, head_dim), issue * attend_command(unit, kv_len, num_kv_head, head_dim)
    )
    return passes * (logit + attend)


@njit
def logit_command(unit: PimUnit, kv_len: int, num_head: int, head_dim: int) -> int:
    """Commands of `logit_cycle`."""
    head_a_page = max(1, unit.page_value // head_dim)
    num_chunk = ceil_div(num_head * head_dim, head_a_page * head_dim)
    num_tile = ceil_div(kv_len, unit.num_bank)
    last = num_head - (num_chunk - 1) * head_a_page
    num_column = ceil_div(head_dim, unit.column_value)
    tiles = (num_chunk - 1) * row_tile_command(unit, head_a_page, num_column)
    return num_chunk + num_tile * (tiles + row_tile_command(unit, last, num_column))


@njit
def attend_command(unit: PimUnit, kv_len: int, num_head: int, head_dim: int) -> int:
    """Commands of `attend_cycle`."""
    num_chunk = ceil_div(kv_len, unit.page_value)
    num_tile = ceil_div(head_dim, unit.num_bank)
    rest = kv_len - (num_chunk - 1) * unit.page_value
    full = row_tile_command(unit, 1, unit.page_value // unit.column_value)
    last = row_tile_command(unit, 1, ceil_div(rest, unit.column_value))
    return num_head * (num_chunk + num_tile * ((num_chunk - 1) * full + last))


@njit
def channel_cycle(
    unit: PimUnit, kv_len: Ints, channel: Ints, num_head: int, num_kv_head: int, head_dim: int
) -> tuple[Ints, Ints, Ints]:
    """Cycle in which each channel ends its logits and its attends [num_channel], both counted from the start of that
    product, and the cycles that its units work. Requests of a channel follow each other; with one queue for all
    channels their commands leave channel by channel."""
    work = np.zeros((2, unit.num_channel), np.int64)
    command = np.zeros((2, unit.num_channel), np.int64)
    passes = num_head // num_kv_head
    for i in range(len(kv_len)):
        work[0, channel[i]] += passes * logit_cycle(unit, kv_len[i], num_kv_head, head_dim)
        work[1, channel[i]] += passes * attend_cycle(unit, kv_len[i], num_kv_head, head_dim)
        command[0, channel[i]] += passes * logit_command(unit, kv_len[i], num_kv_head, head_dim)
        command[1, channel[i]] += passes * attend_command(unit, kv_len[i], num_kv_head, head_dim)
    end = work.copy()
    for product in range(2):
        start = 0
        for c in range(unit.num_channel):
            left = start + unit.issue * command[product, c]
            if work[product, c] > 0:
                end[product, c] = max(start + work[product, c], left)
            start = left
    return end[0], end[1], work[0] + work[1]


@njit
def attention_cycle(
    unit: PimUnit, kv_len: Ints, channel: Ints, num_head: int, num_kv_head: int, head_dim: int
) -> tuple[int, int, float]:
    """Cycles of the logits (with the last softmax) and of the attends of a batch, and the mean cycles that the units
    of a channel work: attends begin when all logits are there."""
    if len(kv_len) == 0:
        return 0, 0, 0.0
    logit, attend, work = channel_cycle(unit, kv_len, channel, num_head, num_kv_head, head_dim)
    return logit.max() + unit.handover, attend.max(), work.mean()


@njit
def gemv_cycle(unit: PimUnit, n: int, k: int) -> int:
    """A vector of `k` times a `k x n` matrix spread over all channels (an expert's projection for one token): each
    bank holds a page of a column of the matrix, columns go round over channels and banks."""
    num_chunk = ceil_div(k, unit.page_value)
    num_tile = ceil_div(n, unit.num_bank * unit.num_channel)
    full = unit.gwrite + num_tile * row_tile_cycle(unit, 1, ceil_div(min(k, unit.page_value), unit.column_value))
    rest = k - (num_chunk - 1) * unit.page_value
    last = unit.gwrite + num_tile * row_tile_cycle(unit, 1, ceil_div(rest, unit.column_value))
    return (num_chunk - 1) * full + last


@njit
def round_robin(kv_len: Ints, num_channel: int) -> Ints:
    """Channel of each request, in turn [request]."""
    channel = np.empty(len(kv_len), np.int64)
    for i in range(len(kv_len)):
        channel[i] = i % num_channel
    return channel


@njit
def least_loaded(load: Ints, num_channel: int) -> Ints:
    """Channel of each request: by load descending, each to the channel of least load so far (greedy bin packing;
    within 4/3 of the best makespan, Graham 1969)."""
    channel = np.empty(len(load), np.int64)
    total = np.zeros(num_channel, np.int64)
    order = np.argsort(-load, kind="mergesort")
    for i in order:
        least = 0
        for c in range(1, num_channel):
            if total[c] < total[least]:
                least = c
        channel[i] = least
        total[least] += load[i]
    return channel


@njit
def request_load(unit: PimUnit, kv_len: Ints, num_head: int, head_dim: int) -> Ints:
    """Cycles of each request's attention on a channel of its own [request]: what placement weighs."""
    load = np.empty(len(kv_len), np.int64)
    for i in range(len(kv_len)):
        load[i] = logit_cycle(unit, kv_len[i], num_head, head_dim) + attend_cycle(unit, kv_len[i], num_head, head_dim)
    return load


@njit
def imbalance(load: Ints, channel: Ints, num_channel: int) -> float:
    """Load of the fullest channel over the mean of all; 1 is even.

    >>> import numpy as np
    >>> imbalance(np.array([4, 4, 2, 2]), np.array([0, 0, 1, 1]), 2)
    1.3333333333333333
    """
    total = np.zeros(num_channel, np.int64)
    for i in range(len(load)):
        total[channel[i]] += load[i]
    return total.max() * num_channel / total.sum() if total.sum() > 0 else 1.0


@njit
def split_sub_batch(channel: Ints, num_channel: int) -> npt.NDArray[np.bool_]:
    """Which requests form the first of two sub-batches: half of each channel's list, the odd one alternating
    between the two (NeuPIMs, algorithm 3)."""
    first = np.zeros(len(channel), np.bool_)
    count = np.zeros(num_channel, np.int64)
    for c in channel:
        count[c] += 1
    take = np.empty(num_channel, np.int64)
    odd_first = True
    for c in range(num_channel):
        take[c] = count[c] // 2
        if count[c] % 2 == 1:
            if odd_first:
                take[c] += 1
            odd_first = not odd_first
    for i in range(len(channel)):
        if take[channel[i]] > 0:
            first[i] = True
            take[channel[i]] -= 1
    return first
