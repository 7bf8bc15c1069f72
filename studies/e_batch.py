"""What do sequences that take each other's slots save a recurrent accelerator? (E-BATCH, Silfa et al. 2020)"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from kernels.machine import MEM_BYTE_PER_S
from studies._kernels import product, seconds
from studies._panels import Panel, panels
from studies._steps import arrays
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "E-BATCH (Silfa et al. 2020): 1.8 and 2.1 times the throughput of padded batches on E-PUR and a TPU"
SMALL: dict[str, Any] = {"spreads": (0.6,), "num": 512}
SYSTEM, WIDTH, GATE, LAYER = "tpu_v4", 1024, 4, 5  # networks and E-PUR's sizes are not published
SLOT, MEAN = 64, 200.0  # sequences side by side; steps of one
SPREADS = (0.3, 0.6, 0.9)  # of log lengths
PADDED, SORTED, EBATCH = "padded", "sorted, padded", "slots refilled"
RATE, JOULE, WASTE = "throughput over padded", "energy over padded, inverse", "share of steps that are padding"
PUBLISHED = {"E-PUR": (1.8, 3.6), "TPU": (2.1, 1.6)}
PJ_BYTE, PJ_MAC = 20.0, 0.5  # DRAM and a 16-bit multiply-add with its operands; 10 to 40 is the spread of the first
NOTE = (
    "five LSTM layers 1,024 wide, 64 slots, log-normal lengths of mean 200; a layer's weights are fetched once for a "
    "window of steps and stay; networks, lengths and E-PUR's memory are not published"
)


class Run(NamedTuple):
    """What a policy needs for all sequences: steps of all slots, steps that are somebody's, windows."""

    step: int
    useful: int
    window: int


def lengths(num: int, spread: float) -> np.ndarray:
    """Steps of every sequence, in order of arrival."""
    random = np.random.default_rng(0)
    return np.maximum(1, np.rint(MEAN * np.exp(random.normal(-(spread**2) / 2, spread, num)))).astype(np.int64)


def padded(length: np.ndarray, slot: int) -> Run:
    """Batches of so many in the order given, each as long as its longest."""
    most = [int(length[at : at + slot].max()) for at in range(0, len(length), slot)]
    return Run(sum(most), int(length.sum()), len(most))


def refilled(length: np.ndarray, slot: int, window: int) -> Run:
    """Windows of up to `window` steps; a slot whose sequence ends takes the next one at once, across windows, and a
    window ends early where every slot has run dry."""
    ends = np.zeros(slot, np.int64)  # step at which each slot is free
    for one in length:
        at = int(ends.argmin())
        ends[at] += one
    step = int(ends.max())
    return Run(step, int(length.sum()), -(-step // window))


def cost(found: Run, slot: int, pj_byte: float = PJ_BYTE) -> tuple[float, float]:
    """Seconds and joules: steps of all slots on the matrix unit, weights once a window and layer."""
    where = arrays(SYSTEM)
    kernel = product(slot, GATE * WIDTH, 2 * WIDTH, fmt="bf16", weight_share=0.0)
    step_s = LAYER * seconds(where, kernel)
    byte = LAYER * 2.0 * GATE * WIDTH * 2 * WIDTH
    second = found.step * step_s + found.window * byte / float(where.rate[MEM_BYTE_PER_S])
    mac = found.step * slot * byte / 2
    moved = found.window * byte + found.step * slot * LAYER * 2.0 * 2 * WIDTH
    return second, 1e-12 * (mac * PJ_MAC + moved * pj_byte)


def policies(length: np.ndarray, slot: int) -> dict[str, Run]:
    """Each policy's run; windows of the third are as long as the longest sequence."""
    return {
        PADDED: padded(length, slot),
        SORTED: padded(np.sort(length), slot),
        EBATCH: refilled(length, slot, int(length.max())),
    }


def run(spreads: tuple[float, ...] = SPREADS, num: int = 2048) -> pd.DataFrame:
    """Throughput, energy and padding of each policy by the spread of lengths."""
    rows: list[dict[str, Any]] = []
    gain: dict[float, tuple[float, float]] = {}
    for spread in spreads:
        found = policies(lengths(num, spread), SLOT)
        each = {name: cost(one, SLOT) for name, one in found.items()}
        setup = f"spread {spread}"
        for name, (second, joule) in each.items():
            rows.append(point(name, RATE, setup, each[PADDED][0] / second, NOTE))
            rows.append(point(name, JOULE, setup, each[PADDED][1] / joule, NOTE))
            rows.append(point(name, WASTE, setup, 1 - found[name].useful / (SLOT * found[name].step), NOTE))
        gain[spread] = each[PADDED][0] / each[EBATCH][0], each[PADDED][1] / each[EBATCH][1]
        rows.append(order(EBATCH, "order: less padding than padded, and throughput gains what padding took", setup,
                          found[EBATCH].step < found[PADDED].step
                          and abs(gain[spread][0] * found[EBATCH].step / found[PADDED].step - 1) < 0.1,
                          NOTE))  # fmt: skip
    middle = spreads[len(spreads) // 2]
    for machine, published in PUBLISHED.items():
        for at, claim in enumerate((RATE, JOULE)):
            rows.append(row(machine, claim, "networks of the paper", published[at], gain[middle][at], NOTE,
                            tag="approx", null=1.0, said=True, spread=[one[at] for one in gain.values()]))  # fmt: skip
    rates = [gain[spread][0] for spread in spreads]
    rows.append(order(EBATCH, "order: the more lengths differ, the more it gains", f"spread {spreads}",
                      rates == sorted(rates), NOTE))  # fmt: skip
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Throughput, energy and padding by spread, published on the right of the first two."""
    return panels(table, [Panel(RATE, "throughput", RATE), Panel(JOULE, "energy", JOULE),
                          Panel(WASTE, "padding", WASTE)],
                  "E-BATCH: recurrent networks, slots refilled", columns=3)  # fmt: skip
