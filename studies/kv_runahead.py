"""What does a chain of context partitions gain over tensor and sequence parallel prompts? (KV-Runahead, ICML 2024)"""

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hw_models import catalog
from hw_models.device import best_fidelity, machine
from kernels.attention import SCORE_BYTE
from kernels.machine import Machine
from kernels.optable import ATTN_PREFILL
from studies._panels import Panel, panels
from studies._steps import step_s
from studies._verdict import frame, order, point, row
from workloads import models
from workloads.models.spec import ModelSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "KV-Runahead (Cho et al. 2024): the first token of Llama-7B comes 1.4 times sooner, of Falcon-7B 1.6 times"
# Eight A100 of one node, FP16, eager PyTorch; two links: a direction of NVLink as the authors set it, and a slow one.
LINKS = {"300 GB/s": 300e9, "10 GB/s": 10e9}
FAST = "300 GB/s"
# The abstract's "over 1.4 and 1.6 times" where a summary of the text has them: GPUs, tokens (figures 8, 9; fast link)
PAPER = {"llama-2-7b": (1.42, 4, 12288), "falcon-7b": (1.63, 8, 8192)}
LENGTHS, COUNTS = (4096, 16384), (4, 8)
# Bytes of scores in memory a query-key pair and head, of modules of mid-2023 under PyTorch 2.0; which version ran is
# not said. Llama in `transformers`: a product written, scaled, masked, a softmax in 32 bits, cast back, read; until
# 4.30 it also clamped the masked scores. Falcon in `transformers` 4.33: PyTorch's own attention, whose fused kernels
# took no mask of floats, so its plain one: a product written, masked, a softmax in 16 bits, read; the publisher's own
# module passed no mask, and its scores stayed on the chip.
SCORE = {"llama-2-7b": (2 + 4 + 4 + 6 + 6 + 2, 2 + 4 + 4 + 4 + 6 + 6 + 2), "falcon-7b": (2 + 4 + 4 + 2, 0)}
FASTER, SAVED = "first token, speedup", "causal work, share of the square"
OPEN = (
    "over bytes of scores in memory by the version of the modules, which is not said; the baseline gathers K and V of "
    "all before attention of its own rows, nothing overlapped; no host time"
)
MISS = (
    "how Falcon's module kept its scores, and whether its one key and value head was spread to all 71 before they were "
    "gathered, decides: a link of 10 GB/s for it makes 1.42"
)
EVEN = "where scores stay on the chip, rows of Falcon cost nearly the same whatever they see, and even parts do as well"
SMALL = {"lengths": (1024,), "counts": (4,), "rounds": 4}


def chain(length: int, num: int) -> float:
    """Query-key pairs of an even chain over the square: the blocks on and under the diagonal, (p + 1) / 2p."""
    parts = np.full(num, length // num)
    return float((parts * parts.cumsum()).sum() / parts.sum() ** 2)


def eager(score: float) -> Machine:
    """An A100 whose prompts keep `score` bytes a query-key pair and head in memory."""
    found = catalog.system("dgx_a100", 1)
    where = machine(found, best_fidelity(found.device))
    where.fit[ATTN_PREFILL, :, SCORE_BYTE] = score
    return where


class Prompt:
    """Times of a layer's part of a prompt on one GPU of a model."""

    def __init__(self, name: str, link: float, score: float | None = None) -> None:
        self.spec: ModelSpec = models.load(name)
        part = self.spec.block[0].attention
        self.num_layer = len(self.spec.layer)
        self.byte = 2.0 * 2 * part.num_kv_head * part.head_dim  # of a token's K and V in a layer
        byte = SCORE[name][0] if score is None else score
        self.link, self.where, self.known = link, eager(byte), dict[tuple[int, int], float]()

    def layer_s(self, query: int, key: int) -> float:
        """A layer of `query` rows that see keys up to `key`, causal at the end."""
        if (query, key) not in self.known:
            self.known[query, key] = (
                step_s(self.spec, self.where, [query], [key], fmt="fp16", decode=False, sampled=0) / self.num_layer
            )
        return self.known[query, key]

    def chain_s(self, parts: list[int]) -> float:
        """The last process's end: in a layer each computes its own part once the keys before it have come, which it
        sends on with its own; sends are asynchronous, a process's link carries one after another."""
        before = np.concatenate(([0], np.cumsum(parts))).astype(int)
        ready, free = np.zeros(len(parts)), np.zeros(len(parts))  # of each process, and of its link to the next
        for _ in range(self.num_layer):
            come = 0.0
            for i, part in enumerate(parts):
                begin = max(float(ready[i]), come)
                ready[i] = begin + self.layer_s(part, int(before[i + 1]))
                # own K and V are there at the begin of attention; counted at its end they would come later
                free[i] = max(float(free[i]), begin) + before[i + 1] * self.byte / self.link
                come = float(free[i])
        return float(ready[-1])

    def gathered_s(self, length: int, num: int) -> float:
        """Tensor and sequence parallel: every process has length / p rows, keys of all gathered in each layer, and
        computes the whole rectangle as rows that see every key."""
        part = length // num
        gather = (num - 1) * part * self.byte / self.link
        return self.num_layer * (gather + self.layer_s(part, length))


def balanced(one: Prompt, length: int, num: int) -> list[int]:
    """Parts that take the same time, from three prices: a layer of c rows at the end of n keys takes about
    `fixed + row c + pair c (n - c / 2)`. The longest time is bisected until the parts hold the prompt; 64 tokens each
    at the least."""
    part = length // num
    low, high, half = one.layer_s(part, part), one.layer_s(part, length), one.layer_s(part // 2, part // 2)
    pair = max(0.0, high - low) / part / max(1, length - part)
    slope = (low - half - pair * 3 * part * part / 8) / (part / 2)
    fixed = low - slope * part - pair * part * part / 2

    def parts(time: float) -> list[int]:
        found: list[int] = []
        for _ in range(num):
            c, before = 64, sum(found)
            while c < length and fixed + slope * c + pair * c * (before + c / 2) < time:
                c += 64
            found.append(c)
        return found

    least, most = 0.0, max(low, high) * num
    for _ in range(30):
        middle = (least + most) / 2
        least, most = (middle, most) if sum(parts(middle)) < length else (least, middle)
    found = parts(most)
    found[-1] = max(64, found[-1] - (sum(found) - length))
    over = sum(found) - length
    found[0] -= over
    return found


def search(one: Prompt, length: int, num: int, rounds: int) -> tuple[list[int], float]:
    """Uneven partitions by a grid that halves: tokens move between neighbours while the first token comes sooner, from
    the better of even and of balanced parts."""
    starts = [[length // num] * num, balanced(one, length, num)]
    best, parts = min((one.chain_s(start), start) for start in starts if min(start) >= 64)
    step = max(64, length // num // 4)
    for _ in range(rounds):
        tried = []
        for i in range(num - 1):
            for sign in (step, -step):
                other = [n + sign * ((j == i) - (j == i + 1)) for j, n in enumerate(parts)]
                if min(other) >= 64:
                    tried.append((one.chain_s(other), other))
        if tried and min(tried)[0] < best:
            best, parts = min(tried)
        elif step > 64:
            step //= 2
        else:
            break
    return parts, best


def run(lengths: tuple[int, ...] = LENGTHS, counts: tuple[int, ...] = COUNTS, rounds: int = 4) -> pd.DataFrame:
    """The headline at its set-up over what the paper leaves open; first tokens by link, GPUs and length."""
    table: list[dict[str, Any]] = []
    gains: list[float] = []
    for name, (paper, num, length) in PAPER.items():
        each = []
        for score in SCORE[name]:
            one = Prompt(name, LINKS[FAST], score)
            each.append(one.gathered_s(length, num) / search(one, length, num, rounds)[1])
        note, setup = f"{MISS}; {OPEN}" if name == "falcon-7b" else OPEN, f"{FAST}, {num} GPUs, {length} tokens"
        table.append(row(name, FASTER, setup, paper, each[0], note, tag="approx", null=1.0, spread=each))
        found: dict[tuple[float, str], list[float]] = {}
        early = True
        for (label, link), score in itertools.product(LINKS.items(), SCORE[name]):
            one = Prompt(name, link, score)
            for num, length in itertools.product(counts, lengths):
                parts, best = search(one, length, num, rounds)
                gains.append(one.chain_s([length // num] * num) / best)
                early &= parts[0] >= parts[-1] or label != FAST
                value = one.gathered_s(length, num) / best
                found.setdefault((score, label), []).append(value)
                if score == SCORE[name][0]:
                    table.append(point(name, FASTER, f"{label}, {num} GPUs, {length} tokens", value, OPEN))
        faster = all(min(values) > 1 for values in found.values())
        table.append(order(name, "order: a chain beats gathered keys", "every link, module, count and length", faster))
        slow = all(np.mean(found[score, "10 GB/s"]) > np.mean(found[score, FAST]) for score in SCORE[name])
        table.append(order(name, "order: the slower the link the more a chain gains", "mean over the grid", slow, OPEN))
        first = "order: the first partition is larger than the last"
        table.append(order(name, first, f"{FAST}, every point", early, f"{EVEN}; {OPEN}"))
    table.append(order("both", "order: searched partitions never lose to even ones", "every point", min(gains) >= 1))
    some = f"up to {max(gains):.3f} times"
    table.append(order("both", "order: at some point they win", "every point", max(gains) > 1, some))
    table += [point("closed form", SAVED, f"{num} GPUs", chain(num * 256, num), "(p + 1) / 2p") for num in counts]
    return frame(table)


def plot(table: pd.DataFrame) -> "Figure":
    """Speedup by model and link over GPUs and lengths; share of the causal work."""
    shown = [Panel(FASTER, label, "speedup over gathered keys", f"{label}, ") for label in LINKS]
    return panels(table, [*shown, Panel(SAVED, "pairs of an even chain", "share of the square")],
                  "KV-Runahead: first token on A100")  # fmt: skip
