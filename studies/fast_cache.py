"""What do batches of its own bring to compressing KV between prompt and answer? (FastCache 2025, image prompts)"""

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from kernels.units import PS_PER_S
from sim.pipeline.bounded import Passed, Stage, run_stages
from studies._panels import Panel, panels
from studies._steps import arrays, decode_s, step_s
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "FastCache (2025): first tokens up to 19.3 times sooner, throughput 12.1 times, up to 40 requests a second"
MODEL, SYSTEM = "llama-2-7b", "a100_sxm_80gb"  # a LLaVA's language model
PROMPT, ANSWER, RATIO = 768, 64, 0.2  # tokens with the image's, of an answer, of KV kept
ROOM, WIDTH = 60e9, 2.0 * 2 * 32 * 4096  # bytes of KV beside the weights, of a token
COMPRESS_S = (0.005, 0.05)  # seconds of the compressor for one request; one of a batch adds a tenth
RATES = (1.0, 2.0, 5.0, 10.0, 20.0, 40.0)  # requests a second
FIRST, SERVED = "time to first token, s", "requests served a second"
OPEN = (
    "neither model, GPU, lengths nor the compressor's time are known: Llama-2-7B on an A100, 768 + 64 tokens, a fifth "
    "of the KV kept, 5 or 50 ms a request to compress and a tenth of that for each more in a batch; one GPU that takes "
    "the stages in turn; the baseline takes a request through prompt and compression alone, answers decode in a batch"
)
SMALL: dict[str, Any] = {"rates": (2.0, 20.0), "num": 60, "compress": (0.05,)}


class Pipe(NamedTuple):
    """Mean seconds to the first token, requests served a second, and the most KV bytes that were held."""

    first_s: float
    served: float
    byte: float


@functools.cache
def prompt_s(batch: int) -> float:
    """Seconds of so many prompts."""
    return step_s(MODEL, arrays(SYSTEM), [PROMPT] * batch, [PROMPT] * batch, fmt="fp16", decode=False)


@functools.cache
def answer_s(batch: int, ratio: float) -> float:
    """Seconds of a step of so many answers, each behind what is kept of its prompt."""
    return decode_s(MODEL, arrays(SYSTEM), batch, max(1, round(ratio * PROMPT)) + ANSWER // 2, fmt="fp16")


def serve(rate: float, num: int, compress_s: float, most: int, ratio: float = RATIO, seed: int = 0) -> Pipe:
    """Requests at a rate through three stages with bounded queues. The GPU takes the stages in turn; up to `most`
    requests go through a prompt and a compression at once, answers decode together. The places of the queues are those
    that whole and compressed KV have room for."""
    arrival_s = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, num))
    whole = WIDTH * PROMPT
    answers = int((ROOM - 3 * most * whole) / (ratio * whole))  # beside prompts that are computed, wait, are compressed
    stages = [
        Stage("prefill", lambda own: prompt_s(len(own)), 1, num, "gpu", most),
        Stage("compress", lambda own: compress_s * (1 + 0.1 * (len(own) - 1)), 1, most, "gpu", most),
        Stage("decode", lambda own: answer_s(len(own), ratio), 1, 0, "gpu", answers, 1, ANSWER - 1),
    ]
    passed = run_stages(stages, num, every_s=arrival_s.tolist(), resources={"gpu": 1})
    first_s = passed.done_ps[0] / PS_PER_S - arrival_s
    return Pipe(float(first_s.mean()), num * PS_PER_S / float(passed.leave_ps.max()), most_byte(passed, whole, ratio))


def most_byte(passed: Passed, whole: float, ratio: float) -> float:
    """The most KV held at once: a request's whole one from its prompt to the end of its compression, then a share."""
    times = np.concatenate([passed.begin_ps[0], passed.done_ps[1], passed.leave_ps[2]])
    change = np.repeat([whole, -(1 - ratio) * whole, -ratio * whole], len(passed.begin_ps[0]))
    return float(np.cumsum(change[np.lexsort((change, times))]).max())


def run(
    rates: tuple[float, ...] = RATES, num: int = 300, compress: tuple[float, ...] = COMPRESS_S, most: int = 16
) -> pd.DataFrame:
    """First tokens and throughput by rate, a stage's batches against one request after another."""
    table: list[dict[str, Any]] = []
    sooner, more = [], []
    for second in compress:
        found = {(name, rate): serve(rate, num, second, batch) for name, batch in (("one by one", 1), ("batches", most))
                 for rate in rates}  # fmt: skip
        for (name, rate), one in found.items():
            setup = f"compressor {1e3 * second:g} ms, {rate:g}/s"
            table += [point(name, FIRST, setup, one.first_s, OPEN), point(name, SERVED, setup, one.served, OPEN)]
        sooner.append(max(found["one by one", rate].first_s / found["batches", rate].first_s for rate in rates))
        more.append(max(found["batches", rate].served / found["one by one", rate].served for rate in rates))
    for claim, paper, value in (("first token, times sooner", 19.3, sooner), ("throughput, times", 12.1, more)):
        table.append(row("FastCache", f"{claim}, most", "rates", paper, max(value), OPEN, said=True, spread=value))
    plain, kept = (serve(max(rates), num, 0.0, most, ratio).byte for ratio in (1.0, RATIO))
    for claim, true in (
        ("batches of each stage bring the first token sooner under load", min(sooner) > 1),
        ("and serve more", min(more) > 1), ("compressed KV holds less memory", kept < plain),
    ):  # fmt: skip
        table.append(order("FastCache", f"order: {claim}", "rates", true, OPEN))
    return frame(table)


def plot(table: pd.DataFrame) -> "Figure":
    """First tokens and throughput by rate, a row a compressor."""
    each = [name for name in dict.fromkeys(table["setup"].str.split(", ").str[0]) if name.startswith("compressor")]
    shown = [Panel(claim, f"{claim.split(',')[0]}, {name}", claim, f"{name}, ", curve=True, log=claim == FIRST)
             for name in each for claim in (FIRST, SERVED)]  # fmt: skip
    return panels(table, shown, "FastCache: prompt, compression and answer, a queue each")
