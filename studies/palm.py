"""Weights that stay or weights that are gathered, for PaLM 540B on 64 TPU v4? (Pope et al., MLSys 2023)"""

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from hw_models import catalog, topology
from kernels.collective import IDEAL_COLLECTIVE, collective_s
from kernels.machine import Floats
from kernels.optable import ALL_GATHER, ALL_TO_ALL, REDUCE_SCATTER
from studies._panels import Panel, panels
from studies._verdict import frame, order, point, row
from workloads import models

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Scaling Transformer inference (Pope et al. 2022): PaLM 540B at 28.5 ms a token, prompts at 76 % of the peak"
SYSTEM, CHIPS, LENGTH, OUTPUT = "tpu_v4", 64, 2048, 64
HEADS = 64  # 48, padded to the chips
SECONDS, MFU, CONTEXT, SWITCH = "seconds", "model FLOP utilisation", "longest context", "seconds of collectives"
# phase, layout, batch, bytes a weight: seconds (64 steps where decode), model FLOP utilisation
ROWS: dict[str, tuple[str, str, int, int, float, float]] = {
    "prefill, batch 1, int8": ("prefill", "stay", 1, 1, 0.29, 0.43),
    "prefill, batch 512, bf16": ("prefill", "gather", 512, 2, 85.2, 0.76),
    "decode, batch 64, int8": ("decode", "stay", 64, 1, 1.82, 0.14),
    "decode, batch 64, bf16": ("decode", "stay", 64, 2, 0.0369 * OUTPUT, 0.0),
    "decode, batch 512, bf16": ("decode", "stay", 512, 2, 6.0, 0.33),
}
# longest context at 30 % of memory for KV, by batch: multi-query heads copied to all chips, and split over the batch
MEMORY = {"split over heads": {128: 660, 512: 165}, "split over the batch": {128: 43000, 512: 10700}}
SWEEP = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
OPEN = (
    "products and links of a TPU at the speed of light, for none is calibrated; collectives under the products (looped "
    "einsums) to after them; all links of a chip together 300 GB/s, 1 us a hop"
)
SLOW = "published steps take 180 us a layer more than reading weights, which peak rates have not; "
SMALL = {"batches": (1, 512)}


class Cost(NamedTuple):
    """Seconds of a layer: products or the weights' reading, attention, collectives."""

    product: float
    attention: float
    collective: float

    def step_s(self, num_layer: int, hidden: bool) -> float:
        both = max(self.product, self.collective) if hidden else self.product + self.collective
        return num_layer * (both + self.attention)


@functools.cache
def links(group: int) -> Floats:
    """Link rates of a box of the torus."""
    return topology.link_rows(catalog.system(SYSTEM, CHIPS), group)


def collective(kind: int, byte: float, group: int) -> float:
    """Seconds of a collective in a box of the torus, at the speed of its links."""
    return float(collective_s(kind, byte, group, 1, links(group), np.array(IDEAL_COLLECTIVE))[0])


def layer(layout: str, phase: str, batch: int, weight_byte: int) -> Cost:
    """A parallel block on a chip. `stay`: weights in two dimensions, hidden width over X = sqrt(n) / 2 chips and the
    others over 2 sqrt(n); `gather`: weights come from N chips, tokens lie over these; the N that takes least."""
    spec, chip = models.load("palm-540b"), catalog.system(SYSTEM, CHIPS).device
    part = spec.block[0]
    width, dim, inter = spec.hidden, part.attention.head_dim, part.ffn.inter
    query = HEADS * dim
    into, out = 2 * inter + query + 2 * dim, inter + query  # columns of the first product, rows of the second
    token = batch * (LENGTH if phase == "prefill" else 1)
    weight = width * (into + out)
    product = max(2.0 * token * weight / CHIPS / chip.peak("bf16"), weight * weight_byte / CHIPS / chip.mem_byte_per_s)
    key = batch * (LENGTH * (LENGTH + 1) / 2 if phase == "prefill" else LENGTH + OUTPUT / 2)
    attention = 4.0 * key * query / CHIPS / chip.peak("bf16")
    if phase == "decode":
        attention = max(attention, batch * (LENGTH + OUTPUT / 2) * 2 * dim * 2 / CHIPS / chip.mem_byte_per_s)
        attention += 2 * collective(ALL_TO_ALL, 2.0 * token * query / CHIPS, CHIPS)
    if layout == "stay":
        x = round(CHIPS**0.5 / 2)
        other = CHIPS // x
        ends, middle = 2.0 * token * width / x, 2.0 * token / other
        moved = (
            collective(ALL_GATHER, ends, other)
            + collective(REDUCE_SCATTER, middle * into, x)
            + collective(ALL_GATHER, middle * out, x)
            + collective(REDUCE_SCATTER, ends, other)
        )
    else:
        moved = min(
            collective(ALL_GATHER, float(weight_byte) * weight * num / CHIPS, num)
            + collective(ALL_GATHER, 2.0 * token * width / num, CHIPS // num)
            + collective(REDUCE_SCATTER, 2.0 * token * width / num, CHIPS // num)
            for num in (4, 16, 64)
        )
    return Cost(product, attention, moved)


def longest(split: str, batch: int) -> float:
    """Tokens a sequence whose KV takes 30 % of a chip's memory."""
    spec, chip = models.load("palm-540b"), catalog.system(SYSTEM, CHIPS).device
    token = len(spec.layer) * 2 * spec.block[0].attention.head_dim * 2 * batch
    return 0.3 * chip.mem_byte / (token if split == "split over heads" else token / CHIPS)


def run(batches: tuple[int, ...] = SWEEP) -> pd.DataFrame:
    """Seconds and utilisation of the published rows, contexts that fit, and which layout wins by batch."""
    spec = models.load("palm-540b")
    peak, num_layer = CHIPS * catalog.system(SYSTEM, CHIPS).device.peak("bf16"), len(spec.layer)
    table: list[dict[str, Any]] = []
    for setup, (phase, layout, batch, byte, seconds, mfu) in ROWS.items():
        steps, token = (1, batch * LENGTH) if phase == "prefill" else (OUTPUT, batch * OUTPUT)
        found = [steps * layer(layout, phase, batch, byte).step_s(num_layer, hidden) for hidden in (True, False)]
        note = SLOW + OPEN if phase == "decode" else OPEN
        table.append(row("PaLM 540B", SECONDS, setup, seconds, found[0], note, spread=found))
        if mfu:
            share = [2 * 540e9 * token / peak / one for one in found]
            table.append(row("PaLM 540B", MFU, setup, mfu, share[0], note, spread=share))
    for split, known in MEMORY.items():
        for batch, paper in known.items():
            table.append(row("PaLM 540B", CONTEXT, f"{split}, batch {batch}", paper, longest(split, batch)))
    moved = {
        kind: [num_layer * layer(kind, "prefill", n, 2).collective for n in batches] for kind in ("stay", "gather")
    }
    for kind, values in moved.items():
        table += [point(f"weights {kind}", SWITCH, f"batch {n}", v, OPEN) for n, v in zip(batches, values, strict=True)]
    wins = [a < b for a, b in zip(moved["stay"], moved["gather"], strict=True)]
    table += [
        order("PaLM 540B", "order: weights stay at the smallest batch, are gathered at the largest",
              "prefill of 2,048", wins[0] and not wins[-1], OPEN),
        order("PaLM 540B", "order: one crossover", "prefill of 2,048", wins == sorted(wins, reverse=True), OPEN),
    ]  # fmt: skip
    return frame(table)


def plot(table: pd.DataFrame) -> "Figure":
    """Seconds and utilisation by row, contexts that fit, and collectives of both layouts by batch."""
    shown = [
        Panel(SECONDS, "a prefill, or 64 steps", "seconds", log=True), Panel(MFU, "share of the peak", MFU),
        Panel(CONTEXT, "KV in 30 % of memory", "tokens", log=True),
        Panel(SWITCH, "collectives of a prefill of 2,048", "seconds", curve=True, log=True),
    ]  # fmt: skip
    return panels(table, shown, "PaLM 540B on 64 TPU v4")
