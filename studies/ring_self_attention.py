"""Ring Self-Attention: how large a batch and how long a sequence fit where devices hold a part of each sequence."""

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from hw_models import catalog
from kernels import training as t
from kernels.errors import InputError
from sim.show.plot_style import BLUE, INK, ORANGE, new_figure, styled, suptitle
from studies._claims import frame, holds, row
from studies._gpt import gpt
from workloads.training import TrainPlan, check, model_vector, plan_vector

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Ring Self-Attention (Li et al. 2021): 13.7x the batch and 3x the length of tensor parallelism, BERT on 64 P100"
DEVICE = "p100_pcie_16gb"
BERT = gpt("bert-base", 768, 12, 12, vocab=30522, position_row=512)
HEADS = 12  # no more devices for tensor parallelism than heads
NUM_DEVICE, SEQ, BATCH = 64, 512, 64  # 512 tokens where the batch grows, batch 64 where the sequence grows
SIZES = (1, 2, 4, 8, 16, 32, 64)


class Precision(NamedTuple):
    """Bytes a value."""

    weight: float
    act: float
    grad: float
    optimizer: float


PRECISIONS = {"mixed precision": Precision(2, 2, 2, 12), "single precision": Precision(4, 4, 4, 8)}
LOGITS = {"logits of all": 1.0, "logits of masked": 0.15}  # positions: BERT masks 15 %
ASSUMED = (
    "the tensor parallel side on 12 devices, one a head; precision and positions with logits not stated, both ways "
    "given; no allocator or communicator reserve"
)
CAUSE = (
    "; what both sides divide alike (logits, states of a replica) weighs more in ours, and what BERT's embedding and "
    "output transform keep, whole under tensor parallelism, is not counted"
)


def total_byte(seq: int, batch: int, tp: int, cp: int, precision: Precision, masked: float = 1.0) -> float:
    """Bytes a device of one training step, nothing recomputed: `tp` devices share every layer, or `cp` share every
    sequence in a ring (scores of their own rows against all keys); a share `masked` of the positions has logits."""
    plan = TrainPlan(
        tp, cp=cp, micro_batch=batch, batch=batch, seq=seq, attention="unfused", weight_byte=precision.weight,
        act_byte=precision.act, grad_byte=precision.grad, optimizer_byte=precision.optimizer, dropout=True,
    )  # fmt: skip
    fit, memory = np.array(t.IDEAL_FIT), np.zeros(len(t.MEMORY))
    fit[t.LOGIT_BYTE] *= masked
    return float(t.plan_memory(model_vector(BERT, seq, True), plan_vector(plan), fit, 0.0, memory))


def largest(byte: Callable[[int], float], most: int = 1 << 20) -> int:
    """The largest whole number whose bytes fit in the device's memory; 0 where none does."""
    device = catalog.device(DEVICE)
    low = 0
    while most - low > 1:
        middle = (low + most) // 2
        low, most = (middle, most) if byte(middle) <= device.mem_byte - device.mem_reserved_byte else (low, middle)
    return low


def max_batch(tp: int, cp: int, precision: Precision, masked: float = 1.0) -> int:
    """Sequences of 512 tokens."""
    return largest(lambda batch: total_byte(SEQ, batch, tp, cp, precision, masked))


def max_seq(tp: int, cp: int, precision: Precision, masked: float = 1.0) -> int:
    """Tokens of 64 sequences, a multiple of the ring."""
    return cp * largest(lambda part: total_byte(cp * part, BATCH, tp, cp, precision, masked))


def run(precisions: tuple[str, ...] = tuple(PRECISIONS)) -> pd.DataFrame:
    """Ratios of the largest batch and the longest sequence, ring of 64 over tensor parallelism of 12."""
    rows: list[dict[str, Any]] = []
    for name in precisions:
        p = PRECISIONS[name]
        for positions, masked in LOGITS.items():
            for claim, most, published in (("batch", max_batch, 13.7), ("sequence length", max_seq, 3.0)):
                ratio = most(1, NUM_DEVICE, p, masked) / most(HEADS, 1, p, masked)
                note = ASSUMED + (CAUSE if abs(ratio / published - 1) > 0.15 else "")
                setup = f"BERT-Base, 64 P100, {name}, {positions}"
                rows.append(row("Ring Self-Attention", f"largest {claim}, ratio", setup, published, ratio, 0.15, note))
    refused = False
    try:
        check(BERT, TrainPlan(2 * HEADS))
    except InputError:
        refused = True
    rows.append(holds("tensor parallelism", "order: stops at the heads", "BERT-Base, 24 devices", refused))
    grows = [max_batch(1, size, PRECISIONS[precisions[0]]) for size in SIZES]
    linear = all(2 * small <= large for small, large in itertools.pairwise(grows))
    note = "from one size to the next twice as large, at least twice the batch: nothing but the states is replicated"
    rows.append(holds("Ring Self-Attention", "order: batch grows with the ring", "1 to 64 devices", linear, note))
    return frame(rows)


@styled
def plot(rows: pd.DataFrame) -> "Figure":
    """Largest batch and longest sequence over the number of devices, and the ratios published and simulated."""
    figure, axes = new_figure(1, 3, (12.0, 3.8))
    precision = PRECISIONS["mixed precision"]
    for axis, most, label in ((axes[0], max_batch, "largest batch"), (axes[1], max_seq, "longest sequence, tokens")):
        ring = [most(1, size, precision) for size in SIZES]
        tensor = [(size, most(size, 1, precision)) for size in (1, 2, 3, 4, 6, 12)]
        axis.plot(SIZES, ring, "o-", color=BLUE, label="ring of devices")
        axis.plot(*zip(*tensor, strict=True), "s-", color=ORANGE, label="tensor parallelism (to 12 heads)")
        axis.set_xscale("log", base=2)
        axis.set_xticks(SIZES, [str(size) for size in SIZES])
        axis.set_yscale("log", base=2)
        axis.set_xlabel("P100")
        axis.set_ylabel(label)
        axis.legend(fontsize=8)
    ratio = rows[rows["claim"].str.endswith("ratio")]
    axis, place = axes[2], range(len(ratio))
    axis.bar([p - 0.2 for p in place], ratio["paper"], 0.38, facecolor="white", edgecolor=INK, label="published")
    axis.bar([p + 0.2 for p in place], ratio["simulated"], 0.38, color=BLUE, label="simulated")
    names = [
        "\n".join((one["claim"].split()[1].removesuffix(","), *one["setup"].split(", ")[2:]))
        for one in ratio.to_dict("records")
    ]
    axis.set_xticks(list(place), names, fontsize=5.5, rotation=60)
    axis.set_ylabel("ring of 64 over tensor parallelism")
    axis.set_ylim(0, 17)
    axis.legend(fontsize=8)
    suptitle(figure, "Ring Self-Attention: BERT-Base on P100")
    return figure
