"""What is left of a network whose products are single bits? (Li and Su 2020, bit tensor cores of Turing)"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from kernels.optable import OpTable
from studies._kernels import bit_product, product, seconds, stream
from studies._panels import Panel, panels
from studies._steps import arrays
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Li and Su 2020: binarised ResNet-18 on bit tensor cores, 5,600 ImageNet images a second on an RTX 2080 Ti"
SMALL: dict[str, Any] = {"batches": (64,)}
SYSTEM, BATCHES = "rtx_2080_ti", (8, 64, 512)  # images at once; the published throughput's is recalled as the largest
RATE = 5600.0
BITS, HALF = "single bits", "16 bits"
FIRST, PRODUCT, REST = "first layer", "products", "sums, norms, packing"
SPEED, PART = "thousand images/s", "share of the time"
NOTE = (
    "ResNet-18 of 224 x 224; first layer and classifier stay in 16 bits, sums along shortcuts in 32; bit products as "
    "the 4-bit unit's at four times its rate, kernels of the card as those of its relatives; the paper's kernels "
    "pack, pad and synchronise the whole grid between layers, which is not priced and what the miss is"
)


class Conv(NamedTuple):
    c_in: int
    c_out: int
    window: int
    side: int  # of the output
    stride: int = 1


def layers() -> Iterator[Conv]:
    """All convolutions but the first: four groups of two blocks of two, and three shortcuts of 1 x 1."""
    c_in, side = 64, 56
    for group, c in enumerate((64, 128, 256, 512)):
        stride = 2 if group else 1
        side //= stride
        yield Conv(c_in, c, 9, side, stride)
        if group:
            yield Conv(c_in, c, 1, side, stride)
        for _ in range(3):
            yield Conv(c, c, 9, side)
        c_in = c


def parts(batch: int, kind: str) -> dict[str, list[OpTable]]:
    """Rows of a pass by part. Bits: every convolution reads and writes packed bits, its sum goes along in 32 bits and
    is normed, compared and packed; 16 bits: a norm with its activation writes what the next one reads."""
    area = 112 * 112
    first = [product(batch * area, 64, 147, fmt="fp16"), stream(2.0 * batch * 64 * area, 2.0 * batch * 64 * area / 4)]
    out: dict[str, list[OpTable]] = {FIRST: first, PRODUCT: [product(batch, 1000, 512, fmt="fp16")], REST: []}
    for one in layers():
        rows, value = batch * one.side**2, float(batch * one.side**2 * one.c_out)
        k = one.window * one.c_in
        if kind == BITS:
            out[PRODUCT].append(bit_product(rows, one.c_out, k))
            out[REST].append(stream(4.0 * value + 4.0 * value, 4.0 * value + value / 8))
        else:
            out[PRODUCT].append(product(rows, one.c_out, k, fmt="fp16"))
            out[REST].append(stream(2.0 * value + 2.0 * value, 2.0 * value))
    return out


def time_s(batch: int, kind: str) -> dict[str, float]:
    """Seconds of each part."""
    where = arrays(SYSTEM)
    return {name: seconds(where, *rows) for name, rows in parts(batch, kind).items()}


def run(batches: tuple[int, ...] = BATCHES) -> pd.DataFrame:
    """Images a second in bits and in 16 bits, and where their time goes."""
    rows: list[dict[str, Any]] = []
    last = batches[-1]
    total: dict[tuple[str, int], float] = {}
    for kind in (BITS, HALF):
        for batch in batches:
            found = time_s(batch, kind)
            total[kind, batch] = sum(found.values())
            rate = batch / total[kind, batch]
            rows.append(
                row(kind, SPEED, f"batch {batch}", RATE / 1e3, rate / 1e3, NOTE)
                if kind == BITS and batch == last else point(kind, SPEED, f"batch {batch}", rate / 1e3, NOTE)
            )  # fmt: skip
            if batch == last:
                rows += [point(kind, PART, name, value / total[kind, batch], NOTE) for name, value in found.items()]
    gain = [total[HALF, batch] / total[BITS, batch] for batch in batches]
    rows.append(order(BITS, "order: faster than in 16 bits, by less than the units' rates", "every batch",
                      all(1 < one < 32 for one in gain), f"{np.round(gain, 2)}; {NOTE}"))  # fmt: skip
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Images a second by batch, and shares of the time."""
    return panels(table, [Panel(SPEED, "ResNet-18, RTX 2080 Ti", SPEED), Panel(PART, "largest batch", PART)],
                  "A network of single bits")  # fmt: skip
