"""A decode iteration on an NPU with PIM: stages of projections on the NPU and attention on the units.

Sub-batch interleaving (NeuPIMs, algorithm 3) splits the batch in two and pipelines them through six stages that
cover two layers; without it a layer is three stages in a row:

===== =============================== ============
stage NPU                             units
===== =============================== ============
A     QKV of 1
B     QKV of 2                        attention of 1
C     projection, FFN, next QKV of 1  attention of 2
D     projection, FFN, next QKV of 2  attention of 1
E     projection, FFN of 1            attention of 2
F     projection, FFN of 2
===== =============================== ============

Cycles are of the 1 GHz clock that NPU and memory share.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hw_models.npu import Npu
from hw_models.pim import Pim
from hw_models.spec import Device
from kernels import pim as units
from kernels.errors import InputError
from kernels.overlap import pair_cycle
from kernels.systolic import gemv_attention_cycle, measured_matmul_cycle, measured_vector_cycle

Ints = npt.NDArray[np.int64]


class Shape(NamedTuple):
    """A decoder layer on one of `tp` devices (GPT-3: four-wide FFN, multi-head attention)."""

    hidden: int
    num_head: int  # of the model
    tp: int

    @property
    def head(self) -> int:
        return self.num_head // self.tp

    @property
    def head_dim(self) -> int:
        return self.hidden // self.num_head


@dataclasses.dataclass(frozen=True)
class Stages:
    """Cycles of each stage, and of a layer."""

    cycle: dict[str, float]
    layer: float  # a layer of the whole batch
    npu_busy: float  # a layer: cycles in which the arrays hold a product
    npu_peak: float  # a layer: cycles that its products would take at the arrays' peak
    pim_busy: float  # a layer: mean over channels of cycles in which the units run


def engines(device: Device) -> tuple[Npu, Pim]:
    """NPU and units of a device that has both."""
    if device.npu is None or device.pim is None:
        raise InputError("needs an NPU and units in its memory", file=device.file, field="device", value=device.name)
    return device.npu, device.pim


def projection(device: Device, shape: Shape, batch: int) -> tuple[float, float]:
    """Cycles of (norm and QKV) and of (projection, FFN, norms and residuals) of a batch on the NPU."""
    npu = device.npu
    if npu is None:
        raise InputError("has no NPU", file=device.file, field="device", value=device.name)
    array, fit = npu.systolic(device.mem_byte_per_s), npu.measured
    wide = shape.hidden // shape.tp

    def matmul(n: int, k: int) -> float:
        return float(measured_matmul_cycle(array, batch, n, k, fit))

    def vector(width: int, passes: int) -> float:
        return float(measured_vector_cycle(array, passes * batch * width * 2.0, fit))

    norm, residual = vector(shape.hidden, 2), vector(shape.hidden, 3)
    qkv = norm + matmul(3 * wide, shape.hidden)
    feed = matmul(4 * wide, shape.hidden) + vector(4 * wide, 2) + matmul(shape.hidden, 4 * wide)
    return qkv, matmul(shape.hidden, wide) + residual + norm + feed + residual


def attention(device: Device, shape: Shape, seq_len: Ints, channel: Ints) -> tuple[float, float, float]:
    """Logit and attend cycles on the units (the fullest channel of each), and the mean busy cycles of a channel."""
    _, pim = engines(device)
    unit = pim.kernel()
    if len(seq_len) and not 0 <= channel.min() <= channel.max() < unit.num_channel:
        raise InputError(
            "no such channel", field="ch_idx", value=int(channel.max()), allowed=f"0 to {unit.num_channel - 1}"
        )
    logit, attend, busy = units.attention_cycle(unit, seq_len, channel, shape.head, shape.head, shape.head_dim)
    return float(logit), float(attend), float(busy)


def npu_attention(device: Device, shape: Shape, seq_len: Ints, *, as_published: bool) -> float:
    """Cycles of attention on the NPU alone. `as_published`: request by request and head by head, each block of the
    arrays waiting for the one before, as the published simulator's baseline runs it; otherwise at the memory's
    bandwidth."""
    npu = device.npu
    if npu is None:
        raise InputError("has no NPU", file=device.file, field="device", value=device.name)
    array = npu.systolic(device.mem_byte_per_s)
    byte = float(seq_len.sum()) * shape.head * shape.head_dim * 4
    at_bandwidth = byte / (array.byte_per_cycle * npu.measured.wide)
    if not as_published:
        return at_bandwidth
    chains = sum(gemv_attention_cycle(array, int(length), shape.head_dim) for length in seq_len)
    return max(at_bandwidth, float(chains * shape.head))


def in_turn(device: Device, shape: Shape, seq_len: Ints, channel: Ints) -> Stages:
    """A layer without sub-batches: QKV, attention, projection and FFN one after another."""
    qkv, rest = projection(device, shape, len(seq_len))
    logit, attend, busy = attention(device, shape, seq_len, channel)
    layer = qkv + logit + attend + rest
    cycle = {"A": qkv, "B": logit + attend, "E": rest}
    return Stages(cycle, layer, (qkv + rest) * _busy_share(device), _peak(device, shape, len(seq_len)), busy)


def interleaved(device: Device, shape: Shape, seq_len: Ints, channel: Ints, num_layer: int = 2) -> Stages:
    """Two sub-batches in six stages: two layers as drawn above; a model of more repeats C and D between them, so that
    a layer of `num_layer` takes (A + B + (num_layer - 1) (C + D) + E + F) / num_layer."""
    _, pim = engines(device)
    first = units.split_sub_batch(channel, pim.kernel().num_channel)
    halves = [(seq_len[mask], channel[mask]) for mask in (first, ~first)]
    (qkv_1, rest_1), (qkv_2, rest_2) = (projection(device, shape, max(1, len(half[0]))) for half in halves)
    attend = [attention(device, shape, *half) for half in halves]
    mha_1, mha_2 = (logit + value for logit, value, _ in attend)
    cycle = {
        "A": qkv_1,
        "B": pair(pim, qkv_2, mha_1),
        "C": pair(pim, rest_1 + qkv_1, mha_2),
        "D": pair(pim, rest_2 + qkv_2, mha_1),
        "E": pair(pim, rest_1, mha_2),
        "F": rest_2,
    }
    ends = cycle["A"] + cycle["B"] + cycle["E"] + cycle["F"]
    layer = (ends + (num_layer - 1) * (cycle["C"] + cycle["D"])) / num_layer
    # in C and D the arrays hold products, slowed by the units beside them, until these are through
    work = ((rest_1 + qkv_1, cycle["C"]), (rest_2 + qkv_2, cycle["D"]))
    held = sum(min(stage, alone / pim.npu_share) for alone, stage in work) * _busy_share(device)
    busy = sum(mean for *_, mean in attend)
    return Stages(cycle, layer, held, _peak(device, shape, len(seq_len)), busy)


def pair(pim: Pim, npu_cycle: float, pim_cycle: float) -> float:
    """NPU and units side by side under the device's rule."""
    if pim.overlap == "blocked":
        return npu_cycle + pim_cycle
    return float(pair_cycle(npu_cycle, pim_cycle, pim.npu_share, pim.pim_share))


def layer(device: Device, shape: Shape, seq_len: Ints, channel: Ints, num_layer: int = 2) -> Stages:
    """A layer under the device's own switch-on batch."""
    _, pim = engines(device)
    if pim.sub_batch_from and len(seq_len) >= pim.sub_batch_from:
        return interleaved(device, shape, seq_len, channel, num_layer)
    return in_turn(device, shape, seq_len, channel)


def _busy_share(device: Device) -> float:
    npu, _ = engines(device)
    return npu.measured.busy_share


def _peak(device: Device, shape: Shape, batch: int) -> float:
    """Cycles of a layer's projections at the arrays' peak."""
    npu, _ = engines(device)
    return 12 * shape.hidden * shape.hidden / shape.tp * batch * 2 / npu.peak_flop_per_s * npu.clock_hz
