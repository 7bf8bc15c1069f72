"""Orders made of a repeated block on a V, and weight gradients placed in time into an order of F and I."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from kernels.errors import InputError
from kernels.order_polish import own_before, polish
from kernels.schedule import FORWARD, INPUT_GRAD, OP_KINDS, WEIGHT_GRAD, replay
from kernels.weight_fill import HOIST, HOIST_FREELY, HOIST_GRADIENT, fill
from workloads.pipeline import Op, Order, compile_order

Block = tuple[int, int, int, int]  # slots of F chunk 0, F chunk 1, I chunk 1, I chunk 0
PERIOD = 6  # F, I and W of two chunks
SLACKS = (1.0, 0.0, 0.5, 2.0)
NUM_POLISHED, MAX_VISIT = 2, 10_000_000  # orders, and operations replayed for each (half a second)
SETTINGS = (HOIST, HOIST_FREELY, 0, HOIST | HOIST_GRADIENT, HOIST_FREELY | HOIST_GRADIENT, HOIST_GRADIENT)


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
    """The order of F and I `base` with weight gradients, the best of several settings by the longest span of a rank.

    Gaps are found with the given times, and with all times alike, whose orders are often better than what a greedy pass
    makes of uneven ones; every order is judged by the given times.
    """
    if not all(isinstance(time, int) for time in times):
        raise InputError("plans with one time for all stages", field="times", value=list(times),
                         allowed="--times F,I,W")  # fmt: skip
    arrays = compile_order(base)
    delta = np.zeros(len(OP_KINDS), np.int64)
    delta[FORWARD], delta[INPUT_GRAD], delta[WEIGHT_GRAD] = memory
    crossing = (arrays.dep >= 0) & (arrays.rank[np.maximum(arrays.dep, 0)] != arrays.rank)
    key = arrays.stage * arrays.num_microbatch + arrays.microbatch
    forward = np.zeros(arrays.num_stage * arrays.num_microbatch, np.int64)
    forward[key[arrays.kind == FORWARD]] = np.flatnonzero(arrays.kind == FORWARD)
    own, out = forward[key], np.full((len(base), 3 * max(map(len, base)) // 2), -1, np.int64)
    found: dict[bytes, tuple[int, Order]] = {}
    for (f, i, w), h in dict.fromkeys(((tuple(times), hop), ((1, 1, 1), 0))):
        duration = np.where(arrays.kind == FORWARD, f, i)
        hops, weights = np.where(crossing, h, 0), np.full(duration.size, w)
        for setting, slack in itertools.product(SETTINGS, SLACKS):
            span = fill(
                arrays.rank_start, arrays.kind, arrays.rank, arrays.dep, own, hops, duration, weights, delta, limit,
                setting, slack, out,
            )  # fmt: skip
            if span >= 0 and out.tobytes() not in found:
                order = _to_order(base, out)
                found[out.tobytes()] = _span(order, times, hop), order
    if not found:
        raise InputError("no schedule fits in this memory", field="limit", value=limit)
    best = sorted(found.values(), key=lambda pair: pair[0])[:NUM_POLISHED]
    polished = [_polish(order, times, hop, delta, limit) for _, order in best]
    return min(polished, key=lambda pair: pair[0])[1]


def _polish(order: Order, times: Sequence[int], hop: int, delta: np.ndarray, limit: int) -> tuple[int, Order]:
    """Longest stay and order after neighbours have been swapped."""
    arrays = compile_order(order)
    duration = np.array(times, np.int64)[np.searchsorted((FORWARD, INPUT_GRAD, WEIGHT_GRAD), arrays.kind)]
    crossing = (arrays.dep >= 0) & (arrays.rank[np.maximum(arrays.dep, 0)] != arrays.rank)
    places = np.arange(arrays.kind.size)
    span = polish(
        arrays.rank_start, arrays.kind, own_before(arrays.kind, arrays.stage, arrays.microbatch), arrays.dep,
        np.where(crossing, hop, 0), duration, delta, limit, MAX_VISIT, places,
    )  # fmt: skip
    flat = [op for ops in order for op in ops]
    ranks = [[flat[n] for n in places[a:b].tolist()] for a, b in itertools.pairwise(arrays.rank_start.tolist())]
    return int(span), ranks


def _to_order(base: Order, filled: np.ndarray) -> Order:
    flat = [op for ops in base for op in ops]
    return [
        [flat[n] if n >= 0 else Op("W", flat[-n - 1].stage, flat[-n - 1].microbatch) for n in row[: 3 * len(ops) // 2]]
        for row, ops in zip(filled.tolist(), base, strict=True)
    ]


def _span(order: Order, times: Sequence[int], hop: int) -> int:
    """The longest stay of a rank, replayed exactly."""
    arrays = compile_order(order)
    duration = np.array([times["FIW".index(OP_KINDS[kind])] for kind in arrays.kind], np.int64)
    crossing = (arrays.dep >= 0) & (arrays.rank[np.maximum(arrays.dep, 0)] != arrays.rank)
    end = np.empty(duration.size, np.int64)
    replay(arrays.rank_start, arrays.dep, np.where(crossing, hop, 0), duration, arrays.overlap, end)
    first, last = arrays.rank_start[:-1], arrays.rank_start[1:] - 1
    return int((end[last] - end[first] + duration[first]).max())
