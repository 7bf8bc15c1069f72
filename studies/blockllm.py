"""What do applications gain that share the blocks of one model, queue by queue? (BlockLLM, 2024)"""

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from sim.cluster.block_graph import Block, Request, walk
from studies._panels import Panel, panels
from studies._steps import arrays, decode_s, step_s
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "BlockLLM (Hu et al. 2024): the 95th percentile of latency 33.5 % lower, GPUs 20.1 % better used"
MODEL, SYSTEM, KV_LEN, MAX_BATCH = "llama-2-7b", "dgx_a100", 512, 64
APPS, PARTS, HOP_S = 4, 4, 10e-6  # applications and devices; blocks of a model; a hidden state over NVLink
SHARED = (0, 2, 3, 4)  # blocks of a model that are the base's in every application
SKEWS = (0.0, 1.0, 2.0)  # power law of the applications' popularity
LATENCY, BUSY, BATCH, SAVED = (
    "latency, 95th percentile, s",
    "mean busy share of GPUs",
    "mean batch of a block",
    "weights, share of separate models",
)
OPEN = (
    "models, GPUs, sharing and load are not published: four applications of Llama-2-7B on four A100, four blocks each, "
    "Poisson arrivals, prompts of 512 and answers of 64 on average; separate models have a GPU each; blocks that are "
    "not shared lie on their application's GPU; a block's step is a quarter of the model's; no surrogates, no host time"
)
LESS = (
    "what is counted as use is not said: as busy time it falls here, for the same load in larger batches is less work;"
)
SMALL = {"requests": 60, "skews": (0.0, 2.0), "shared": (0, 4)}


class Load(NamedTuple):
    """Requests a second in all, and their number."""

    rate: float
    num: int


@functools.cache
def seconds(prompt: int, decodes: int) -> float:
    """Seconds of a model's step: prompts, rounded to 64 tokens, then decodes, to a power of two."""
    where = arrays(SYSTEM, 1)
    took = 0.0
    if prompt:
        took += step_s(MODEL, where, [prompt], [prompt], fmt="fp16", decode=False)
    if decodes:
        took += decode_s(MODEL, where, decodes, KV_LEN, fmt="fp16")
    return took


def part_s(prompt: int, decodes: int) -> float:
    """Seconds of one of its blocks."""
    return seconds(-(-prompt // 64) * 64, 1 << (decodes - 1).bit_length() if decodes else 0) / PARTS


def layout(shared: int) -> tuple[list[Block], list[list[int]]]:
    """Blocks and chains where the first `shared` of each model's blocks are one for all, block k on device k."""
    blocks = [Block(k, MAX_BATCH, part_s) for k in range(shared)]
    chains = []
    for app in range(APPS):
        own = range(len(blocks), len(blocks) + PARTS - shared)
        blocks += [Block(app, MAX_BATCH, part_s) for _ in own]
        chains.append([*range(shared), *own])
    return blocks, chains


def requests_of(load: Load, skew: float, seed: int) -> list[Request]:
    """Poisson arrivals, applications by a power law, exponential lengths."""
    random = np.random.default_rng(seed)
    arrival = np.cumsum(random.exponential(1 / load.rate, load.num))
    odds = np.arange(1, APPS + 1.0) ** -skew
    app = random.choice(APPS, load.num, p=odds / odds.sum())
    prompt = 1 + random.exponential(511, load.num).astype(int)
    output = 1 + random.exponential(63, load.num).astype(int)
    return [Request(float(a), int(b), int(c), int(d)) for a, b, c, d in zip(arrival, app, prompt, output, strict=True)]


def served(shared: int, load: Load, skew: float, seed: int) -> tuple[float, float, float]:
    """95th percentile of latency, mean busy share, mean batch."""
    requests = requests_of(load, skew, seed)
    done = walk(*layout(shared), requests, hop_s=HOP_S)
    latency = done.end_s - np.array([one.arrival_s for one in requests])
    busy = float(done.busy_s.mean() / done.end_s.max())
    return float(np.percentile(latency, 95)), busy, float(done.num_visit.sum() / done.num_batch.sum())


def run(
    requests: int = 300, rate: float = 12.0, skews: tuple[float, ...] = SKEWS, shared: tuple[int, ...] = SHARED,
    seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Latency, use and batches by how much is shared, against a model a GPU; a range over popularities."""
    table: list[dict[str, Any]] = []
    lower, used = [], []
    load = Load(rate, requests)
    for skew in skews:
        plain = served(0, load, skew, seed)
        for num in shared:
            found = served(num, load, skew, seed)
            label = f"popularity {skew:g}, {num} of {PARTS} shared"
            for claim, value in zip((LATENCY, BUSY, BATCH), found, strict=True):
                table.append(point(f"popularity {skew:g}", claim, f"{num} of {PARTS} shared", value, OPEN))
            if num == max(shared):
                lower.append(1 - found[0] / plain[0])
                used.append(found[1] / plain[1] - 1)
                table.append(order("BlockLLM", "order: larger batches than separate models", label, found[2] > plain[2],
                                   OPEN))  # fmt: skip
    skewed = int(np.argmax(skews))
    table += [
        row("BlockLLM", "latency, 95th percentile, lower by", "all shared", 0.335, float(np.median(lower)), OPEN,
            said=True, spread=lower),
        row("BlockLLM", "GPUs busier by", "all shared", 0.201, float(np.median(used)), f"{LESS} {OPEN}", said=True,
            spread=used),
        order("BlockLLM", "order: a lower 95th percentile where popularity is the most uneven", f"{max(skews):g}",
              lower[skewed] > 0, OPEN),
    ]  # fmt: skip
    for num in shared:
        held = num + APPS * (PARTS - num)
        table.append(point("BlockLLM", SAVED, f"{num} of {PARTS} shared", held / (APPS * PARTS), "blocks of one size"))
    return frame(table)


def plot(table: pd.DataFrame) -> "Figure":
    """Latency, use, batches and weights by how much is shared."""
    shown = [
        Panel(LATENCY, "four applications, four A100", "seconds"), Panel(BUSY, "use", "busy share"),
        Panel(BATCH, "batches", "requests a batch"), Panel(SAVED, "weights", "share"),
    ]  # fmt: skip
    return panels(table, shown, "BlockLLM: a model as a graph of queues")
