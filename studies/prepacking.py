"""What do prompts cost that are padded to a rectangle, sorted first, or packed into rows? (Prepacking, 2024, MMLU)"""

import functools
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from studies._gpt import llama
from studies._kernels import seconds, stream
from studies._mmlu import DRAWN, NUM, SEED
from studies._panels import Panel, panels
from studies._steps import arrays, step_s
from studies._verdict import frame, order, point, row
from workloads.models.tensors import num_param

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Prepacking (Zhao et al. 2024): MMLU in batches of 64 on an A6000, 2.299 s padded, 0.658 sorted, 0.441 packed"
MODEL = llama("sheared-llama-1.3b", 2048, 24, 16, 16, 5504, 32000)  # the `llama1b` of the authors' script
BATCH, RUNS, MIB = 64, 5, 2.0**20
FORMAT = "fp16:attention=fp32:ffn=fp32"  # bitsandbytes' 4-bit layers multiply in fp32 unless told, and hand on fp16
FULL, SORTED, PACKED, LIST = "padded", "length-ordered", "prepacking", "work list"
TIME = {FULL: 2.299, SORTED: 0.658, PACKED: 0.441}  # seconds a batch
MEMORY = {FULL: 34599.695, SORTED: 22950.019, PACKED: 4578.328}  # MiB at most
SECOND, PEAK, GAIN = "seconds a batch", "peak memory, MiB", "speedup of prepacking over it"
OPEN = (
    "authors' script: 1,000 questions without choices as its seed draws them, shuffled for each of five runs of "
    "prepacking and then of padding, sorted by characters; 4-bit weights whose products bitsandbytes computes in fp32, "
    "casts and eager passes counted, fp16 head over every position, logits copied to fp32, KV of all kept until the "
    "next batch's are there; masks, tokenizer, packing itself and what the first batch of all waits for are left out"
)
FAST = (
    "prepacking is 10 % too fast and padding 6 % too slow: the first batch's start-up is in the published mean of the "
    "one (its deviation is 0.35 s where batches differ by 0.08), an A6000's clock under fp32 products is not published"
)
SMALL = {"runs": 1}


def packed(tokens: np.ndarray) -> tuple[int, int]:
    """Rows, and positions of the longest, of prompts that are put into rows of the longest prompt's length, the longest
    first, each into the emptiest where it fits (`binpacking.to_constant_volume`); the last token of each is left to the
    generation."""
    capacity = int(tokens.max())
    held: list[int] = []
    prompts: list[int] = []
    for token in sorted(tokens.tolist(), reverse=True):
        room = [i for i, one in enumerate(held) if one + token <= capacity]
        at = min(room, key=held.__getitem__, default=len(held))
        if at == len(held):
            held.append(0)
            prompts.append(0)
        held[at] += token
        prompts[at] += 1
    return len(held), max(one - count for one, count in zip(held, prompts, strict=True))


def orders(runs: int) -> dict[str, list[np.ndarray]]:
    """Tokens of the questions in the order of each run, of each way."""
    draw, questions = random.Random(SEED), list(DRAWN)
    draw.sample(range(NUM), len(questions))  # which questions: those of the table
    found: dict[str, list[np.ndarray]] = {}
    for name in (PACKED, FULL):
        found[name] = []
        for _ in range(runs):
            draw.shuffle(questions)
            found[name].append(np.array([token for token, _ in questions]))
    questions.sort(key=lambda one: one[1])
    return {**found, SORTED: [np.array([token for token, _ in questions])], LIST: found[PACKED]}


def rectangle(name: str, tokens: np.ndarray) -> tuple[int, int]:
    """Rows and columns that a batch is computed as."""
    return packed(tokens) if name == PACKED else (len(tokens), int(tokens.max()))


def batches(tokens: np.ndarray) -> list[np.ndarray]:
    """Batches of questions in this order."""
    return [tokens[i : i + BATCH] for i in range(0, len(tokens), BATCH)]


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
    area = np.array([rows * columns for rows, columns in (rectangle(name, one) for one in batches(tokens))], float)
    before = np.concatenate([[0.0], area[:-1]])
    return float(weight_byte() + (area * token_byte() + before * kept_byte()).max()) / MIB


def mean_s(name: str, tokens: np.ndarray) -> float:
    """Mean seconds of a batch."""
    return float(
        np.mean([list_s(one) if name == LIST else rectangle_s(*rectangle(name, one)) for one in batches(tokens)])
    )


def run(runs: int = RUNS) -> pd.DataFrame:
    """Memory (the last run's, as the script has it) and mean seconds of the three, and what packing gains."""
    order_of, setup = orders(runs), "MMLU, Sheared-LLaMA-1.3B, batch 64, A6000"
    table: list[dict[str, Any]] = []
    found = {name: float(np.mean([mean_s(name, one) for one in each])) for name, each in order_of.items()}
    for name, paper in TIME.items():
        table.append(row(name, PEAK, setup, MEMORY[name], peak_mib(name, order_of[name][-1]), OPEN))
        table.append(row(name, SECOND, setup, paper, found[name], OPEN))
    for name in (FULL, SORTED):
        gain = found[name] / found[PACKED]
        table.append(row(name, GAIN, setup, TIME[name] / TIME[PACKED], gain, f"{FAST}; {OPEN}", null=1.0))
    table.append(point(LIST, SECOND, setup, found[LIST], OPEN))
    ranked = found[FULL] > found[SORTED] > found[PACKED]
    table.append(order("prepacking", "order: packed before sorted before padded, in time", setup, ranked, OPEN))
    return frame(table)


def plot(table: pd.DataFrame) -> "Figure":
    """Seconds and memory of the three ways, and the gains."""
    shown = [Panel(SECOND, "prefill", SECOND), Panel(PEAK, "memory", "MiB"), Panel(GAIN, "gain", "times")]
    return panels(table, shown, "Prepacking: MMLU in batches of 64 on an A6000")
