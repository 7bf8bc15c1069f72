"""Ring Self-Attention: how large a batch and how long a sequence fit where devices hold a part of each sequence."""

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pandas as pd

from hw_models import catalog
from kernels.errors import InputError
from sim.show.plot_style import BLUE, INK, ORANGE, new_figure, styled, suptitle
from studies._gpt import gpt
from studies._max_length import Library, plan_byte
from studies._verdict import frame, order, point, row
from workloads.training import TrainPlan, check

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Ring Self-Attention (Li et al. 2021): 13.7x the batch and 3x the length of tensor parallelism, BERT on 64 P100"
SMALL = {"sizes": (1, 2, 64)}
DEVICE = "p100_pcie_16gb"
BERT = gpt("bert-base", 768, 12, 12, vocab=30522, position_row=512)
HEADS = 12  # no more devices for tensor parallelism than heads
NUM_DEVICE, SEQ, BATCH = 64, 512, 64  # 512 tokens where the batch grows, batch 64 where the sequence grows
SIZES = (1, 2, 4, 8, 16, 32, 64)


WEIGHT, ACT, GRAD, OPTIMIZER = 2.0, 2.0, 2.0, 12.0  # bytes a value: fp16 with Adam in fp32
RING_LOGIT = 2.0  # bytes a logit: fp16, the softmax in place (the authors' example; logits of all positions)
TENSOR_LOGIT, TENSOR_LOGITS = 8.0, (6.0, 10.0)  # of Megatron's side: fp16 and one fp32 copy, or two
# kept beside the layers, times the width, 2 B a value: norm input and mask of the embedding, four of the transform
EDGE_BYTE = 2 + 1 + 4 * 2
BATCHES, LENGTH = "largest batch", "longest sequence, tokens"
RING, TENSOR = "ring of devices", "tensor parallelism"
ASSUMED = (
    "logits of all positions, 2 B each in the ring and 6 to 10 on Megatron's side; 12 devices there, one a head, with "
    "embedding, head and what they keep whole on each; no allocator or communicator reserve"
)


def total_byte(seq: int, batch: int, tp: int, cp: int, logit_byte: float) -> float:
    """Bytes a device of one training step, nothing recomputed: `tp` devices share every layer, or `cp` share every
    sequence in a ring (scores of their own rows against all keys)."""
    plan = TrainPlan(
        tp, cp=cp, micro_batch=batch, batch=batch, seq=seq, attention="fused_softmax", fused_norm=True,
        weight_byte=WEIGHT, act_byte=ACT,
        grad_byte=GRAD, optimizer_byte=OPTIMIZER, dropout=True,
    )  # fmt: skip
    layers = plan_byte(BERT, plan, Library(logit_byte))
    # the rows of the vocabulary that a share of `tp` leaves out, and activations of both ends
    whole = BERT.vocab * BERT.hidden * (1 - 1 / tp) * (WEIGHT + GRAD + OPTIMIZER)
    return layers + whole + EDGE_BYTE * BERT.hidden * seq * batch / cp


def largest(byte: Callable[[int], float], most: int = 1 << 24) -> int:
    """The largest whole number whose bytes fit in the device's memory; 0 where none does."""
    device = catalog.device(DEVICE)
    low = 0
    while most - low > 1:
        middle = (low + most) // 2
        low, most = (middle, most) if byte(middle) <= device.mem_byte - device.mem_reserved_byte else (low, middle)
    return low


def max_batch(tp: int, cp: int, logit_byte: float) -> int:
    """Sequences of 512 tokens."""
    return largest(lambda batch: total_byte(SEQ, batch, tp, cp, logit_byte))


def max_seq(tp: int, cp: int, logit_byte: float) -> int:
    """Tokens of 64 sequences, a multiple of the ring."""
    return cp * largest(lambda part: total_byte(cp * part, BATCH, tp, cp, logit_byte), (1 << 24) // cp)


def run(sizes: tuple[int, ...] = SIZES) -> pd.DataFrame:
    """Ratios of the largest batch and the longest sequence, ring of 64 over tensor parallelism of 12, and both by
    devices."""
    rows: list[dict[str, Any]] = []
    setup = f"BERT-Base, {NUM_DEVICE} P100, 16 GB"
    for claim, most, published in ((BATCHES, max_batch, 13.7), (LENGTH, max_seq, 3.0)):
        ring = most(1, NUM_DEVICE, RING_LOGIT)
        ratio, *spread = (ring / most(HEADS, 1, byte) for byte in (TENSOR_LOGIT, *TENSOR_LOGITS))
        name = claim.split(",")[0]
        rows.append(row("Ring Self-Attention", f"{name} over tensor parallelism's", setup, published, ratio, ASSUMED,
                        null=1.0, spread=spread))  # fmt: skip
        rows += [point(RING, claim, str(size), most(1, size, RING_LOGIT)) for size in sizes]
        rows += [point(TENSOR, claim, str(size), most(size, 1, TENSOR_LOGIT)) for size in (1, 2, 3, 4, 6, 12)]
    refused = False
    try:
        check(BERT, TrainPlan(2 * HEADS))
    except InputError:
        refused = True
    rows.append(order(TENSOR, "order: stops at the heads", "BERT-Base, 24 devices", refused))
    grows = [max_batch(1, size, RING_LOGIT) for size in sizes]
    linear = all(2 * small <= large for small, large in itertools.pairwise(grows))
    note = "from one size to the next twice as large, at least twice the batch: nothing but the states is replicated"
    rows.append(order("Ring Self-Attention", "order: batch grows with the ring", "1 to 64 devices", linear, note))
    return frame(rows)


@styled
def plot(rows: pd.DataFrame) -> "Figure":
    """Largest batch and longest sequence over the number of devices, and the ratios published and simulated."""
    figure, axes = new_figure(1, 3, (12.0, 3.8))
    for axis, claim in zip(axes, (BATCHES, LENGTH), strict=False):
        for system, colour, mark in ((RING, BLUE, "o"), (TENSOR, ORANGE, "s")):
            part = rows[(rows["claim"] == claim) & (rows["system"] == system)]
            label = f"{system} (to {HEADS} heads)" if system == TENSOR else system
            axis.plot(part["setup"].astype(int), part["simulated"], mark + "-", color=colour, label=label)
        sizes = sorted(set(rows[(rows["claim"] == claim) & (rows["system"] == RING)]["setup"].astype(int)))
        axis.set_xscale("log", base=2)
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.set_yscale("log", base=2)
        axis.set_xlabel("P100")
        axis.set_ylabel(claim)
        axis.legend(fontsize=8)
    ratio = rows[rows["claim"].str.contains(" over ")]
    axis, place = axes[2], range(len(ratio))
    axis.bar([p - 0.2 for p in place], ratio["paper"], 0.38, facecolor="white", edgecolor=INK, label="published")
    axis.bar([p + 0.2 for p in place], ratio["simulated"], 0.38, color=BLUE, label="simulated")
    axis.set_xticks(list(place), [str(claim).split(" over ")[0] for claim in ratio["claim"]])
    axis.set_ylabel("ring of 64 over tensor parallelism")
    axis.set_ylim(0, 17)
    axis.legend(fontsize=8)
    axis.grid(axis="x", visible=False)
    suptitle(figure, "Ring Self-Attention: BERT-Base on P100")
    return figure
