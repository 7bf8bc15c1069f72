"""Automatic zero bubble under a memory limit: the best of many greedy passes (after Qi et al. 2023)."""

from collections.abc import Sequence

import numpy as np

from kernels.errors import InputError
from kernels.schedule import FORWARD, INPUT_GRAD, OP_KINDS, WEIGHT_GRAD
from kernels.zero_bubble import NUM_SETTING, greedy
from workloads.pipeline import Op, Order

NAME = "zb-auto"
SLACKS = (1.0, 0.0, 0.5, 2.0)  # 1 is the published rule; the others are more chances


def order(
    num_rank: int,
    num_microbatch: int,
    times: Sequence[int | Sequence[int]] = (1, 1, 1),
    hop: int | Sequence[int] = 0,
    memory: Sequence[int] = (1, 0, -1),
    limit: int | None = None,
) -> Order:
    """The order with the shortest longest stay of a rank (span), for these times of (F, I, W), each one integer or one
    a stage, these changes of memory, and this limit in the same unit (default: p forwards, the memory of 1F1B).

    At p forwards the span bubble is (p-1)(F+I-W); at 2p forwards and F = I = W it is 0.

    >>> " ".join(map(str, order(2, 2)[1]))
    'F1.0 I1.0 F1.1 I1.1 W1.0 W1.1'
    """
    table, delta = np.zeros((2, len(OP_KINDS), num_rank), np.int64)
    for time in times:
        if not isinstance(time, int | np.integer) and len(time) != num_rank:
            raise InputError("a time for each stage", field="times", value=len(time), allowed=str(num_rank))
    for kind, time, change in zip((FORWARD, INPUT_GRAD, WEIGHT_GRAD), times, memory, strict=True):
        table[kind], delta[kind] = time, change
    hops = np.broadcast_to(np.asarray(hop, np.int64), num_rank - 1 or 1).copy()
    most = np.full(num_rank, num_rank * memory[0] if limit is None else limit, np.int64)
    best_span, best = -1, np.empty((num_rank, 3 * num_microbatch), np.int64)
    kinds, ideal = best.copy(), num_microbatch * int(table.sum(axis=0).max())
    for slack in SLACKS:
        for setting in range(NUM_SETTING):
            cap = np.full(num_rank, num_microbatch, np.int64)
            span = greedy(table, hops, delta, most, num_microbatch, setting, cap, slack, kinds)
            if span >= 0 and (best_span < 0 or span < best_span):
                best_span, best = span, kinds.copy()
            if best_span == ideal:
                return to_order(best)
    if best_span < 0:
        raise InputError("no schedule fits in this memory", field="limit", value=int(most[0]),
                         allowed=f">= {memory[0]}, more with more stages")  # fmt: skip
    return to_order(best)


def to_order(kinds: np.ndarray) -> Order:
    """`[stage, op]` kinds as an order: microbatches ascend in each kind."""
    ranks = []
    for stage, row in enumerate(kinds):
        count = [0] * len(OP_KINDS)
        ops = []
        for kind in row:
            ops.append(Op(OP_KINDS[kind], stage, count[kind]))
            count[kind] += 1
        ranks.append(ops)
    return ranks
