"""A decode step in two sub-batches: while one half's attention runs on the units in the memory, the other half's
projections run on the main engine (NeuPIMs, ASPLOS 2024, algorithm 3).

A stage of L layers passes through A, B, then C and D for each layer but the last, then E and F:

=====  ==================================  ===============
pass   main engine                         units
=====  ==================================  ===============
A      projections before attention of 1
B      projections before attention of 2   attention of 1
C      rest of a layer and next before, 1  attention of 2
D      the same of 2                       attention of 1
E      rest of the last layer of 1         attention of 2
F      rest of the last layer of 2
=====  ==================================  ===============

Both halves read the weights, so that small batches lose by it; a device or scenario says from how many sequences on
it is done. Halves have half the keys each, as balanced channels give them. Two engines at work slow each other down
by the machine's shares. Layers of several classes of attention follow in the order of their classes.

Layers on two machines run in microbatches by the law of `kernels.engine.apart`, at the same places.
"""

from kernels.engine.apart import decodes_saved_ps, num_microbatch
from kernels.engine.price import (
    APART,
    BEFORE_PS,
    DENSE_PS,
    NUM_CLASS,
    STRIDE,
    PackedPrice,
    decode_cost,
    layers_of,
)
from kernels.engine.records import KV_MAX_GROW, KV_MAX_STILL, KV_SUM, NUM_KV_FIELD, Floats, Ints
from kernels.jit import njit
from kernels.machine import BESIDE, BESIDE_SUB_BATCH, MAIN_SHARE, PIM_SHARE, SUB_BATCH_FROM
from kernels.optable import BOUND_PIM_COMPUTE
from kernels.overlap import pair_cycle


@njit
def interleaves(p: PackedPrice, num_seq: int) -> bool:
    """Whether a step of `num_seq` decodes and no prompt runs in sub-batches."""
    if p.table[APART] > 0:
        return num_microbatch(p, num_seq) > 1
    return p.real[BESIDE] == BESIDE_SUB_BATCH and num_seq >= max(2.0, p.real[SUB_BATCH_FROM])


@njit
def pair_ps(main_ps: float, pim_ps: float, rate: Floats) -> int:
    """Picoseconds until both engines are through."""
    return int(pair_cycle(main_ps, pim_ps, rate[MAIN_SHARE], rate[PIM_SHARE]) + 0.5)


@njit
def passes(
    before: tuple[float, float], layer: tuple[float, float], attend_ps: float, rate: Floats
) -> tuple[int, int, int, int, int, int]:
    """Picoseconds of the passes A to F of one layer: of each half its projections `before` attention and all of a
    `layer` but attention, and the attention of one half.

    >>> import numpy as np
    >>> from kernels.machine import RATES
    >>> passes((2.0, 2.0), (8.0, 8.0), 5.0, np.ones(len(RATES)))  # nobody slows anybody down
    (2, 5, 8, 8, 6, 6)
    """
    rest = layer[0] - before[0], layer[1] - before[1]
    return (
        int(before[0] + 0.5),
        pair_ps(before[1], attend_ps, rate),
        pair_ps(layer[0], attend_ps, rate),
        pair_ps(layer[1], attend_ps, rate),
        pair_ps(rest[0], attend_ps, rate),
        int(rest[1] + 0.5),
    )


@njit
def halves(p: PackedPrice, stage: int, num_seq: int) -> tuple[tuple[float, float], tuple[float, float], int]:
    """Picoseconds a layer of a stage, before attention and in all, of two sub-batches; and its layers."""
    table = p.table
    num_layer = 0
    for c in range(table[NUM_CLASS]):
        num_layer += layers_of(table, stage, c)
    second = num_seq // 2
    first = num_seq - second
    dense, before = table[DENSE_PS] + stage * table[STRIDE], table[BEFORE_PS] + stage * table[STRIDE]
    n = float(max(num_layer, 1))
    return (
        (table[before + first] / n, table[before + second] / n),
        (table[dense + first] / n, table[dense + second] / n),
        num_layer,
    )


@njit
def saved_ps(p: PackedPrice, stage: int, num_seq: int, work: Ints, kv: int) -> int:
    """Picoseconds by which a stage of a step of `num_seq` decodes is shorter in sub-batches (less than 0: longer);
    `work[kv:]` holds the sums of the keys, class by class. 0 where attention runs on the main engine."""
    if p.table[APART] > 0:
        return decodes_saved_ps(p, num_seq, work, kv)
    table = p.table
    before, layer, _ = halves(p, stage, num_seq)
    plain = table[table[DENSE_PS] + stage * table[STRIDE] + num_seq]
    split, opened = 0, False
    for c in range(table[NUM_CLASS]):
        held = layers_of(table, stage, c)
        if held == 0:
            continue
        at = kv + c * NUM_KV_FIELD
        longest = max(work[at + KV_MAX_GROW], work[at + KV_MAX_STILL])
        whole = decode_cost(p, c, num_seq, work[at + KV_SUM], longest)
        half = decode_cost(p, c, num_seq - num_seq // 2, (work[at + KV_SUM] + 1) // 2, longest)
        if half[2] < BOUND_PIM_COMPUTE:
            return 0
        a, b, c_ps, d_ps, e, f = passes(before, layer, float(half[0]), p.real)
        split += held * (c_ps + d_ps)
        plain += held * whole[0]
        if not opened:
            split += a + b + e + f - c_ps - d_ps
            opened = True
    return plain - split if opened else 0
