"""What do guesses at the next tokens save that the model itself made a step before? (FastCoT, Zhang et al. 2023)"""

import functools
from typing import TYPE_CHECKING, Any

import pandas as pd

from sim.show.plot_style import INK
from studies._panels import Panel, panels
from studies._speculate import Decoded, decode
from studies._verdict import frame, order, point, row
from workloads import models

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "FastCoT (Zhang et al. 2023): a window of tokens guessed in parallel saves nearly 20 % of the time"
MODEL, PROMPT, OUTPUT = "llama-2-7b", 512, 200
WINDOWS, HITS = (4, 8, 16), (0.15, 0.2, 0.3)  # tokens guessed beside the next one; probability that one holds
SYSTEMS, BATCHES = ("a100_sxm_80gb", "v100_sxm_32gb"), (1, 16)
TIME, ITERATION = "time saved, %", "iterations saved, %"
OPEN = (
    "hit rates, GPU and batch are not published: Llama-2-7B, one sequence of 512 + 200 on an A100 and a V100, a guess "
    "of the step before holds with 15 to 30 % where those before it do; windows of 4 to 16; no host time"
)
SMALL: dict[str, Any] = {"systems": ("a100_sxm_80gb",), "windows": (8,)}


@functools.cache
def one(system: str, batch: int, window: int, hit: float) -> Decoded:
    """Decoding with a window of guesses, which cost no passes of their own; `window` 0: a token a step."""
    progress = f"chain:k={window},accept={hit}" if window else ""
    return decode(models.load(MODEL), system, "fp16", batch, PROMPT, OUTPUT, progress=progress, rounds=8 // batch or 1)


def saved(system: str, batch: int, window: int, hit: float) -> tuple[float, float]:
    """Percent of time and of iterations that the window saves."""
    plain, guessed = one(system, batch, 0, 0.0), one(system, batch, window, hit)
    return 100 * (1 - guessed.token_s / plain.token_s), 100 * (1 - 1 / guessed.verified)


def run(
    systems: tuple[str, ...] = SYSTEMS, windows: tuple[int, ...] = WINDOWS, hits: tuple[float, ...] = HITS,
    batches: tuple[int, ...] = BATCHES,
) -> pd.DataFrame:  # fmt: skip
    """Time and iterations saved over windows and hit rates, and what a batch leaves of them."""
    table: list[dict[str, Any]] = []
    time: dict[int, list[float]] = {batch: [] for batch in batches}
    less = True
    for batch in batches:
        for system in systems:
            for window in windows:
                for hit in hits:
                    second, iteration = saved(system, batch, window, hit)
                    time[batch].append(second)
                    less &= second <= iteration + 1e-9
                    name, setup = f"{system.split('_')[0].upper()}, window {window}", f"batch {batch}, {hit:.0%} hold"
                    table += [point(name, TIME, setup, second, OPEN), point(name, ITERATION, setup, iteration, OPEN)]
    alone = sorted(time[min(batches)])
    table += [
        row("FastCoT", f"{TIME[:-3]}, one sequence", "windows and hit rates", 20.0, alone[len(alone) // 2], OPEN,
            said=True, spread=alone),
        order("FastCoT", "order: a window saves time", "one sequence, every choice", alone[0] > 0, OPEN),
        order("FastCoT", "order: less time than iterations is saved", "every choice", less, OPEN),
    ]  # fmt: skip
    return frame(table)


def plot(table: pd.DataFrame) -> "Figure":
    """Time and iterations saved, one sequence and a batch."""
    first = [name for name in dict.fromkeys(table["setup"].str.split(", ").str[0]) if name.startswith("batch")]
    shown = [
        Panel(claim, f"{claim[:-3]}, {name}", "%", f"{name}, ", curve=True)
        for claim in (TIME, ITERATION)
        for name in first
    ]
    figure = panels(table, shown, "FastCoT: a window of guesses, Llama-2-7B")
    said = float(table[table["system"] == "FastCoT"]["paper"].iloc[0])
    figure.axes[0].axhline(said, color=INK, lw=1, ls=":")
    figure.axes[0].annotate("published: nearly this", (0, said), (0, 3), textcoords="offset points", fontsize=7)
    return figure
