"""What is room for an answer worth that is as long as predicted, not as long as allowed? (S3, NeurIPS 2023)"""

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hw_models import catalog
from hw_models.device import usable_byte
from studies._gpt import gpt
from studies._panels import Panel, panels
from studies._steps import arrays, decode_s
from studies._verdict import frame, order, point, row
from workloads.models.tensors import num_param

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "S3 (Jin et al. 2023): 6.49 times the throughput of serving that keeps room for the longest answer"
SMALL = {"accuracies": (0.9,), "means": (64.0,)}
SYSTEM, MODEL = "a100_sxm_80gb", gpt("gpt-j", 4096, 28, 16, vocab=50400)
MOST, BUCKETS = 2048, 10  # tokens of an answer at most; equal buckets that the predictor tells apart
ACCURACIES = (0.656, 0.7713, 0.986)  # of the predictor on the Pile, Natural Questions and Alpaca
MEANS = (56.0, 128.0, 324.0)  # tokens of an answer: Alpaca, between, ShareGPT; the paper's lengths are not published
RATE, USE = "throughput over room for the longest", "use of the peak at batch 1, %"
NOTE = (
    "GPT-J on an A100 80 GB, prompts of 64; log-normal answers; room for the bucket; a wrong prediction is one bucket "
    "low or high, and what is low starts again with twice the room (recomputed); lengths, buckets and models are open"
)


def fits(room: float) -> float:
    """Sequences at once whose answers have so much room in the mean."""
    spare = usable_byte(catalog.system(SYSTEM).device) - 2.0 * num_param(MODEL)
    return max(1.0, spare / (2.0 * 2 * MODEL.num_layer * MODEL.hidden * (64 + room)))


def answers(mean: float, count: int = 20_000, seed: int = 0) -> "np.ndarray[Any, Any]":
    """Lengths of answers, a spread of one."""
    sigma = np.sqrt(np.log(2.0))
    value = np.exp(np.random.default_rng(seed).normal(np.log(mean) - sigma**2 / 2, sigma, count))
    return np.clip(value, 1, MOST)


def best_rate(most: float, context: int) -> float:
    """Tokens a second of as many sequences as are fastest, at most `most`: products run in tiles of rows."""
    batches = {int(most), *range(64, int(most), 64)}
    return max(batch / decode_s(MODEL, arrays(SYSTEM), batch, context, fmt="fp16") for batch in batches)


def gain(accuracy: float, mean: float) -> float:
    """Tokens a second over those with room for the longest answer; work that starts again is done twice."""
    length = answers(mean)
    width = MOST / BUCKETS
    bucket = np.ceil(length / width)
    rng = np.random.default_rng(1)
    wrong = rng.random(len(length)) > accuracy
    low = wrong & (rng.random(len(length)) < 0.5) & (bucket > 1)
    room = np.where(low, bucket - 1, np.where(wrong & ~low, np.minimum(bucket + 1, BUCKETS), bucket)) * width
    lost = np.where(low, room, 0.0)  # computed before the room ends, and again
    held = np.where(low, 2 * room, room)
    context = round(64 + mean / 2)

    useful = float(length.sum() / (length.sum() + lost.sum()))
    return useful * best_rate(fits(float(np.average(held, weights=length))), context) / best_rate(fits(MOST), context)


def run(accuracies: tuple[float, ...] = ACCURACIES, means: tuple[float, ...] = MEANS) -> pd.DataFrame:
    """The throughput that prediction brings over what is open, and how little of the peak one sequence uses."""
    rows: list[dict[str, Any]] = []
    found = {(a, m): gain(a, m) for a in accuracies for m in means}
    rows += [point(f"accuracy {a:.0%}", RATE, f"{m:g} tokens an answer", g, NOTE) for (a, m), g in found.items()]
    values = sorted(found.values())
    rows.append(row("S3", f"{RATE}, GPT-J", "over what is open", 6.49, values[len(values) // 2], NOTE, said=True,
                    spread=values))  # fmt: skip
    one_s = decode_s(MODEL, arrays(SYSTEM), 1, 256, fmt="fp16")
    share = 2.0 * num_param(MODEL) / one_s / catalog.system(SYSTEM).device.peak("fp16")
    rows.append(row("GPT-J", USE, "A100 80 GB, FP16", 0.4, 100 * share, "two FLOPs a parameter; 256 tokens of context"))
    rows.append(order("S3", "order: prediction serves more everywhere", "accuracies and lengths", values[0] > 1, NOTE))
    better = all(found[a, m] <= found[b, m] * 1.001 for m in means for a, b in itertools.pairwise(accuracies))
    rows.append(order("S3", "order: a better predictor serves more", "every length", better, NOTE))
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Throughput by accuracy, a panel a length, and the use of the peak."""
    shown = [
        Panel(RATE, "by the predictor's accuracy and length", "throughput, ratio"),
        Panel(f"{RATE}, GPT-J", "headline", "throughput, ratio"),
    ]
    return panels(table, shown, "S3: room for a predicted answer")
