"""Orders made of a repeated block on a V, and weight gradients placed in time into an order of F and I."""

from collections.abc import Callable, Sequence

import numpy as np

from kernels.errors import InputError
from kernels.schedule import FORWARD, INPUT_GRAD, OP_KINDS, WEIGHT_GRAD
from kernels.weight_fill import HOIST, HOIST_FREELY, fill
from workloads.pipeline import Op, Order, compile_order

Block = tuple[int, int, int, int]  # slots of F chunk 0, F chunk 1, I chunk 1, I chunk 0
PERIOD = 6  # F, I and W of two chunks
SLACKS = (1.0, 0.0, 0.5, 2.0)


def repeat_block(block: Callable[[int, int], Block], num_rank: int, num_microbatch: int) -> Order:
    """F and I of every microbatch in order of their slots; stages i and 2p-1-i on rank i."""
    ranks = []
    for rank in range(num_rank):
        down, up = rank, 2 * num_rank - 1 - rank
        f0, f1, i1, i0 = block(num_rank, rank)
        slots = [
            (slot + PERIOD * k, Op(kind, stage, k))
            for k in range(num_microbatch)
            for slot, kind, stage in ((f0, "F", down), (f1, "F", up), (i1, "I", up), (i0, "I", down))
        ]
        ranks.append([op for _, op in sorted(slots)])
    return ranks


def fill_blocks(
    block: Callable[[int, int], Block], num_rank: int, num_microbatch: int, times: Sequence[int], hop: int,
    limit: int | None,
) -> Order:  # fmt: skip
    """The repeated block filled; `limit` in activations, by default what the block needs with each W after its I."""
    base = repeat_block(block, num_rank, num_microbatch)
    if limit is None:
        limit = max(int(np.cumsum([1 if op.kind == "F" else -1 for op in ops]).max()) for ops in base)
    return fill_order(base, times, hop, (1, 0, -1), limit)


def fill_order(base: Order, times: Sequence[int], hop: int, memory: Sequence[int], limit: int) -> Order:
    """The order of F and I `base` with weight gradients, the best of several settings by the longest span of a rank."""
    arrays = compile_order(base)
    f, i, w = times
    duration = np.where(arrays.kind == FORWARD, f, i)
    delta = np.zeros(len(OP_KINDS), np.int64)
    delta[FORWARD], delta[INPUT_GRAD], delta[WEIGHT_GRAD] = memory
    crossing = (arrays.dep >= 0) & (arrays.rank[np.maximum(arrays.dep, 0)] != arrays.rank)
    hops, weights = np.where(crossing, hop, 0), np.full(duration.size, w)
    best_span, best = -1, np.empty((len(base), 3 * max(map(len, base)) // 2), np.int64)
    out = best.copy()
    for setting in (HOIST, HOIST_FREELY, 0):
        for slack in SLACKS:
            span = fill(
                arrays.rank_start, arrays.kind, arrays.rank, arrays.dep, hops, duration, weights, delta, limit,
                setting, slack, out,
            )  # fmt: skip
            if span >= 0 and (best_span < 0 or span < best_span):
                best_span, best = span, out.copy()
    if best_span < 0:
        raise InputError("no schedule fits in this memory", field="limit", value=limit)
    flat = [op for ops in base for op in ops]
    return [
        [flat[n] if n >= 0 else Op("W", flat[-n - 1].stage, flat[-n - 1].microbatch) for n in row[: 3 * len(ops) // 2]]
        for row, ops in zip(best.tolist(), base, strict=True)
    ]
