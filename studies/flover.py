"""What do requests gain that join a running batch at any iteration? (Flover, HiPC 2023, against one after another)"""

import collections
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from studies._gpt import gpt, llama
from studies._panels import Panel, panels
from studies._steps import arrays, decode_s
from studies._verdict import frame, order, row
from workloads.models.spec import ModelSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Flover (Yao et al. 2023): 32 requests of GPT-J that come every 500 ms end in 21.2 s, 10.9 times sooner"
SMALL = {"counts": (1, 32), "seeds": 20}
GAP_S, PROMPT, OUTPUT, POISSON_OUTPUT = 0.5, 8, 504, 512
COUNTS = (1, 2, 4, 8, 16, 32)
# total seconds by number of requests, and the speedup at 32 over FasterTransformer's one after another; devices
TOTAL: dict[str, tuple[int, tuple[float, ...], float]] = {
    "GPT-J 6B": (1, (5.6, 6.1, 7.1, 9.2, 13.2, 21.2), 10.9),
    "Llama 65B": (4, (10.8, 11.4, 12.5, 14.4, 18.7, 27.2), 16.7),
}
# mean gap in ms: iterations of 32 requests that come by chance, and requests in one in the mean
ITERATION = {
    20: (557, 29.2),
    100: (748, 21.5),
    200: (911, 19.3),
    500: (1537, 9.9),
    1000: (2621, 6.4),
    3000: (7738, 2.1),
}
GPU = "dgx_a100"
OTHER = {"GPT-J 6B": "dgx_a100_40gb", "Llama 65B": "dgx_h100"}  # what it may have been as well: it is not published
ALONE_S = 5.8  # of one request of 512 iterations, as stated beside the table of chance
SECONDS, FASTER, COUNT, WIDE = "seconds in all", "speedup at 32 requests", "iterations", "requests in an iteration"
OVER = (
    "one after another: every request's own time, which is FasterTransformer's here; the paper's takes 7.2 s a request "
    "of GPT-J where one alone takes 5.6"
)
NOTE = "FP16, prompts of 8 and 504 tokens out; no host time; the gap of 500 ms is read from the published totals"
MACHINE = (
    "GPUs and FasterTransformer's kernels are not published: A100 80 GB, and A100 40 GB (GPT-J) or H100 (65B, which "
    "four A100 of 40 GB do not hold) as the other end; published iterations read GPT-J's weights at 1.1 TB/s and 65B's "
    "at 1.5, which no one kind of A100 gives both"
)
CHANCE = (
    "gaps by chance, mean of many draws beside the paper's one; a request alone takes the 5.8 s that the paper states"
)


@functools.cache
def card(name: str) -> ModelSpec:
    """GPT-J 6B, and the first Llama of 65B."""
    if name == "GPT-J 6B":
        return gpt("gpt-j", 4096, 28, 16, vocab=50400)
    return llama("llama-65b", 8192, 80, 64, 64, 22016, 32000)


@functools.cache
def iteration_s(name: str, batch: int, system: str = GPU) -> float:
    """Seconds of a step of so many requests, half of their output done."""
    num = TOTAL[name][0]
    return decode_s(card(name), arrays(system, num), batch, PROMPT + OUTPUT // 2, fmt="fp16", tp=num)


class Run(NamedTuple):
    second: float
    iteration: int
    mean_width: float


def serve(name: str, arrival_s: Sequence[float], output: int, scale: float = 1.0, system: str = GPU) -> Run:
    """Iterations one after another over the requests that have come and are not done; idle time is no iteration.
    Outputs are equal, so that requests end in their order. `scale`: of an iteration's time."""
    ends: collections.deque[int] = collections.deque()  # number of the iteration after which a request is done
    now, come, count, done = 0.0, 0, 0, 0
    while come < len(arrival_s) or ends:
        while come < len(arrival_s) and arrival_s[come] <= now:
            ends.append(count + output)
            come += 1
        if not ends:
            now = arrival_s[come]
            continue
        now += scale * iteration_s(name, len(ends), system)
        count, done = count + 1, done + len(ends)
        while ends and ends[0] <= count:
            ends.popleft()
    return Run(now, count, done / count)


def every(count: int) -> list[float]:
    """Arrivals at the fixed gap."""
    return [GAP_S * n for n in range(count)]


def run(counts: tuple[int, ...] = COUNTS, seeds: int = 100) -> pd.DataFrame:
    """Totals at a fixed gap, the speedup over one after another, and iterations of arrivals by chance."""
    rows: list[dict[str, Any]] = []
    for name, (num, total, faster) in TOTAL.items():
        setup = f"{name}, {num} GPU{'s' * (num > 1)}"
        machines = (GPU, OTHER[name])
        for count in counts:
            each = [serve(name, every(count), OUTPUT, system=one).second for one in machines]
            rows.append(row("Flover", SECONDS, f"{setup}, {count} requests", total[COUNTS.index(count)], each[0],
                            f"{MACHINE}; {NOTE}", tag="approx", spread=each))  # fmt: skip
        one_s, all_s = ([serve(name, every(count), OUTPUT, system=one).second for one in machines] for count in (1, 32))
        gain = [32 * a / b for a, b in zip(one_s, all_s, strict=True)]
        rows.append(row("Flover", FASTER, setup, faster, gain[0], f"{OVER}; {MACHINE}; {NOTE}", tag="approx", null=1.0,
                        spread=gain))  # fmt: skip
    scale = ALONE_S / POISSON_OUTPUT / iteration_s("GPT-J 6B", 1)
    for gap, (iterations, width) in ITERATION.items():
        draws = [
            serve(
                "GPT-J 6B",
                np.random.default_rng(seed).exponential(gap * 1e-3, 32).cumsum().tolist(),
                POISSON_OUTPUT,
                scale,
            )
            for seed in range(seeds)
        ]
        value = [one.iteration for one in draws]
        note = f"draws of {min(value)} to {max(value)}; {CHANCE}; {NOTE}"
        setup = f"32 requests of 512, mean gap {gap} ms"
        rows.append(row("Flover", COUNT, setup, iterations, float(np.mean(value)), note, tag="approx"))
        mean = float(np.mean([one.mean_width for one in draws]))
        rows.append(row("Flover", WIDE, setup, width, mean, note, tag="approx"))
        inside = min(value) <= iterations <= max(value)
        rows.append(order("Flover", "order: the paper's draw is among ours", setup, inside, note))
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Seconds by number of requests, a panel a model; iterations and requests in one by mean gap."""
    shown = [
        Panel(SECONDS, name, "seconds in all", f"{name}, {num} GPU{'s' * (num > 1)}, ")
        for name, (num, *_) in TOTAL.items()
    ]
    shown += [
        Panel(claim, "arrivals by chance, GPT-J", claim, "32 requests of 512, mean gap ") for claim in (COUNT, WIDE)
    ]
    return panels(table, shown, "Flover: requests that join a running batch")
