"""Do prompts in chunks beside decodes take the bubbles out of a pipeline? (SARATHI, Agrawal et al., 2023, GPT-3)"""

import functools
from typing import TYPE_CHECKING

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
REPLICAS, REPLICA_SLOTS = 8, 11  # tensor parallel alone
LOW, HIGH, THETA = 1024, 4096, 0.4  # tokens of a request, Zipf
BUBBLE, IDLE = "median bubble of a request, times less", "median bubble of a request, s"
WHOLE = "all requests, speedup over {}"
OPEN = (
    "bubble: a stage's idle time between two microbatches, added over stages and over a request's iterations; ranks of "
    "the Zipf law by length; head on the last stage, hops through a port a device, no host time; steps of decodes "
    "priced at their mean length; Orca at its best, a whole prompt an iteration; the seed is ours"
)
MISS = (
    "chunks are about as far ahead of replicas as published; it is Orca's pipeline that the authors' simulator, of "
    "which no step is published in seconds, fills better: here a prompt holds up the decodes of seven microbatches "
    "over eight stages; tried: fewer requests (400: 20 and 1.7 times), all waiting prompts in an iteration (26 and "
    "2.4 with 1,000), the mean of bubbles (23)"
)
SMALL = {"requests": 250}


@functools.cache
def stage_s(prefill: int, seen: int, decodes: int, mean_kv: int, stages: int) -> tuple[float, float, float]:
    """Seconds of one of `stages` that computes `prefill` tokens of a prompt, of the head that the last one has besides,
    and of the hop to the next stage, by sizes rounded to a grid by the caller. Every device sends its activations
    through a port of its own."""
    query = [prefill] * (prefill > 0) + [1] * decodes
    keys = [seen] * (prefill > 0) + [mean_kv] * decodes
    where = arrays("dgx_a100", TP)
    spec = models.load("gpt3-175b")
    body, whole = (
        step_s(spec, where, query, keys, fmt="fp16", tp=TP, decode=not prefill, sampled=num) for num in (0, 1)
    )
    nic = catalog.system("dgx_a100", TP).node.nic
    assert nic is not None
    return body / stages, whole - body, nic.latency_s + 2.0 * sum(query) * spec.hidden / nic.byte_per_s


def lengths(num: int, seed: int) -> np.ndarray:
    """Tokens of requests by the Zipf law over the lengths."""
    size = np.arange(LOW, HIGH + 1)
    weight = 1.0 / (size - LOW + 1.0) ** THETA
    return np.random.default_rng(seed).choice(size, num, p=weight / weight.sum())


def replay(total: np.ndarray, chunk: int, stages: int = STAGES, most: int = SLOTS) -> tuple[float, np.ndarray]:
    """Seconds in all and each request's bubble. A microbatch a stage, of `most` sequences, takes turns; each iteration
    of it holds its decodes and a prompt, a chunk that fills the step or whole (`chunk` 0). Requests wait in one queue.
    """
    prompt = np.maximum(1, total * RATIO // (RATIO + 1))
    queue = list(range(len(total) - 1, -1, -1))
    slots: list[list[list[int]]] = [[] for _ in range(stages)]  # of each microbatch: request, prompt left, output left
    free, back = np.zeros(stages), np.zeros(stages)  # each stage free, each microbatch back from the last one
    bubble, active = np.zeros(len(total)), True
    while active:
        active = False
        for batch, running in enumerate(slots):
            while queue and len(running) < most:
                one = queue.pop()
                running.append([one, int(prompt[one]), int(total[one] - prompt[one])])
            if not running:
                continue
            active = True
            decoding = [r for r in running if r[1] == 0]
            filling = [r for r in running if r[1] > 0][:1]
            left = sum(r[1] for r in filling)
            part = min(left, max(1, chunk - len(decoding))) if chunk else left
            seen = int(prompt[filling[0][0]]) - left + part if chunk and filling else part
            kv = int(np.mean([total[r[0]] - r[2] for r in decoding])) if decoding else 1
            size = part if chunk and part == chunk - len(decoding) else -(-part // 64) * 64
            keys, grid = max(size, -(-seen // 256) * 256), -(-kv // 512) * 512
            time, head, hop = stage_s(size, keys, len(decoding), grid, stages)
            idle, ready = 0.0, float(back[batch])
            for stage in range(stages):
                begin = max(ready, float(free[stage]))
                idle += begin - float(free[stage]) if free[stage] else 0.0
                last = stage == stages - 1
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


def run(requests: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """Bubbles and the whole under Orca and with chunks, and replicas without a pipeline beside both."""
    total, setup = lengths(requests, seed), f"GPT-3, 64 A100, P:D 10, {requests} requests"
    (orca_s, orca), (chunk_s, chunks) = replay(total, 0), replay(total, CHUNK)
    replica_s = max(replay(total[i::REPLICAS], 0, 1, REPLICA_SLOTS)[0] for i in range(REPLICAS))
    idle = [float(np.median(one)) for one in (orca, chunks)]
    note = f"{MISS}; {OPEN}"
    return frame(
        [point(name, IDLE, setup, value, OPEN) for name, value in zip(("Orca", "SARATHI"), idle, strict=True)]
        + [
            row("SARATHI", BUBBLE, setup, 6.29, idle[0] / idle[1], note, null=1.0),
            row("SARATHI", WHOLE.format("Orca"), setup, 1.91, orca_s / chunk_s, note, null=1.0),
            row("SARATHI", WHOLE.format("replicas"), setup, 1.48, replica_s / chunk_s, note, null=1.0),
            row("replicas", WHOLE.format("Orca"), setup, 1.28, orca_s / replica_s, note, null=1.0),
            order("SARATHI", "order: chunks leave less bubble", setup, idle[0] > idle[1], OPEN),
            order("SARATHI", "order: chunks, replicas, Orca's pipeline", setup, chunk_s < replica_s < orca_s, OPEN),
        ]
    )


def plot(table: pd.DataFrame) -> "Figure":
    """Bubbles of both, and the ratios."""
    shown = [
        Panel(IDLE, "bubble", "seconds"),
        Panel(BUBBLE, "bubble", "times less"),
        Panel(WHOLE.format("Orca"), "whole", "speedup"),
    ]
    return panels(table, shown, "SARATHI: GPT-3 on 64 A100")
