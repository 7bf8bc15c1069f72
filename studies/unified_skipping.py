"""What do layers bring that all tokens skip alike, beside exits of their own? (Unified Layer Skipping, 2024)"""

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from studies._panels import Panel, panels
from studies._steps import arrays, decode_s
from studies._verdict import frame, order, point
from workloads import models
from workloads.models.spec import ModelSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Unified Layer Skipping (Liu et al. 2024): a speedup that is chosen beforehand, the same whatever the tokens"
MODEL, CONTEXT = "llama-2-7b", 512
TARGETS, BATCHES = (1.25, 1.5, 2.0, 3.0), (1, 8, 32)
SYSTEM, UNIFIED, EXITS = "a100_sxm_80gb", "unified", "exits of their own"
SPEED = "speedup in time"
OPEN = (
    "model, GPU, batch and lengths are not published: Llama-2-7B on an A100, 512 tokens of context; exits of their own "
    "are even over the layers with the same mean, a layer is computed for the tokens that reach it; keys that "
    "an exit leaves out and the search for exits cost nothing; no host time"
)
SMALL = {"targets": (1.5, 3.0), "batches": (1, 32)}


def kept(num_layer: int, target: float) -> tuple[int, ...]:
    """Layers that every token computes: `num_layer` / `target` of them at an even stride, first and last included.

    >>> kept(8, 1.0), kept(8, 2.0)
    ((0, 1, 2, 3, 4, 5, 6, 7), (0, 2, 5, 7))
    """
    num = max(2, round(num_layer / target))
    return tuple(int(place) for place in np.rint(np.linspace(0, num_layer - 1, num)))


@functools.cache
def step_s(num_layer: int, batch: int) -> float:
    """Seconds of a decode step of the first so many layers."""
    spec: ModelSpec = models.load(MODEL)
    return decode_s(replace(spec, layer=spec.layer[:num_layer]), arrays(SYSTEM), batch, CONTEXT, fmt="fp16")


def unified_s(target: float, batch: int) -> float:
    """All tokens compute the kept layers (which are alike, so that their number decides)."""
    return step_s(len(kept(models.load(MODEL).num_layer, target)), batch)


def exits_s(target: float, batch: int, draws: int = 40) -> float:
    """Each token leaves after a layer of its own, drawn evenly around the mean: mean over draws of a batch."""
    num_layer = models.load(MODEL).num_layer
    mean = num_layer / target
    half = min(mean - 1, num_layer - mean)
    random = np.random.default_rng(0)
    layers = np.rint(random.uniform(mean - half, mean + half, (draws, batch))).astype(int)
    total = 0.0
    for one in layers:
        last = np.sort(one)[::-1]
        total += step_s(int(last[0]), batch)  # what a full batch takes, less what those that left do not
        for n in range(int(last[0])):
            alive = int((last > n).sum())
            if alive < batch:
                total += layer_s(alive) - layer_s(batch)
    return total / draws


def layer_s(batch: int) -> float:
    """Seconds of one layer."""
    return step_s(2, batch) - step_s(1, batch)


def run(targets: tuple[float, ...] = TARGETS, batches: tuple[int, ...] = BATCHES) -> pd.DataFrame:
    """Speedups in time at each chosen one, of both, over batches."""
    table: list[dict[str, Any]] = []
    num_layer = models.load(MODEL).num_layer
    found: dict[tuple[str, float, int], float] = {}
    for batch in batches:
        for target in targets:
            whole = step_s(num_layer, batch)
            found[UNIFIED, target, batch] = whole / unified_s(target, batch)
            found[EXITS, target, batch] = whole / exits_s(target, batch)
            table += [point(name, SPEED, f"batch {batch}, chosen {target:g}", found[name, target, batch], OPEN)
                      for name in (UNIFIED, EXITS)]  # fmt: skip
    most = max(batches)
    near = all(0.85 < found[UNIFIED, t, b] / t <= 1.02 for t in targets for b in batches)
    same = all(abs(found[UNIFIED, t, b] / found[UNIFIED, t, batches[0]] - 1) < 0.05 for t in targets for b in batches)
    falls = all(found[EXITS, t, most] < 0.9 * found[EXITS, t, batches[0]] for t in targets if t > 1.25)
    ahead = all(found[UNIFIED, t, most] > found[EXITS, t, most] for t in targets)
    for claim, setup, true in (
        ("the chosen speedup is the one in time, embedding and head aside", "every target and batch", near),
        ("it does not depend on the batch", "every target", same),
        ("exits of their own lose theirs in a batch", f"batch {most}", falls),
        ("skipping alike is faster in a batch", f"batch {most}", ahead),
    ):
        table.append(order("Unified Layer Skipping", f"order: {claim}", setup, true, OPEN))
    return frame(table)


def plot(table: pd.DataFrame) -> "Figure":
    """Speedup in time by the chosen one, a panel a batch."""
    batches = [name for name in dict.fromkeys(table["setup"].str.split(", ").str[0]) if name.startswith("batch ")]
    shown = [Panel(SPEED, name, SPEED, f"{name}, chosen", curve=True) for name in batches
             if (table["setup"].str.startswith(f"{name}, chosen")).any()]  # fmt: skip
    return panels(table, shown, "Unified Layer Skipping: Llama-2-7B on an A100")
