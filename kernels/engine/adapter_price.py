"""What a step computes for its adapters, and when they have arrived.

It depends on three sums: tokens that have an adapter, these times their ranks, and the ranks of distinct adapters,
whose weights are read once (SGMV, BGMV).
"""

from kernels.engine.adapter import rank_of
from kernels.engine.price import PackedPrice, adapter_cost
from kernels.engine.records import PAD, RANK_SIZE, ROW, SEQ, TOKEN, Engine
from kernels.jit import njit


@njit
def price_adapters(e: Engine, p: PackedPrice, number: int, first: int, stop: int) -> None:
    """Keeps with the lane when the adapters of its plan have arrived, and what a layer computes for them."""
    lane = e.lane[number]
    lane.ready_ps = lane.adapter_ps = lane.adapter_nj = lane.adapter_kb = lane.adapter_mflop = 0
    num_token = token_rank = rank_sum = 0
    for row in range(first, stop, ROW):
        i = e.work[row + SEQ]
        if e.seq[i].adapter == 0:
            continue
        rank, token = rank_of(e, i, RANK_SIZE), e.work[row + TOKEN] + e.work[row + PAD]
        num_token += token
        token_rank += token * rank
        k = e.seq[i].entry
        lane.ready_ps = max(lane.ready_ps, e.unit[k].ready_ps)
        if e.unit[k].row == 0:
            e.unit[k].row = 1
            rank_sum += rank
    for row in range(first, stop, ROW):
        e.unit[e.seq[e.work[row + SEQ]].entry].row = 0
    if num_token > 0:
        cost = adapter_cost(p, num_token, token_rank, rank_sum)
        lane.adapter_ps, lane.adapter_nj, lane.adapter_kb, lane.adapter_mflop = cost[0], cost[1], cost[3], cost[4]
        e.me.adapter_bound = cost[2]


@njit
def book_adapters(e: Engine, number: int, num_layer: int) -> None:
    """Counts what `num_layer` layers of the lane's step compute for adapters."""
    me, lane = e.me, e.lane[number]
    me.adapter_ps += num_layer * lane.adapter_ps
    me.adapter_nj += num_layer * lane.adapter_nj
    me.adapter_kb += num_layer * lane.adapter_kb
    me.adapter_mflop += num_layer * lane.adapter_mflop
