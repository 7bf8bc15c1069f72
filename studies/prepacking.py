"""What do prompts cost that are padded to a rectangle, sorted first, or packed into rows? (Prepacking, 2024, MMLU)"""

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from studies._gpt import llama
from studies._panels import Panel, panels
from studies._steps import arrays, step_s
from studies._verdict import frame, order, point, row
from workloads.models.tensors import num_param

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Prepacking (Zhao et al. 2024): MMLU in batches of 64 on an A6000, 2.299 s padded, 0.658 sorted, 0.441 packed"
MODEL = llama("sheared-llama-1.3b", 2048, 24, 16, 16, 5504, 32000)  # the `llama1b` of the authors' script
BATCH, NUM, MIB, FORMAT = 64, 1000, 2.0**20, "fp32:head=fp16"
FULL, SORTED, PACKED, LIST = "padded", "length-ordered", "prepacking", "work list"
TIME = {FULL: 2.299, SORTED: 0.658, PACKED: 0.441}  # seconds a batch
MEMORY = {FULL: 34599.695, SORTED: 22950.019, PACKED: 4578.328}  # MiB at most
SECOND, PEAK, GAIN = "seconds a batch", "peak memory, MiB", "speedup of prepacking over it"
OPEN = (
    "authors' script: 1,000 questions without choices, 4-bit weights whose products bitsandbytes computes in fp32 (its "
    "default), fp16 head over every position, logits copied to fp32, KV of all kept; lengths are not published: "
    "log-normal, their longest from the padded peak, their mean from the packed one; masks, tokenizer, packing itself "
    "and host time left out; spread over draws of lengths. Times are too long by one factor: fewer tokens than the "
    "memory says; products in fp16 would take 1.1, 0.25 and 0.19 s"
)
SMALL = {"seeds": 2}


def lengths(mean: float, longest: float, seed: int) -> np.ndarray:
    """Log-normal tokens of `NUM` prompts with this mean, whose largest draw is `longest`."""
    normal = np.random.default_rng(seed).standard_normal(NUM)
    top = normal.max()
    sigma = top - np.sqrt(max(0.0, top**2 - 2 * np.log(longest / mean)))
    return np.maximum(2, np.rint(mean * np.exp(sigma * normal - sigma**2 / 2))).astype(int)


def packed(tokens: np.ndarray) -> tuple[int, int]:
    """Rows, and tokens of the longest, of prompts that are put into rows of the longest prompt's length, the longest
    first, each where it fits first."""
    capacity = int(tokens.max())
    bins: list[int] = []
    for token in sorted(tokens.tolist(), reverse=True):
        at = next((i for i, held in enumerate(bins) if held + token <= capacity), len(bins))
        if at == len(bins):
            bins.append(0)
        bins[at] += token
    return len(bins), max(bins)


def rectangle(name: str, tokens: np.ndarray) -> tuple[int, int]:
    """Rows and columns that a batch is computed as."""
    return packed(tokens) if name == PACKED else (len(tokens), int(tokens.max()))


def batches(name: str, tokens: np.ndarray) -> list[np.ndarray]:
    """Batches as they come, or of the sorted prompts."""
    each = np.sort(tokens) if name == SORTED else tokens
    return [each[i : i + BATCH] for i in range(0, len(each), BATCH)]


@functools.cache
def rectangle_s(rows: int, columns: int) -> float:
    """Seconds of a prefill of a rectangle with logits of every position."""
    where = arrays("rtx_a6000")
    return step_s(MODEL, where, [columns] * rows, [columns] * rows, fmt=FORMAT, decode=False, sampled=columns)


def list_s(tokens: np.ndarray) -> float:
    """Seconds of a prefill whose attention takes each prompt for itself, as an engine with a work list does."""
    query, logit = tokens.tolist(), round(float(tokens.mean()))
    return step_s(MODEL, arrays("rtx_a6000"), query, query, fmt=FORMAT, decode=False, sampled=logit)


def token_byte() -> float:
    """Bytes that a position of the rectangle leaves: KV of every layer, logits in fp16 and their copy in fp32."""
    return 2.0 * 2 * MODEL.num_layer * MODEL.hidden + 6.0 * MODEL.vocab


def weight_byte() -> float:
    """4-bit weights, embedding and head in fp16."""
    ends = 2 * MODEL.vocab * MODEL.hidden
    return (num_param(MODEL) - ends) * (0.5 + 4 / 64) + 2.0 * ends


def peak_mib(name: str, tokens: np.ndarray) -> float:
    """The most that a batch of them leaves in memory."""
    area = max(rows * columns for rows, columns in (rectangle(name, one) for one in batches(name, tokens)))
    return (weight_byte() + area * token_byte()) / MIB


def longest() -> float:
    """Tokens of the longest prompt, by the padded peak."""
    return (MEMORY[FULL] * MIB - weight_byte()) / token_byte() / BATCH


def fitted_mean(seed: int) -> float:
    """Mean tokens of a prompt, by the packed peak."""
    low, high = 20.0, 400.0
    for _ in range(24):
        mean = (low + high) / 2
        above = peak_mib(PACKED, lengths(mean, longest(), seed)) > MEMORY[PACKED]
        low, high = (low, mean) if above else (mean, high)
    return mean


def mean_s(name: str, tokens: np.ndarray) -> float:
    """Mean seconds of a batch."""
    each = batches(name, tokens)
    return float(np.mean([list_s(one) if name == LIST else rectangle_s(*rectangle(name, one)) for one in each]))


def run(seeds: int = 4) -> pd.DataFrame:
    """Memory and seconds of the three, with the range over draws of lengths."""
    drawn = [lengths(fitted_mean(seed), longest(), seed) for seed in range(seeds)]
    note = f"{np.mean([one.mean() for one in drawn]):.0f} tokens in the mean, {longest():.0f} at most; {OPEN}"
    setup = "MMLU, Sheared-LLaMA-1.3B, batch 64, A6000"
    table: list[dict[str, Any]] = []
    found: dict[str, list[float]] = {}
    for name, paper in TIME.items():
        peak = [peak_mib(name, one) for one in drawn]
        kind = "number" if name == SORTED else "fitted"
        table.append(row(name, PEAK, setup, MEMORY[name], float(np.mean(peak)), note, kind=kind, spread=peak))
        found[name] = [mean_s(name, one) for one in drawn]
        table.append(row(name, SECOND, setup, paper, float(np.mean(found[name])), note, spread=found[name]))
    for name in (FULL, SORTED):
        gain = [a / b for a, b in zip(found[name], found[PACKED], strict=True)]
        table.append(row(name, GAIN, setup, TIME[name] / TIME[PACKED], float(np.mean(gain)), note, null=1.0,
                         spread=gain))  # fmt: skip
    table.append(point(LIST, SECOND, setup, float(np.mean([mean_s(LIST, one) for one in drawn])), note))
    ranked = all(a > b > c for a, b, c in zip(found[FULL], found[SORTED], found[PACKED], strict=True))
    table.append(order("prepacking", "order: packed before sorted before padded, in time", setup, ranked, note))
    return frame(table)


def plot(table: pd.DataFrame) -> "Figure":
    """Seconds and memory of the three ways, and the gains."""
    shown = [Panel(SECOND, "prefill", SECOND), Panel(PEAK, "memory", "MiB"), Panel(GAIN, "gain", "times")]
    return panels(table, shown, "Prepacking: MMLU in batches of 64 on an A6000")
