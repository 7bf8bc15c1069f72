"""Do prompts in chunks beside decodes take the bubbles out of a pipeline? (SARATHI, Agrawal et al., 2023, GPT-3)"""

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hw_models import catalog
from studies._panels import Panel, panels
from studies._steps import arrays, step_s
from studies._verdict import frame, order, point, row
from workloads import models

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "SARATHI (Agrawal et al. 2023): 6.29 times less bubble a request, GPT-3 1.91 times sooner on 64 A100"
STAGES, TP, SLOTS, CHUNK, RATIO = 8, 8, 27, 256, 10  # TP 8 x PP 8, sequences a microbatch, P:D
LOW, HIGH, THETA = 1024, 4096, 0.4  # tokens of a request, Zipf
BUBBLE, SOONER, IDLE = "median bubble of a request, times less", "end to end, speedup", "median bubble of a request, s"
OPEN = (
    "bubble: a stage's idle time between two microbatches, added over stages and over a request's iterations; ranks of "
    "the Zipf law by length; head on the last stage, hops through a port a device, no host time; steps of decodes "
    "priced at their mean length; over how many whole prompts an iteration of Orca takes (one, or all that wait) and "
    "over requests at once (the paper has 10,000: both ratios still grow, to 29 and 2.6 times with 2,500); tried "
    "besides: other seeds (20 to 29) and the mean instead of the median (10 to 21); chunks of one size leave nearly "
    "nothing here, and how large the paper's bubble is in seconds is not published"
)
SMALL = {"requests": (250,)}


@functools.cache
def stage_s(prefill: int, seen: int, decodes: int, mean_kv: int, prompts: int = 1) -> tuple[float, float, float]:
    """Seconds of a stage that computes `prefill` tokens of each of `prompts`, of the head that the last one has
    besides, and of the hop to the next stage, by sizes rounded to a grid by the caller. Every device sends its
    activations through a port of its own."""
    query = [prefill] * prompts * (prefill > 0) + [1] * decodes
    keys = [seen] * prompts * (prefill > 0) + [mean_kv] * decodes
    where = arrays("dgx_a100", TP)
    spec = models.load("gpt3-175b")
    body, whole = (
        step_s(spec, where, query, keys, fmt="fp16", tp=TP, decode=not prefill, sampled=num) for num in (0, 1)
    )
    nic = catalog.system("dgx_a100", TP).node.nic
    assert nic is not None
    return body / STAGES, whole - body, nic.latency_s + 2.0 * sum(query) * spec.hidden / nic.byte_per_s


def lengths(num: int, seed: int) -> np.ndarray:
    """Tokens of requests by the Zipf law over the lengths."""
    size = np.arange(LOW, HIGH + 1)
    weight = 1.0 / (size - LOW + 1.0) ** THETA
    return np.random.default_rng(seed).choice(size, num, p=weight / weight.sum())


def replay(total: np.ndarray, chunk: int, at_once: int = 1) -> tuple[float, np.ndarray]:
    """Seconds in all and each request's bubble. A microbatch a stage takes turns; each iteration of it holds its
    decodes and a prompt, a chunk that fills the step or whole (`chunk` 0: up to `at_once` of these, priced at their
    mean length). Requests wait in one queue."""
    prompt = np.maximum(1, total * RATIO // (RATIO + 1))
    queue = list(range(len(total) - 1, -1, -1))
    slots: list[list[list[int]]] = [[] for _ in range(STAGES)]  # of each microbatch: request, prompt left, output left
    free, back = np.zeros(STAGES), np.zeros(STAGES)  # each stage free, each microbatch back from the last one
    bubble, active = np.zeros(len(total)), True
    while active:
        active = False
        for batch, running in enumerate(slots):
            while queue and len(running) < SLOTS:
                one = queue.pop()
                running.append([one, int(prompt[one]), int(total[one] - prompt[one])])
            if not running:
                continue
            active = True
            decoding = [r for r in running if r[1] == 0]
            filling = [r for r in running if r[1] > 0][: 1 if chunk else at_once]
            left = sum(r[1] for r in filling) // max(1, len(filling))
            part = min(left, max(1, chunk - len(decoding))) if chunk else left
            seen = int(prompt[filling[0][0]]) - left + part if chunk and filling else part
            kv = int(np.mean([total[r[0]] - r[2] for r in decoding])) if decoding else 1
            size = part if chunk and part == chunk - len(decoding) else -(-part // 64) * 64
            keys, grid = max(size, -(-seen // 256) * 256), -(-kv // 512) * 512
            time, head, hop = stage_s(size, keys, len(decoding), grid, max(1, len(filling)))
            idle, ready = 0.0, float(back[batch])
            for stage in range(STAGES):
                begin = max(ready, float(free[stage]))
                idle += begin - float(free[stage]) if free[stage] else 0.0
                last = stage == STAGES - 1
                free[stage] = begin + time + (head if last else 0.0)
                ready = float(free[stage]) + (0.0 if last else hop)  # a token's way back is a few bytes
            back[batch] = ready
            for r in decoding + filling:
                bubble[r[0]] += idle
            for r in decoding:
                r[2] -= 1
            for r in filling:
                r[1] -= part if chunk else r[1]
            slots[batch] = [r for r in running if r[1] > 0 or r[2] > 0]
    return float(free.max()), bubble


def run(requests: tuple[int, ...] = (400, 1000), seed: int = 0) -> pd.DataFrame:
    """Bubbles and the whole under Orca and with chunks, and their ratios, over what the paper leaves open."""
    less, sooner = [], []
    table: list[dict[str, Any]] = []
    setup = "GPT-3, TP 8 x PP 8, P:D 10"
    for num in requests:
        total = lengths(num, seed)
        chunks = replay(total, CHUNK)
        for at_once in (1, SLOTS):
            orca = replay(total, 0, at_once)
            medians = [float(np.median(one[1])) for one in (orca, chunks)]
            less.append(medians[0] / medians[1])
            sooner.append(orca[0] / chunks[0])
            if len(less) == 1:
                table += [point(n, IDLE, setup, v, OPEN) for n, v in zip(("Orca", "SARATHI"), medians, strict=True)]
    table += [
        row("SARATHI", BUBBLE, setup, 6.29, less[0], OPEN, null=1.0, spread=less),
        row("SARATHI", SOONER, setup, 1.91, sooner[0], OPEN, null=1.0, spread=sooner),
        order("SARATHI", "order: chunks leave less bubble", setup, min(less) > 1, OPEN),
    ]
    return frame(table)


def plot(table: pd.DataFrame) -> "Figure":
    """Bubbles of both, and the ratios."""
    shown = [Panel(IDLE, "bubble", "seconds"), Panel(BUBBLE, "bubble", "times less"), Panel(SOONER, "whole", "speedup")]
    return panels(table, shown, "SARATHI: GPT-3 on 64 A100")
