"""What does it take to find prompts of middling difficulty: a value model, or answers? (Prompt Curriculum, 2025)"""

import functools
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from studies._panels import Panel, panels
from studies._steps import arrays, decode_s, step_s
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Prompt Curriculum Learning (2025): prompts chosen by a value model 12.1 and 16.9 times faster than by answers"
SMALL: dict[str, Any] = {"batches": (64, 512)}
MODEL, DEVICE = "llama-3.1-8b", "h100_sxm"
FASTER = {"MATH": 12.1, "DeepScaleR": 16.9}
PROMPT = {"MATH": 128, "DeepScaleR": 160}  # tokens, not published
# mean tokens of an answer and its log deviation, answers a prompt that tell its difficulty: not published
ANSWERS = {"MATH": (600, 0.6), "DeepScaleR": (1500, 0.7)}
COUNTS = (4, 1, 8)
BATCHES = (16, 32, 64, 128, 256, 512, 1024)
GRID = (1, 4, 16, 64, 256, 1024)
SECONDS, PER = "seconds to generate a batch", "seconds a prompt"
NOTE = (
    "Llama-3.1-8B on one H100, policy and value model of one size; lengths of prompts and answers log-normal, 4 (1 to "
    "8) answers a prompt: model, lengths and number are not published; a batch is done when its last answer is"
)


@functools.cache
def curve(kv_len: int) -> tuple[float, ...]:
    """Seconds of a decoding step at each width of `GRID`."""
    return tuple(decode_s(MODEL, arrays(DEVICE), width, kv_len) for width in GRID)


def generation_s(data: str, num_answer: int, num_draw: int = 20) -> float:
    """Mean over draws of the lengths."""
    return sum(drawn_s(data, num_answer, seed) for seed in range(num_draw)) / num_draw


def drawn_s(data: str, num_answer: int, seed: int) -> float:
    """Until the last of so many answers, all started together: every step as wide as the answers that still run."""
    mean, deviation = ANSWERS[data]
    drawn = np.random.default_rng(seed).lognormal(np.log(mean) - deviation**2 / 2, deviation, num_answer)
    length = np.sort(np.maximum(drawn.astype(np.int64), 1))
    steps = np.diff(length, prepend=0)  # tokens while so many run
    width = np.arange(num_answer, 0, -1)
    second = np.interp(width, GRID, curve(PROMPT[data] + mean))
    return value_s(data, num_answer) + float((steps * second).sum())  # prefill, then steps


@functools.cache
def value_s(data: str, num_prompt: int) -> float:
    """One forward pass over the prompts: a value model's, or a prefill."""
    return step_s(MODEL, arrays(DEVICE), [PROMPT[data]] * num_prompt, [PROMPT[data]] * num_prompt, decode=False)


def run(batches: tuple[int, ...] = BATCHES) -> pd.DataFrame:
    """How much faster a value model is, and how generation grows with the batch."""
    rows: list[dict[str, Any]] = []
    for data, published in FASTER.items():
        ratio = [generation_s(data, 128 * count) / value_s(data, 128) for count in COUNTS]
        rows.append(
            row(
                "value model",
                "faster than answers, to choose",
                f"{data}, 128 prompts",
                published,
                ratio[0],
                NOTE,
                tag="approx",
                null=1.0,
                said=True,
                spread=ratio,
            )
        )
        rows.append(order("value model", "order: faster than one answer a prompt", data, ratio[1] > 1, NOTE))
        time = [generation_s(data, batch) for batch in batches]
        grows = [b / a for a, b in itertools.pairwise(time)]
        wider = [b / a for a, b in itertools.pairwise(batches)]
        rows.append(
            order(
                "generation",
                "order: grows less than the batch",
                data,
                all(g < w for g, w in zip(grows, wider, strict=True)),
                NOTE,
            )
        )
        rows += [point(data, SECONDS, str(batch), one) for batch, one in zip(batches, time, strict=True)]
        rows += [point(data, PER, str(batch), one / batch) for batch, one in zip(batches, time, strict=True)]
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Generation by batch, a prompt's share of it, and the value model's gain."""
    shown = [Panel(SECONDS, "answers", SECONDS, curve=True), Panel(PER, "answers", PER, curve=True, log=True),
             Panel("faster than answers, to choose", "value model", "ratio")]  # fmt: skip
    return panels(table, shown, "Prompt Curriculum Learning: answers and values", columns=3)
