"""When do products of single bits beat a 4-bit unit? (Ma et al. 2024, arbitrary precision on tensor cores)"""

from typing import TYPE_CHECKING, Any

import pandas as pd

from studies._kernels import bit_product, product, seconds
from studies._panels import Panel, panels
from studies._steps import arrays
from studies._verdict import frame, order, point, row
from workloads import models

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Ma et al. 2024: products decomposed into bits, up to 2.4 times CUTLASS; Llama up to 6.7 times as fast"
SMALL: dict[str, Any] = {"sides": (1024, 4096)}
SYSTEM = "rtx_3090"
BITS = ((1, 1), (1, 2), (2, 2), (3, 4))  # of weights and activations
SIDES = (1024, 2048, 4096, 8192)
MODEL, BATCHES = "llama-2-7b", (1, 16, 64)
GAIN, WHOLE = "speed over 4-bit products", "speed of a model's products over 16 bits"
NOTE = (
    "RTX 3090, kernels as those of its relative; a product of w by a bits is w a products of single bits at four times "
    "the 4-bit rate, in the same tiles, operands packed, sums recovered in shared memory and not "
    "priced; sizes and batches of the claims are not published in the abstract: 1,024 to 8,192 a side, 1 to 64 tokens"
)


def bits_s(m: int, n: int, k: int, weight: int, act: int) -> float:
    """A product by bits."""
    return seconds(arrays(SYSTEM), bit_product(m, n, k, weight, act))


def plain_s(m: int, n: int, k: int, fmt: str) -> float:
    """The library's product."""
    return seconds(arrays(SYSTEM), product(m, n, k, fmt=fmt))


def model_gain(batch: int, weight: int, act: int) -> float:
    """Products of one decode step of a layer in 16 bits over the same by bits."""
    spec = models.load(MODEL)
    h, inter = spec.hidden, spec.block[0].ffn.inter
    shapes = ((3 * h, h), (h, h), (2 * inter, h), (h, inter))
    plain = sum(plain_s(batch, n, k, "fp16") for n, k in shapes)
    return plain / sum(bits_s(batch, n, k, weight, act) for n, k in shapes)


def run(sides: tuple[int, ...] = SIDES, batches: tuple[int, ...] = BATCHES) -> pd.DataFrame:
    """Square products over the 4-bit unit's, and a model's products over 16 bits."""
    rows: list[dict[str, Any]] = []
    gain = {(bits, n): plain_s(n, n, n, "int4") / bits_s(n, n, n, *bits) for bits in BITS for n in sides}
    whole = {(bits, batch): model_gain(batch, *bits) for bits in BITS for batch in batches}
    rows += [point(f"W{w}A{a}", GAIN, f"{n} a side", gain[(w, a), n], NOTE) for w, a in BITS for n in sides]
    rows += [point(f"W{w}A{a}", WHOLE, f"{b} tokens", whole[(w, a), b], NOTE) for w, a in BITS for b in batches]
    for claim, published, found in ((GAIN, 2.4, gain), (WHOLE, 6.7, whole)):
        best = {bits: max(value for (own, _), value in found.items() if own == bits) for bits in BITS}
        few = [best[bits] for bits in BITS[:3]]
        rows.append(row("by bits", f"{claim}, up to", "every size", published, few[1], NOTE, tag="approx", null=1.0,
                        said=True, spread=few))  # fmt: skip
    large = sides[-1]
    each = [gain[bits, large] for bits in BITS]
    rows.append(order("by bits", "order: fewer bit products are faster", f"{large} a side",
                      each == sorted(each, reverse=True), NOTE))  # fmt: skip
    rows.append(order("W1A2", "order: faster than 4-bit products", f"{large} a side", gain[(1, 2), large] > 1, NOTE))
    rows.append(order("by bits", "order: every width is faster than 16 bits in a model", "1 token",
                      min(whole[bits, batches[0]] for bits in BITS) > 1, NOTE))  # fmt: skip
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Gains by size and by tokens."""
    return panels(table, [Panel(GAIN, "square products", GAIN, curve=True),
                          Panel(WHOLE, "Llama-2-7B, decoding", WHOLE)],
                  "Arbitrary precision by bits on an RTX 3090")  # fmt: skip
