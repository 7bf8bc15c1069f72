"""What do prompts cost that are padded to a rectangle, sorted first, or packed into rows? (Prepacking, 2024, MMLU)"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from studies._gpt import llama
from studies._kernels import seconds, stream
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
    "default), casts and eager passes counted, fp16 head over every position, logits copied to fp32, KV of all kept "
    "until the next batch's are there; lengths are not published: log-normal, their longest from the padded peak, "
    "their mean from the packed one; masks, tokenizer and packing itself left out; spread over draws of lengths, which "
    "is what misses: the means of four draws are off by 23, 3 and 6 %"
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
    own = step_s(MODEL, where, [columns] * rows, [columns] * rows, fmt=FORMAT, decode=False, sampled=columns)
    return own + beside_s(rows * columns)


def beside_s(position: float) -> float:
    """Seconds of what 4-bit layers and eager modules do beside fused operators: weights made 16-bit and 32-bit values,
    inputs and outputs of every product cast (bitsandbytes), norms, rotations and activations pass by pass (Hugging
    Face's Llama of early 2024)."""
    hidden, inter = MODEL.hidden, MODEL.block[0].ffn.inter
    weight = num_param(MODEL) - 2 * MODEL.vocab * hidden
    cast = 6.0 * (6 * hidden + inter + 5 * hidden + 2 * inter)  # 2 and 4 bytes, of four square products and three wide
    norm = (34 - 4) * 2.0 * hidden  # to fp32, squared, mean, scaled, cast back, weighted; a fused one reads and writes
    rope = (20 - 4) * 2.0 * hidden  # of queries and keys: two products, a half negated, joined, a sum
    gate = (10 - 6) * inter  # activation and product apart
    byte = weight * (0.5 + 2 + 2 + 4) + position * MODEL.num_layer * (cast + norm + rope + gate)
    return seconds(arrays("rtx_a6000"), stream(byte / 2, byte / 2))


def list_s(tokens: np.ndarray) -> float:
    """Seconds of a prefill whose attention takes each prompt for itself, as an engine with a work list does."""
    query, logit = tokens.tolist(), round(float(tokens.mean()))
    own = step_s(MODEL, arrays("rtx_a6000"), query, query, fmt=FORMAT, decode=False, sampled=logit)
    return own + beside_s(float(tokens.sum()))


def kept_byte() -> float:
    """Bytes that a position of the rectangle leaves behind: KV of every layer and logits in fp32."""
    return 2.0 * 2 * MODEL.num_layer * MODEL.hidden + 4.0 * MODEL.vocab


def token_byte() -> float:
    """The most that a position takes: what it leaves, and its logits in fp16."""
    return kept_byte() + 2.0 * MODEL.vocab


def weight_byte() -> float:
    """4-bit weights, embedding and head in fp16."""
    ends = 2 * MODEL.vocab * MODEL.hidden
    return (num_param(MODEL) - ends) * (0.5 + 4 / 64) + 2.0 * ends


def peak_mib(name: str, tokens: np.ndarray) -> float:
    """The most that a batch of them takes beside what the one before has left: the authors' script holds the outputs of
    a batch until the next one's are there."""
    area = np.array(
        [rows * columns for rows, columns in (rectangle(name, one) for one in batches(name, tokens))], float
    )
    before = np.concatenate([[0.0], area[:-1]])
    return float(weight_byte() + (area * token_byte() + before * kept_byte()).max()) / MIB


@functools.cache
def fitted(seed: int) -> tuple[float, float]:
    """Mean and longest prompt in tokens: by the packed and the padded peak."""
    mean, longest = 100.0, 800.0

    def packs_more(value: float) -> bool:
        return peak_mib(PACKED, lengths(value, longest, seed)) > MEMORY[PACKED]

    def pads_more(value: float) -> bool:
        return peak_mib(FULL, lengths(mean, value, seed)) > MEMORY[FULL]

    for _ in range(8):
        mean = solved(packs_more, 20.0, 400.0)
        longest = solved(pads_more, 400.0, 2000.0)
    return mean, longest


def solved(above: Callable[[float], bool], low: float, high: float) -> float:
    """Where a growing quantity passes its mark."""
    for _ in range(16):
        middle = (low + high) / 2
        low, high = (low, middle) if above(middle) else (middle, high)
    return (low + high) / 2


def mean_s(name: str, tokens: np.ndarray) -> float:
    """Mean seconds of a batch."""
    each = batches(name, tokens)
    return float(np.mean([list_s(one) if name == LIST else rectangle_s(*rectangle(name, one)) for one in each]))


def run(seeds: int = 4) -> pd.DataFrame:
    """Memory and seconds of the three, with the range over draws of lengths."""
    drawn = [lengths(*fitted(seed), seed) for seed in range(seeds)]
    most = [int(one.max()) for one in drawn]
    note = (
        f"{np.mean([one.mean() for one in drawn]):.0f} tokens in the mean, {min(most)} to {max(most)} at most; {OPEN}"
    )
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
