"""Single kernels that no model's lowering has, at a machine's price: products, passes over memory, ragged encoders."""

from collections.abc import Sequence

import numpy as np

from hw_models.device import cost
from kernels import optable
from kernels.formats import FORMAT_CODE, FORMATS
from kernels.machine import Machine
from kernels.optable import OpTable
from workloads.encoder import lower_encoder
from workloads.formats import Formats
from workloads.models.vision import Vision

SUM_BYTE = 2.0  # an output value of formats of 16 bits and less
BIT_RATE = 4.0
"""Products of single bits over 4-bit ones, a unit's rates (NVIDIA Turing and Ampere whitepapers: an A100's 4,992 and
1,248 TOP/s)."""
PS = 1e-12
LAUNCH_S = (5e-6, 12e-6, 25e-6)
"""Seconds between two launches of PyTorch: the least and the most that a call takes on an H100's host before its kernel
(jiahuanglin.xyz, "From PyTorch op to kernel launch": from Python through autograd and dispatcher to the driver), and
between them FlashRNN's step of a dozen small ones (148 us, on such a host). Modules and older hosts take longer: 37
and 55 us in two serving engines' eager layers."""


def product(
    m: int, n: int, k: int, *, fmt: str = "fp16", batch: int = 1, count: int = 1, weight_share: float = 1.0
) -> OpTable:
    """One row: `count` repetitions of `batch` products of m x k by k x n; every operand is read once, the second one
    to `weight_share` (0: it stays on the chip).

    >>> row = product(2, 3, 4, fmt="fp16", batch=5)[0]
    >>> float(row["flop"]), float(row["weight_byte"]), float(row["act_byte"]), float(row["write_byte"])
    (240.0, 120.0, 80.0, 60.0)
    """
    ops, _ = optable.empty(1)
    one, form = ops[0], FORMATS[FORMAT_CODE[fmt]]
    one["kind"], one["fmt"], one["count"], one["batch"] = optable.GEMM, FORMAT_CODE[fmt], count, batch
    one["m"], one["n"], one["k"], one["flop"] = m, n, k, 2.0 * batch * m * n * k
    one["weight_byte"] = weight_share * batch * n * k * form.weight_bit / 8
    one["act_byte"] = batch * m * k * form.act_bit / 8
    one["write_byte"] = batch * m * n * max(SUM_BYTE, 4.0 * (form.pipe in ("fp32", "tf32")))
    return ops


def bit_product(m: int, n: int, k: int, weight_bit: int = 1, act_bit: int = 1, *, count: int = 1) -> OpTable:
    """One row of a product as so many products of single bits, in the tiles of the 4-bit unit's, operands packed."""
    ops = product(m, n, k, fmt="int4", count=count)
    ops["weight_byte"], ops["act_byte"] = n * k * weight_bit / 8, m * k * act_bit / 8
    ops["k"] = max(1, round(k * weight_bit * act_bit / BIT_RATE))
    ops["flop"] *= weight_bit * act_bit / BIT_RATE
    return ops


def stream(read_byte: float, write_byte: float, *, count: int = 1, flop: float = 0.0) -> OpTable:
    """One row of an element-wise kernel."""
    ops, _ = optable.empty(1)
    one = ops[0]
    one["kind"], one["count"], one["flop"] = optable.ACT, count, flop
    one["act_byte"], one["write_byte"] = read_byte, write_byte
    return ops


def seconds(where: Machine, *rows: OpTable) -> float:
    """Of all rows one after another."""
    _, work = optable.empty(0)
    return float(cost(np.concatenate(rows), work, where)["time_ps"].sum()) * PS


def times(where: Machine, *rows: OpTable) -> list[float]:
    """Seconds of each row: what `eager_s` launches one by one."""
    _, work = optable.empty(0)
    return [float(one) * PS for one in cost(np.concatenate(rows), work, where)["time_ps"]]


def eager_s(kernel_s: Sequence[float], launch_s: float, waits: Sequence[bool] = ()) -> float:
    """Seconds of kernels that the host launches one after another: each begins once it is launched and the one before
    has ended; where the host `waits` for a kernel it launches the next one only then.

    >>> eager_s([3.0, 1.0, 1.0], 2.0), eager_s([3.0, 1.0, 1.0], 2.0, [True, False, False])
    (7.0, 10.0)
    """
    host = device = 0.0
    for at, second in enumerate(kernel_s):
        host += launch_s
        device = max(device, host) + second
        if at < len(waits) and waits[at]:
            host = device
    return device


def encoder(num_layer: int, hidden: int, inter: int, num_head: int) -> Vision:
    """An encoder whose items are sequences of tokens, with nothing merged at its end."""
    return Vision(num_layer, hidden, inter, num_head, 1, 1, 1, hidden, num_merger=0)


def encoder_s(
    where: Machine, shape: Vision, query: Sequence[int], seen: Sequence[int] | None = None, *, fmt: str = "fp16"
) -> float:
    """Seconds of an encoder over items of so many tokens side by side, each of which sees its own (or `seen`) keys."""
    ops, work = lower_encoder(shape, Formats(activation=fmt), list(query))
    if seen is not None:
        ratio = float(np.dot(query, seen)) / float(np.dot(query, query))
        ops["flop"][ops["kind"] == optable.ATTN_PREFILL] *= ratio
        ops["kv_byte"][ops["kind"] == optable.ATTN_PREFILL] *= sum(seen) / sum(query)
        work["kv_len"] = seen
    return float(cost(ops, work, where)["time_ps"].sum()) * PS
