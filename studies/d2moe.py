"""What do experts of nested bits gain where they come from a disk, under a budget of memory? (D2MoE, MobiCom 2025)"""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sim.offload.bit_planes import Loaded, hold, replay
from studies._panels import Panel, panels
from studies._verdict import frame, order, point, row
from workloads.expert_routing import draw

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "D2MoE (Wang et al. 2025): LLaMA-MoE-3.5B at 66 tokens/s with 200 MB for experts, 1.06 to 1.39 times EdgeMoE"
NUM_LAYER, NUM_EXPERT, TOPK, HIDDEN, INTER = 32, 16, 4, 4096, 688  # LLaMA-MoE-3.5B (4 of 16)
LINK, REQUESTS = 3.5e9, 32  # NVMe, bytes a second; decodes of a step
FEWEST = 4  # the fewest requests that the paper times
PARAMETER = 3 * HIDDEN * INTER
PLANES = np.array([2.0, 1.0, 1.0])  # bits: INT2, what INT3 adds, what INT4 adds
SCALE = 16 / 128  # bits a parameter of a 16-bit scale for each group of 128
# shares of tokens at 2, 3 and 4 bits, and the exponent of the experts' popularity: neither is published
MIXES = {"even": (1 / 3, 1 / 3, 1 / 3), "low": (0.5, 0.3, 0.2), "high": (0.2, 0.3, 0.5)}
SKEWS = (0.0, 1.0)
RATE, OVER, STORED = "tokens/s", "speedup over EdgeMoE", "bytes of experts that nesting saves"
PAPER = {200: 66.45, 1600: 83.14}  # by MB for experts
OPEN = (
    "seconds of a task are fitted on the rate with 1,600 MB (the GPU's kernels and their launches are not published), "
    "half as long again a layer for its dense part; a layer's experts are known two layers ahead; mix of bits and "
    "routing are not published: the range over three mixes and two popularities; EdgeMoE: four bits for every token, "
    "an expert whole, by its number, same budget"
)
MOST = (
    "over which numbers of requests is not read: with 4, the fewest that the paper times, a step loads few experts "
    "for few tokens and fewer bits are most of the gain (1.16 to 1.58); with 32 alone somebody wants nearly every "
    "expert at four bits (at most 1.10)"
)
SMALL = {"steps": 2, "skews": (1.0,), "mixes": ("even",)}


def plane_byte() -> np.ndarray:
    """Bytes of each plane of an expert; scales come with the lowest."""
    return PARAMETER * (PLANES + np.array([SCALE, 0.0, 0.0])) / 8


def tasks(mix: tuple[float, ...], skew: float, steps: int, requests: int = REQUESTS, seed: int = 0) -> np.ndarray:
    """`[step, layer, expert, plane]` rows, each token at bits of its own drawn from the mix."""
    choices = draw(steps, NUM_LAYER, NUM_EXPERT, TOPK, requests, skew=skew, stay=0.0, seed=seed)
    bits = np.random.default_rng(seed + 1).choice(len(mix), size=choices.shape, p=mix)
    found = np.zeros((steps, NUM_LAYER, NUM_EXPERT, len(mix)), np.int64)
    at = np.indices(choices.shape)
    np.add.at(found, (at[0], at[1], choices, bits), 1)
    return found


def d2moe(rows: np.ndarray, budget_byte: float, task_s: float, kind: str = "hottest") -> Loaded:
    """Nested planes in an order."""
    held = hold(rows, plane_byte(), budget_byte)
    return replay(rows, plane_byte(), held, LINK, kind, dense_s=NUM_EXPERT * task_s / 2, task_s=task_s)


def edge_moe(rows: np.ndarray, budget_byte: float, task_s: float) -> Loaded:
    """Every token at four bits: one plane of all the bytes. What is computed costs the same: the tasks of the mix are
    one product here, so that the gain of fewer bytes stands alone."""
    whole = rows.sum(axis=-1, keepdims=True)
    byte = plane_byte().sum(keepdims=True)
    num_task = (rows > 0).sum() / (whole > 0).sum()
    held = hold(whole, byte, budget_byte)
    return replay(whole, byte, held, LINK, "number", dense_s=NUM_EXPERT * task_s / 2, task_s=task_s * num_task)


def fitted_task_s(rows: np.ndarray) -> float:
    """Seconds of a task at which 1,600 MB give the published rate; bisection."""
    low, high = 0.0, 0.01
    wanted = len(rows) * REQUESTS / PAPER[1600]
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if d2moe(rows, 1.6e9, middle).second < wanted else (low, middle)
    return (low + high) / 2


def run(
    steps: int = 6, budgets: tuple[int, ...] = (200, 400, 800, 1600), skews: tuple[float, ...] = SKEWS,
    mixes: tuple[str, ...] = tuple(MIXES),
) -> pd.DataFrame:  # fmt: skip
    """Rates and speed-ups by budget, a range over mixes and popularities; what nesting saves."""
    rate: dict[int, list[float]] = {mb: [] for mb in budgets}
    over: dict[int, list[float]] = {mb: [] for mb in budgets}
    hot, more, largest, at_many = [], [], [], []
    for mix in mixes:
        for skew in skews:
            rows = tasks(MIXES[mix], skew, steps)
            task_s = fitted_task_s(rows)
            for mb in budgets:
                ours = d2moe(rows, mb * 1e6, task_s)
                rate[mb].append(steps * REQUESTS / ours.second)
                over[mb].append(edge_moe(rows, mb * 1e6, task_s).second / ours.second)
                hot.append(ours.second <= d2moe(rows, mb * 1e6, task_s, "number").second * (1 + 1e-9))
            few = tasks(MIXES[mix], skew, steps, FEWEST)
            seen = [edge_moe(few, mb * 1e6, task_s).second / d2moe(few, mb * 1e6, task_s).second for mb in budgets]
            at_many.append(max(over[mb][-1] for mb in budgets))
            largest.append(max(*seen, at_many[-1]))
            each = [rate[mb][-1] for mb in sorted(budgets)]
            more.append(each == sorted(each))
    table: list[dict[str, Any]] = []
    for mb in budgets:
        setup = f"{mb} MB"
        if mb in PAPER:
            kind = "fitted" if mb == 1600 else "number"
            table.append(row("D2MoE", RATE, setup, PAPER[mb], float(np.mean(rate[mb])), OPEN, tag="approx", kind=kind,
                             spread=rate[mb]))  # fmt: skip
        else:
            table.append(point("D2MoE", RATE, setup, float(np.mean(rate[mb])), OPEN))
        table.append(point("D2MoE", f"{OVER} by budget", setup, float(np.mean(over[mb])), OPEN))
    gain = [b / a for a, b in zip(rate[min(budgets)], rate[max(budgets)], strict=True)]
    typical = [float(np.mean([over[mb][i] for mb in budgets])) for i in range(len(gain))]
    table += [
        row("D2MoE", "rate with 1,600 MB, speedup over 200 MB", "32 requests", PAPER[1600] / PAPER[200],
            float(np.mean(gain)), OPEN, tag="approx", null=1.0, spread=gain),
        row("D2MoE", f"{OVER}, mean over budgets", "1.06 to 1.16 published", 1.11, float(np.mean(typical)), OPEN,
            tag="approx", null=1.0, spread=typical),
        row("D2MoE", f"{OVER}, largest", "every budget, 4 and 32 requests", 1.39, float(np.mean(largest)),
            f"{MOST}; {OPEN}", tag="approx", null=1.0, spread=[*largest, *at_many]),
        order("D2MoE", "order: more memory is never slower", "every mix", all(more), OPEN),
        order("D2MoE", "order: the hottest first is never slower than by number", "every budget and mix", all(hot)),
    ]  # fmt: skip
    stored = f"what is compared is not said: one nested copy over separate ones, with a scale each; {OPEN}"
    for label, copies, paper in (("INT2 and INT4", (2, 4), 0.33), ("INT2, INT3 and INT4", (2, 3, 4), 0.53)):
        saved = 1 - (4 + SCALE) / (sum(copies) + SCALE * len(copies))
        table.append(row("D2MoE", STORED, label, paper, saved, stored, said=True))
    return frame(table)


def plot(table: pd.DataFrame) -> "Figure":
    """Rates and speed-ups by budget, and what nesting saves."""
    shown = [
        Panel(RATE, "32 requests", "tokens/s", curve=True), Panel(f"{OVER} by budget", "over whole experts", "speedup"),
        Panel(STORED, "nested over separate copies", "share of bytes"),
    ]  # fmt: skip
    return panels(table, shown, "D2MoE: experts of nested bits from a disk")
