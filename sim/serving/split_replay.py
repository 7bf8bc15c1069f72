"""The passes of a decode step in two sub-batches, from operators: what the replay's two engines do instead of one
operator after another (`kernels.engine.sub_batch` has the rule; equal integers, by another way)."""

import numpy as np

from kernels import optable as op
from kernels.attention_work import longest_span
from kernels.engine.price import PackedPrice, StepPrice, decode_cost
from kernels.engine.records import Ints
from kernels.engine.sub_batch import interleaves, passes
from sim.serving.step_price import Lowered, before_attention

_NO_WORK = np.zeros(0, op.WORK_DTYPE)


def split(
    lowered: Lowered, price: StepPrice, packed: PackedPrice, stage: int, kv: Ints
) -> list[tuple[int, int]] | None:
    """Picoseconds of each pass of a stage on the main engine and on the units, for decodes that read `kv` keys each;
    None where the step is not split."""
    num = len(kv)
    if not interleaves(packed, num):
        return None
    first, second = (_half(lowered, price, stage, size) for size in (num - num // 2, num // 2))
    before, layer = (first[0], second[0]), (first[1], second[1])
    found: list[tuple[int, int]] = []
    end: list[tuple[int, int]] = []
    for c in np.flatnonzero(price.attn_layer[stage]):
        window = int(price.decode_shape[c, 4])
        keys = np.minimum(kv, window) if window else kv
        half = decode_cost(
            packed, int(c), num - num // 2, (int(keys.sum()) + 1) // 2, longest_span(int(kv.max()), window)
        )
        if half[2] < op.BOUND_PIM_COMPUTE:
            return None
        a, b, c_ps, d_ps, e, f = passes(before, layer, float(half[0]), packed.real)
        held = int(price.attn_layer[stage, c])
        if not end:
            found, end = [(a, 0), (b, b)], [(e, e), (f, 0)]
            held -= 1
        found += [(c_ps, c_ps), (d_ps, d_ps)] * held
    if not end:
        return None
    if stage == lowered.placement.pp - 1:
        end.append((int(lowered.price(lowered.head([num]), _NO_WORK)["time_ps"].sum()), 0))
    return found + end


def _half(lowered: Lowered, price: StepPrice, stage: int, num: int) -> tuple[float, float]:
    """Picoseconds a layer of one sub-batch before attention, and of all but attention."""
    ops = lowered.dense(stage, [num])
    time_ps = np.where(ops["kind"] == op.P2P, 0, lowered.price(ops, _NO_WORK)["time_ps"])[0]
    num_layer = float(max(int(price.attn_layer[stage].sum()), 1))
    return int(time_ps[before_attention(ops)].sum()) / num_layer, int(time_ps.sum()) / num_layer
