"""What do skipped layers bring in time? (SkipDecode, Del Corro et al. 2023: layers fall with a token's position)"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from studies._gpt import gpt
from studies._panels import Panel, panels
from studies._steps import arrays, decode_s
from studies._verdict import frame, order, row
from workloads import models
from workloads.models.spec import ModelSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "SkipDecode (Del Corro et al. 2023): 2 to 5 times faster generation with OPT of 1.3 and 6.7 billion parameters"
SMALL = {"batches": (8,), "systems": ("a100_sxm_80gb",)}
GAINS = (2.0, 3.0, 4.0, 5.0)  # layers computed in all over layers that a full model computes: 1/2 to 1/5
STATED = (2.0, 5.0)
PROMPT, OUTPUT, STEP, WARM = 256, 128, 8, 1  # the first layers that every token computes
BATCHES, SYSTEMS = (1, 8, 32), ("a100_sxm_80gb", "v100_sxm_32gb")
SPEED = "speedup at the schedule's share of layers"
NOTE = (
    "GPU, batch and lengths are not published: 1 to 32 sequences of 256 + 128 on an A100 and a V100; exit layers fall "
    "in a line from all to what makes the mean; keys of skipped layers are not written; no host time"
)


def card(name: str) -> ModelSpec:
    """OPT of a size."""
    return gpt("opt-1.3b", 2048, 24, 32, vocab=50272) if name == "1.3B" else models.load("opt-6.7b")


def schedule(num_layer: int, gain: float) -> "np.ndarray[Any, Any]":
    """Layers of each output token: from all of them down in a line (and then level at `WARM`), their mean 1 / gain."""
    place = np.linspace(0.0, 1.0, OUTPUT)
    low, high = 0.0, 50.0 * num_layer
    for _ in range(60):
        slope = (low + high) / 2
        count = np.maximum(num_layer - slope * place, WARM)
        low, high = (slope, high) if count.mean() > num_layer / gain else (low, slope)
    return np.rint(count).astype(int)


def second(name: str, system: str, batch: int, gain: float) -> float:
    """Seconds of all output tokens; every `STEP`-th is priced."""
    spec, where = card(name), arrays(system)
    layers = schedule(spec.num_layer, gain) if gain > 1 else np.full(OUTPUT, spec.num_layer)
    return sum(
        STEP * decode_s(replace(spec, layer=spec.layer[: int(layers[at])]), where, batch, PROMPT + at, fmt="fp16")
        for at in range(STEP // 2, OUTPUT, STEP)
    )


def run(batches: tuple[int, ...] = BATCHES, systems: tuple[str, ...] = SYSTEMS) -> pd.DataFrame:
    """Speedup in time at each share of layers, the middle of what is open with its range."""
    rows: list[dict[str, Any]] = []
    for name in ("1.3B", "6.7B"):
        found: dict[float, list[float]] = {}
        for gain in GAINS:
            found[gain] = [second(name, s, b, 1.0) / second(name, s, b, gain) for s in systems for b in batches]
            middle = sorted(found[gain])[len(found[gain]) // 2]
            if gain in STATED:
                setup = f"OPT-{name}, 1/{gain:g} of the layers"
                rows.append(row("SkipDecode", SPEED, setup, gain, middle, NOTE, tag="approx", null=1.0,
                                spread=found[gain]))  # fmt: skip
        less = all(value < gain for gain, values in found.items() for value in values)
        rows.append(
            order("SkipDecode", "order: embedding and head leave less than the layers say", f"OPT-{name}", less, NOTE)
        )
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Speedups of both sizes."""
    return panels(table, [Panel(SPEED, f"OPT-{name}", "speedup", f"OPT-{name}, ") for name in ("1.3B", "6.7B")],
                  "SkipDecode: layers that fall with the position")  # fmt: skip
