"""Weights that stay or weights that are gathered, for PaLM 540B on 64 TPU v4? (Pope et al., MLSys 2023)"""

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import lsq_linear

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
FITTED = "ms of table D.3"
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
# The machine's constants come from another table of the paper, which shares no shape with the rows: D.3, bf16, weights
# in two dimensions, 60 tokens in and 20 out; milliseconds of the prefill and of the decode, by batch.
SHORT, ANSWER = 60, 20
TABLE_D3 = {4: (50, 640), 8: (80, 574), 16: (153, 602), 32: (270, 626), 64: (501, 717), 128: (985, 829),
            256: (2041, 1114)}  # fmt: skip
OPEN = (
    "no TPU is calibrated: what products and collectives take over their speed of light, and the seconds of a layer "
    "besides, are fitted on table D.3 (60 tokens in, 20 out), whose batches do not tell the products' loss from the "
    "collectives' and leave it at 1; the spread is of fits on its halves; all links of a chip together 300 GB/s, 1 us "
    "a hop; scores and activations pass through memory, masked pairs are computed, as compiled programs of 2022 do"
)
LOST = (
    "tried: a tenth lost in products, which table D.3 tells hardly worse (error of 5.5 % for 4.9), takes 82.3 s and "
    "makes it 0.78 of the peak, 0.15 lost takes 85.4 s: one long prefill apart from these rows would tell"
)
SMALL = {"batches": (1, 512)}


class Machine(NamedTuple):
    """What a chip takes over the speed of light: factors on products and on collectives, seconds a layer besides."""

    product: float = 1.0
    collective: float = 1.0
    fixed_s: float = 0.0


class Cost(NamedTuple):
    """Seconds of a layer at the speed of light: products or the weights' reading, attention and what is element by
    element, collectives."""

    product: float
    attention: float
    collective: float

    def step_s(self, num_layer: int, chip: Machine) -> float:
        moved = chip.collective * self.collective
        return num_layer * (chip.product * self.product + moved + self.attention + chip.fixed_s)


@functools.cache
def links(group: int) -> Floats:
    """Link rates of a box of the torus."""
    return topology.link_rows(catalog.system(SYSTEM, CHIPS), group)


def collective(kind: int, byte: float, group: int) -> float:
    """Seconds of a collective in a box of the torus, at the speed of its links."""
    return float(collective_s(kind, byte, group, 1, links(group), np.array(IDEAL_COLLECTIVE))[0])


def layer(
    layout: str, phase: str, batch: int, weight_byte: int, length: int = LENGTH, output: int = OUTPUT
) -> Cost:  # fmt: skip
    """A parallel block on a chip. `stay`: weights in two dimensions, hidden width over X = sqrt(n) / 2 chips and the
    others over 2 sqrt(n); `gather`: weights come from N chips, tokens lie over these; the N that takes least."""
    spec, chip = models.load("palm-540b"), catalog.system(SYSTEM, CHIPS).device
    part = spec.block[0]
    width, dim, inter = spec.hidden, part.attention.head_dim, part.ffn.inter
    query = HEADS * dim
    into, out = 2 * inter + query + 2 * dim, inter + query  # columns of the first product, rows of the second
    token = batch * (length if phase == "prefill" else 1)
    weight = width * (into + out)
    product = max(2.0 * token * weight / CHIPS / chip.peak("bf16"), weight * weight_byte / CHIPS / chip.mem_byte_per_s)
    key = batch * (length * length if phase == "prefill" else length + output / 2)  # a mask hides, it skips nothing
    attention = 4.0 * key * query / CHIPS / chip.peak("bf16")
    # what lies in memory between products: scores, written, read for the softmax, written and read; activations of
    # the gate (two read, one written), of the norm (read, written), of the residual (two read, one written), queries
    pass_byte = 2.0 * (4 * key * HEADS + token * (3 * inter + 5 * width + 2 * query))
    attention += pass_byte / CHIPS / chip.mem_byte_per_s
    if phase == "decode":
        attention = max(attention, batch * (length + output / 2) * 2 * dim * 2 / CHIPS / chip.mem_byte_per_s)
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


def fitted(batches: tuple[int, ...] = tuple(TABLE_D3)) -> Machine:
    """The machine by table D.3: least squares of relative errors over its prefills and decodes, linear in the three
    constants, none of them below the speed of light."""
    num_layer = len(models.load("palm-540b").layer)
    known, left = [], []
    for batch in batches:
        for phase, ms, steps in zip(("prefill", "decode"), TABLE_D3[batch], (1, ANSWER), strict=True):
            cost, seconds = layer("stay", phase, batch, 2, SHORT, ANSWER), 1e-3 * ms / steps
            known.append(num_layer * np.array([cost.product, cost.collective, 1.0]) / seconds)
            left.append(1 - num_layer * cost.attention / seconds)
    found = lsq_linear(np.array(known), np.array(left), bounds=([1.0, 1.0, 0.0], [math.inf] * 3)).x
    return Machine(*(float(x) for x in found))


def longest(split: str, batch: int) -> float:
    """Tokens a sequence whose KV takes 30 % of a chip's memory."""
    spec, chip = models.load("palm-540b"), catalog.system(SYSTEM, CHIPS).device
    token = len(spec.layer) * 2 * spec.block[0].attention.head_dim * 2 * batch
    return 0.3 * chip.mem_byte / (token if split == "split over heads" else token / CHIPS)


def fit_rows(chip: Machine, num_layer: int) -> list[dict[str, Any]]:
    """The table that the machine is fitted on."""
    table = []
    for batch, ms in TABLE_D3.items():
        for phase, paper, steps in zip(("prefill", "decode"), ms, (1, ANSWER), strict=True):
            found = 1e3 * steps * layer("stay", phase, batch, 2, SHORT, ANSWER).step_s(num_layer, chip)
            table.append(row("PaLM 540B", FITTED, f"{phase}, batch {batch}", paper, found, OPEN, kind="fitted"))
    return table


def run(batches: tuple[int, ...] = SWEEP) -> pd.DataFrame:
    """Seconds and utilisation of the published rows, contexts that fit, and which layout wins by batch."""
    spec = models.load("palm-540b")
    peak, num_layer = CHIPS * catalog.system(SYSTEM, CHIPS).device.peak("bf16"), len(spec.layer)
    every = tuple(TABLE_D3)
    chips = [fitted(part) for part in (every, every[::2], every[1::2])]
    table: list[dict[str, Any]] = fit_rows(chips[0], num_layer)
    for setup, (phase, layout, batch, byte, seconds, mfu) in ROWS.items():
        steps, token = (1, batch * LENGTH) if phase == "prefill" else (OUTPUT, batch * OUTPUT)
        found = [steps * layer(layout, phase, batch, byte).step_s(num_layer, chip) for chip in chips]
        note = f"{LOST}; {OPEN}" if layout == "gather" else OPEN
        table.append(row("PaLM 540B", SECONDS, setup, seconds, found[0], note, spread=found))
        if mfu:
            share = [2 * 540e9 * token / peak / one for one in found]
            table.append(row("PaLM 540B", MFU, setup, mfu, share[0], note, spread=share))
    for split, known in MEMORY.items():
        for batch, paper in known.items():
            table.append(row("PaLM 540B", CONTEXT, f"{split}, batch {batch}", paper, longest(split, batch)))
    moved = {
        kind: [num_layer * chips[0].collective * layer(kind, "prefill", n, 2).collective for n in batches]
        for kind in ("stay", "gather")
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
