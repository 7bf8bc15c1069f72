"""What does a recogniser gain that takes whatever has come as its next batch? (Deep Speech 2, Amodei et al. 2015)"""

import heapq
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hw_models import catalog
from hw_models.device import machine
from hw_models.spec import System
from kernels.machine import Machine
from studies._kernels import product, seconds, stream
from studies._panels import Panel, panels
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Deep Speech 2 (Amodei et al. 2015): batches of what has come, 44 ms at the median of 10 streams"
SMALL: dict[str, Any] = {"second": 5.0, "streams": (1, 10, 40)}
# Quadro K1200 (NVIDIA datasheet): 1.1 TFLOP/s of 32-bit values, 80 GB/s; else as its Pascal relative of the catalogue
BASE, FLOP, BYTE = "p40", 1.1e12, 80e9
# the deployed network is not published: unidirectional GRU layers, a row convolution, as in the paper's research model
WIDTHS, LAYER, FREQUENCY = (1280, 2560), 5, 161
FRAME_S, STEP, PACKET_S = 0.01, 2, 0.1  # frames of 10 ms, two a time step; of a packet
STREAMS = (1, 5, 10, 20, 30, 40)
P50, P98, DEPTH = "ms, median", "ms, 98th percentile", "streams of a batch"
EAGER, ALONE = "batch dispatch", "one by one"
PUBLISHED = {P50: 44.0, P98: 70.0}
NOTE = (
    "a Quadro K1200 at its peak rates; packets of 100 ms from each stream at a phase of its own; the deployed network "
    "is not published: 5 GRU layers, 1,280 or 2,560 wide; the two latencies are recalled and not checked"
)


def device() -> Machine:
    """The small card at the speed of light."""
    card = replace(catalog.device(BASE), mem_byte_per_s=BYTE, vector_flop_per_s=FLOP)
    arrays = machine(System("k1200", catalog.node(catalog.system(BASE).node.name, with_device=card)))
    arrays.peak_flop_per_s[:] = np.minimum(arrays.peak_flop_per_s, FLOP)
    return arrays


def batch_s(where: Machine, width: int, batch: int) -> float:
    """Seconds to move so many streams on by a packet: inputs of a packet's steps in one product, recurrences a step
    each, whose weights are read again."""
    step = round(PACKET_S / FRAME_S / STEP)
    first = product(batch * step, 3 * width, STEP * FREQUENCY, fmt="fp32")
    inputs = product(batch * step, 3 * width, width, fmt="fp32", count=LAYER - 1)
    recur = product(batch, 3 * width, width, fmt="fp32", count=LAYER * step)
    gates = stream(4.0 * batch * 7 * width, 4.0 * batch * width, count=LAYER * step)
    return seconds(where, first, inputs, recur, gates)


def serve(price: list[float], streams: int, most: int, second: float) -> tuple[list[float], float]:
    """Seconds from a packet's arrival to its answer, in order, and the mean batch: a free device takes the packets that
    wait, one of a stream and at most `most`; `price[n]` is a batch of n."""
    phase = np.random.default_rng(streams).random(streams) * PACKET_S
    num = round(second / PACKET_S)
    heap = [(float(at) + k * PACKET_S, one) for one, at in enumerate(phase) for k in range(num)]
    heapq.heapify(heap)
    now, waited, sizes = 0.0, [], []
    waiting: list[tuple[float, int]] = []
    while heap or waiting:
        if not waiting:
            now = max(now, heap[0][0])
        while heap and heap[0][0] <= now:
            waiting.append(heapq.heappop(heap))
        taken: list[tuple[float, int]] = []
        kept: list[tuple[float, int]] = []
        for place, one in enumerate(waiting):
            if len(taken) == most:
                kept += waiting[place:]
                break
            (kept if any(one[1] == other for _, other in taken) else taken).append(one)
        waiting = kept
        now += price[len(taken)]
        sizes.append(len(taken))
        waited += [now - at for at, _ in taken]
    return waited, float(np.mean(sizes))


def run(second: float = 20.0, streams: tuple[int, ...] = STREAMS, widths: tuple[int, ...] = WIDTHS) -> pd.DataFrame:
    """Latencies by streams, eagerly batched and one by one."""
    where, rows = device(), []
    found: dict[tuple[str, int, int], tuple[float, float]] = {}
    for width in widths:
        price = [0.0, *(batch_s(where, width, batch) for batch in range(1, max(streams) + 1))]
        for num in streams:
            for name, most in ((EAGER, num), (ALONE, 1)):
                waited, mean = serve(price, num, most, second)
                value = tuple(1e3 * float(np.quantile(waited, q)) for q in (0.5, 0.98))
                found[name, width, num] = value[0], value[1]
                setup = f"{width} wide, {num} streams"
                rows += [point(name, P50, setup, value[0], NOTE), point(name, P98, setup, value[1], NOTE)]
                if name == EAGER:
                    rows.append(point(name, DEPTH, setup, mean, NOTE))
    for at, (claim, published) in enumerate(PUBLISHED.items()):
        values = [found[EAGER, width, 10][at] for width in widths]
        rows.append(
            row(
                EAGER,
                claim,
                f"{widths[-1]} wide, 10 streams",
                published,
                values[-1],
                NOTE,
                tag="approx",
                said=True,
                spread=values,
            )
        )
    for width in widths:
        where_ = f"{width} wide, {streams[0]} to {streams[-1]} streams"
        pairs = [(found[EAGER, width, num], found[ALONE, width, num]) for num in streams]
        rows.append(order(EAGER, "order: never later than one by one, median and tail", where_,
                          all(a[k] <= b[k] * (1 + 1e-9) for a, b in pairs for k in (0, 1)), NOTE))  # fmt: skip
        rows.append(order(EAGER, "order: the most streams wait several times less", where_,
                          2 * pairs[-1][0][1] < pairs[-1][1][1], NOTE))  # fmt: skip
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Median and tail by streams, and how deep batches are."""
    width = WIDTHS[-1]
    shown = [Panel(claim, claim, "ms", f"{width} wide, ", curve=True, log=True) for claim in (P50, P98)]
    return panels(table, [*shown, Panel(DEPTH, "eager batches", DEPTH, f"{width} wide, ")],
                  "Deep Speech 2: batch dispatch on a small card")  # fmt: skip
