"""How much of the memory for keys and values holds any, and what is that worth? (PagedAttention, SOSP 2023)"""

import functools
import heapq
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from kernels.units import PS_PER_S
from sim.run.scenario import Scenario
from sim.run.setup import prepare
from sim.run.simulate import simulate
from sim.serving import engine_profile
from studies._panels import Panel, panels
from studies._steps import arrays, decode_s, step_s
from studies._verdict import frame, order, row
from workloads.models import load as card
from workloads.requests import build

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "PagedAttention (Kwon et al. 2023): 96.3 % of the KV memory holds tokens, 20.4 to 38.2 % where it is reserved"
SMALL = {"requests": 800, "models": ("opt-13b",), "trace": 800}
MOST, BLOCK = 2048, 16  # tokens of a context at most; of a block
# shares of the memory: tokens, slots that this request will still fill, slots it never will, outside of any request
SPLIT: dict[str, tuple[float, float, float, float]] = {
    "Orca, reserve max": (0.204, 0.133, 0.573, 0.089), "Orca, power of two": (0.268, 0.179, 0.136, 0.416),
    "Orca, oracle": (0.382, 0.252, 0.0, 0.366), "vLLM": (0.963, 0.0, 0.0, 0.0),
}  # fmt: skip
KINDS = ("tokens", "reserved", "never used", "outside")
MAX, POW2, ORACLE, VLLM = SPLIT
# ShareGPT: the paper's mean lengths; the spread of outputs such that reserve-max holds as much for later as published:
# what is to come in the mean is half of the size-biased output
PROMPT, OUTPUT = 161.31, 337.99
OUTPUT_CV = math.sqrt(2 * 299.0 / OUTPUT - 1)  # 0.133 / 0.911 x 2,048 = 299 tokens are still to come in the mean
PROMPT_CV = 1.3  # assumed; from 0.5 to 2 it moves no share by more than 0.03
# system, tensor parallel, tokens whose keys and values have room (the paper's table of its servers)
MODELS = {
    "opt-13b": ("a100_sxm_40gb", 1, 15_700),
    "opt-66b": ("dgx_a100_40gb", 4, 9_700),
    "opt-175b": ("dgx_a100", 8, 60_100),
}
BATCH = {MAX: 7.00, ORACLE: 13.62, VLLM: 30.42}  # requests at once, OPT-13B, 2 requests a second
LOAD, HOSTS = 2.0, ("vllm_0.2_a100", "vllm_2023_a100")
SAVED = {2: 0.162, 6: 0.305}  # of the blocks, by samples of one prompt: the least and the most of the figure
RATE = {ORACLE: (1.7, 2.7), MAX: (2.7, 8.0)}  # request rate of vLLM over theirs: least and most of the three models
SHARE, WIDTH, FASTER = "share of the KV memory", "requests at once", "request rate, vLLM over it"
SPARED = "share of blocks spared"
NOTE = (
    "ShareGPT as log-normal lengths of the published means, the spread of outputs fitted on what reserve-max holds for "
    "later; slots of the paper's table of servers; a full queue, first come first served; Orca in a buddy allocator of "
    "powers of two"
)
AT_ONCE = (
    "an hour of 2 requests a second, of which Orca's queue is full; vLLM's host decides and is not published: that of "
    "vLLM 0.2 as measured on one A100, or of 2023 on another, with which it is overloaded (23 at once without any)"
)
RATES = "saturated, without host time and with that of vLLM 0.2 for all"
PROMPTS = "the published two are of prompts that fill 32 and 37 % of all blocks, so not of one mix of lengths"
FAR = "beyond requests at once, over which a rate cannot rise: latencies that are kept alike weigh more on four places"
Ints = npt.NDArray[np.int64]


class Pool(NamedTuple):
    """Means over time: shares of the memory by kind, and requests at once."""

    share: tuple[float, float, float, float]
    running: float


class Buddy:
    """Memory of `slots` tokens in powers of two."""

    def __init__(self, slots: int) -> None:
        self.free: dict[int, list[int]] = {1 << n: [] for n in range(slots.bit_length())}
        at = 0
        for size in sorted(self.free, reverse=True):
            if slots - at >= size:
                self.free[size].append(at)
                at += size

    def take(self, size: int) -> int:
        """Where a block of this power of two begins, or -1."""
        for larger in sorted(part for part, places in self.free.items() if part >= size and places):
            at = self.free[larger].pop()
            while larger > size:
                larger //= 2
                self.free[larger].append(at + larger)
            return at
        return -1

    def give(self, at: int, size: int) -> None:
        """Frees a block and joins it with its neighbour as long as that is free."""
        while at ^ size in self.free.get(size, ()) and size * 2 in self.free:
            self.free[size].remove(at ^ size)
            at, size = min(at, at ^ size), size * 2
        self.free[size].append(at)


def lengths(count: int, seed: int = 0) -> tuple[Ints, Ints]:
    """Prompts and outputs, together at most `MOST`."""
    rng = np.random.default_rng(seed)
    out = []
    for mean, cv in ((PROMPT, PROMPT_CV), (OUTPUT, OUTPUT_CV)):
        sigma = math.sqrt(math.log(1 + cv * cv))
        out.append(np.exp(rng.normal(math.log(mean) - sigma**2 / 2, sigma, count)))
    prompt = np.clip(out[0].astype(np.int64), 4, MOST // 2)
    return prompt, np.clip(out[1].astype(np.int64), 4, MOST - prompt)


def reserved(name: str, slots: int, prompt: Ints, output: Ints) -> Pool:
    """Orca: a contiguous piece for all of a request before it starts; time in iterations."""
    held = {MAX: np.full(len(prompt), MOST), ORACLE: prompt + output,
            POW2: np.minimum(prompt + 2 ** np.ceil(np.log2(output)).astype(np.int64), MOST)}[name]  # fmt: skip
    memory, now = Buddy(slots), 0
    ends: list[tuple[int, int, int]] = []  # when, where and how large what will be free
    start = np.zeros(len(prompt), np.int64)
    for k, (o, h) in enumerate(zip(output.tolist(), held.tolist(), strict=True)):
        size = 1 << (h - 1).bit_length()
        while (at := memory.take(size)) < 0:
            now, place, part = heapq.heappop(ends)
            memory.give(place, part)
        start[k] = now
        heapq.heappush(ends, (now + o, at, size))
    # until the last one starts: the queue is never empty
    passed = np.minimum(output, now - start)
    filled = passed * (passed + 1) / 2
    sums = (passed * prompt + filled, passed * output - filled, passed * (held - prompt - output))
    shares = tuple(float(one.sum()) / (slots * now) for one in sums)
    return Pool((shares[0], shares[1], shares[2], 1 - sum(shares)), float(passed.sum()) / now)


def paged(slots: int, prompt: Ints, output: Ints) -> Pool:
    """vLLM: blocks as tokens come; the latest request starts anew where none is left (recomputed)."""
    free, at, steps = slots // BLOCK, 0, 0
    running: list[list[int]] = []  # [tokens, tokens at its end, blocks]
    queue = [[p, p + o] for p, o in zip(prompt.tolist(), output.tolist(), strict=True)]
    token = width = 0.0
    while at < len(queue):
        while at < len(queue) and free >= (blocks := -(-(queue[at][0] + 1) // BLOCK)) + slots // BLOCK // 100:
            running.append([queue[at][0], queue[at][1], blocks])
            free, at = free - blocks, at + 1
        k = 0
        while k < len(running):
            one = running[k]
            if one[0] + 1 > one[2] * BLOCK:
                while free == 0 and len(running) > 1:
                    last = running.pop()
                    free, at = free + last[2], at - 1
                    queue[at] = last[:2]
                if k >= len(running):
                    break
                free, one[2] = free - 1, one[2] + 1
            one[0] += 1
            k += 1
        token += sum(one[0] for one in running)
        width += len(running)
        steps += 1
        for one in [one for one in running if one[0] >= one[1]]:
            free += one[2]
            running.remove(one)
    share = token / steps / slots
    return Pool((share, 0.0, 0.0, 1 - share), width / steps)


def pools(model: str, requests: int) -> dict[str, Pool]:
    """Every policy's pool on the memory that a model leaves."""
    slots = MODELS[model][2]
    prompt, output = lengths(requests)
    found = {name: reserved(name, slots, prompt, output) for name in (MAX, POW2, ORACLE)}
    return {**found, VLLM: paged(slots, prompt, output)}


def spared(samples: int, requests: int) -> float:
    """Share of the blocks that samples of one prompt do not need, as they hold its whole blocks together: over the
    time that they run."""
    prompt, output = lengths(requests)

    def sum_block(token: Ints) -> Ints:  # of contexts of 1 to `token` tokens
        whole, rest = token // BLOCK, token % BLOCK
        return BLOCK * whole * (whole + 1) // 2 + rest * (whole + 1)

    alone = samples * (sum_block(prompt + output) - sum_block(prompt)).sum()
    return float((samples - 1) * (output * (prompt // BLOCK)).sum() / alone)


@functools.cache
def at_once(requests: int, host: str) -> float:
    """Requests that vLLM runs at once in the mean, at the published load."""
    prompt, output = lengths(requests)
    arrival = np.cumsum(np.random.default_rng(0).exponential(PS_PER_S / LOAD, requests)).astype(np.int64)
    system, tp, slots = MODELS["opt-13b"]
    low, high = 0.7, 1.0
    for _ in range(16):
        share = (low + high) / 2
        scenario = Scenario(model="opt-13b", system=system, tp=tp, weight_format="fp16", engine=host,
                            max_model_len=MOST, policy="vllm_v0:max_token=2560", memory_share=share)  # fmt: skip
        low, high = (low, share) if prepare(scenario).num_block * BLOCK > slots else (share, high)
    found = simulate(scenario, requests=build(arrival, prompt, output)).run.requests
    ran = (found["finish_s"] - found["scheduled_s"]).sum()
    return float(ran / (found["finish_s"].max() - found["arrival_s"].min()))


def rate(model: str, running: float, host: bool) -> float:
    """Requests a second: a prompt each, and its tokens in iterations of so many; `host`: kernels wait for it where it
    launches a layer more slowly, and each sequence takes a moment of it."""
    system, tp, _ = MODELS[model]
    where, context, batch = arrays(system, tp), int(PROMPT + OUTPUT * (1 + OUTPUT_CV**2) / 2), max(1, round(running))
    prompt_s = step_s(model, where, [int(PROMPT)], [int(PROMPT)], fmt="fp16", tp=tp, decode=False)
    token_s = decode_s(model, where, batch, context, fmt="fp16", tp=tp)
    if host:
        one = engine_profile.load(HOSTS[0])
        launch_s = card(model).num_layer * one.dispatch_layer_s
        prompt_s, token_s = max(prompt_s, launch_s), max(token_s, launch_s) + batch * one.seq_s
    return 1 / (prompt_s + OUTPUT / running * token_s)


def run(requests: int = 2000, models: tuple[str, ...] = tuple(MODELS), trace: int = 7200) -> pd.DataFrame:
    """What the memory holds under four policies, requests at once, and rates over three models."""
    rows: list[dict[str, Any]] = []
    found = {model: pools(model, requests) for model in models}
    first = found["opt-13b"]
    for name, shares in SPLIT.items():
        for kind, published, share in zip(KINDS, shares, first[name].share, strict=True):
            if published:
                fitted = name == MAX and kind == "reserved"
                rows.append(row(name, SHARE, f"OPT-13B, ShareGPT, {kind}", published, share, NOTE,
                                kind="fitted" if fitted else "number"))  # fmt: skip
    own = [at_once(trace, host) for host in HOSTS]
    for name, published in BATCH.items():
        wide = own if name == VLLM else [first[name].running]
        rows.append(row(name, WIDTH, "OPT-13B, ShareGPT", published, wide[0], f"{AT_ONCE}; {NOTE}",
                        spread=wide[: len(wide) if name == VLLM else 0]))  # fmt: skip
    for samples, published in SAVED.items():
        rows.append(row("vLLM", SPARED, f"OPT-13B, ShareGPT, {samples} samples of a prompt", published,
                        spared(samples, requests), f"{PROMPTS}; {NOTE}"))  # fmt: skip
    for name, ends in RATE.items() if len(models) == len(MODELS) else ():
        gain = {
            host: {
                m: rate(m, pool[VLLM].running, host) / rate(m, pool[name].running, host) for m, pool in found.items()
            }
            for host in (False, True)
        }
        each = ", ".join(f"{m} {one:.2f}" for m, one in gain[False].items())
        note = f"{each}; {RATES}; {FAR if name == MAX else ''}{'; ' * (name == MAX)}{NOTE}"
        for word, published, pick in (("least", ends[0], min), ("most", ends[1], max)):
            spread = [pick(one.values()) for one in gain.values()]
            rows.append(row(name, FASTER, f"{word} of three models", published, spread[0], note, tag="approx", null=1.0,
                            spread=spread))  # fmt: skip
    widths = [first[name].running for name in SPLIT]
    ranked = widths == sorted(widths)
    rows.append(order("vLLM", "order: more at once the less is reserved", "OPT-13B, ShareGPT", ranked, NOTE))
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Shares of the memory by policy; requests at once and rates of vLLM over the others."""
    shown = [Panel(SHARE, f"memory: {kind}", "share", f"OPT-13B, ShareGPT, {kind}") for kind in KINDS]
    shown += [Panel(WIDTH, "OPT-13B", WIDTH), Panel(FASTER, "rate", "vLLM over it")]
    shown += [Panel(SPARED, "samples of one prompt", SPARED, "OPT-13B, ShareGPT, ")]
    return panels(table, shown, "PagedAttention: what the KV memory holds", columns=3)
