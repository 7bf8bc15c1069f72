"""Tensor parallelism with its batch in parts: the all-reduce of one part runs under the compute of the others.

A layer is two halves, attention and feed-forward, each of which ends in an all-reduce, forward and backward (Shoeybi et
al. 2019). With one part they stand between the halves; with two (Domino, Wang et al. 2024) part 0's runs under part 1's
half and the reverse. In the backward pass an all-reduce of input gradients runs beside the weight gradient of the same
product in either case, as Megatron-LM has it.
"""

from typing import NamedTuple

import numpy as np

from kernels import training as t
from kernels.training import Floats
from kernels.training_step import collective_s, stage_times
from sim.training.two_streams import COMPUTE, LINK, Overlap, TwoStreams


class Half(NamedTuple):
    """Seconds of one half of a layer for one part of the batch on one device."""

    forward_s: float
    backward_s: float  # up to the input gradient
    weight_grad_s: float  # of the first product, which may run beside the all-reduce
    reduce_s: float  # one all-reduce


def halves(vector: Floats, laid: Floats, hw: Floats, fit: Floats, num_part: int) -> tuple[Half, Half]:
    """Attention and feed-forward part of the average layer, `micro_batch / num_part` sequences each.

    Priced by `kernels.training_step.stage_times`, no communication in it; each half has half of a layer's passes over
    the residual stream and of the device time that no size explains, which every part pays again.
    """
    plan, own = laid.copy(), fit.copy()
    plan[t.MICRO_BATCH] = laid[t.MICRO_BATCH] / num_part
    own[t.TP_EXPOSED] = own[t.LAUNCH_S] = own[t.KERNEL_S] = own[t.MICROBATCH_S] = 0.0
    only = own.copy()
    only[t.VECTOR_PASS] /= 2
    without = vector.copy()
    without[t.INTER] = without[t.NUM_EXPERT] = 0.0
    layers = t.stage_layer(vector, plan)
    rows = []
    for model, constants in ((vector, own), (without, only)):
        row = np.zeros(len(t.STAGE))
        stage_times(model, plan, hw, constants, t.MIDDLE, row)
        rows.append(row / layers)
    token = vector[t.SEQ] * plan[t.MICRO_BATCH] / plan[t.CP]
    volume = token * vector[t.HIDDEN] * plan[t.ACT_BYTE]
    reduce_s = 2 * collective_s(volume, plan[t.TP], 1.0, hw, fit)
    whole, attention = rows
    heads, kv_heads = vector[t.NUM_HEAD], vector[t.NUM_KV_HEAD]
    first = ((heads + 2 * kv_heads) / (2 * heads + 2 * kv_heads), vector[t.NUM_UP] / (vector[t.NUM_UP] + 1))
    found = []
    for row, share in zip((attention, whole - attention), first, strict=True):
        forward = row[t.FORWARD_S] + fit[t.KERNEL_S] / 2
        weight_grad = row[t.WEIGHT_GRAD_S] * share
        backward = row[t.INPUT_GRAD_S] + row[t.WEIGHT_GRAD_S] + row[t.RECOMPUTE_S] - weight_grad + fit[t.KERNEL_S]
        found.append(Half(float(forward), float(backward), float(weight_grad), float(reduce_s)))
    return found[0], found[1]


def split_step(layer: tuple[Half, Half], num_layer: int, num_part: int, slowdown: float = 1.0) -> Overlap:
    """Forward and backward pass of `num_layer` layers with the batch in `num_part` parts.

    >>> half = Half(1.0, 2.0, 0.0, 0.5)
    >>> split_step((half, half), 1, 1).total_s  # two halves of 3 and four all-reduces, nothing hidden
    8.0
    """
    streams = TwoStreams()
    before: list[list[int]] = [[] for _ in range(num_part)]  # what each part waits for
    for _ in range(num_layer):
        for half in layer:
            for part in range(num_part):
                done = streams.add(COMPUTE, half.forward_s, before[part])
                before[part] = [streams.add(LINK, half.reduce_s, [done])]
    for _ in range(num_layer):
        for half in reversed(layer):
            for part in range(num_part):
                done = streams.add(COMPUTE, half.backward_s, before[part])
                before[part] = [streams.add(LINK, half.reduce_s, [done])]
                streams.add(COMPUTE, half.weight_grad_s)
    return streams.run(slowdown)
