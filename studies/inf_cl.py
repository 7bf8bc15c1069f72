"""Which contrastive batch fits whose similarities are never all there, at what cost? (Inf-CL, GradCache)"""

import functools
from typing import TYPE_CHECKING, Any

import pandas as pd

from hw_models import catalog
from kernels.optable import ALL_GATHER, P2P
from sim.show.plot_style import BLUE, PALETTE, new_figure, styled, suptitle
from sim.training.estimate import Estimate, estimate, known_site
from sim.training.two_streams import COMPUTE, LINK, TwoStreams
from studies._gpt import gpt
from studies._second_order import Product, exchange_s, products_s, stream_s
from studies._verdict import frame, order, point, row
from workloads.training import TrainPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Inf-CL (Cheng et al. 2024): ViT-L/14 with a contrastive batch of 4M on 8 A800 and 12M on 32, at the same speed"
SMALL: dict[str, Any] = {"batches": (2**16, 2**18, 2**22)}
SYSTEM, STACK = "hgx_a800", "llm-foundry"
DIM, SUB = 768, 128  # of the features; samples of a GPU that go through the towers at once
TOWERS = ((gpt("ViT-L/14", 1024, 24, 16, vocab=1024, position_row=257), 256),
          (gpt("text of ViT-L/14", 768, 12, 12, vocab=49408, position_row=77), 77))  # fmt: skip
BATCHES = tuple(2**power for power in range(15, 24))
MOST = {8: 4 * 2**20, 32: 12 * 2**20}
CLIP, OPEN, INF = "CLIP", "OpenCLIP", "Inf-CL"
MEMORY, SPEED, LOSS = "GB a GPU", "samples/s a GPU", "GB a GPU of the loss"
FEATURE_BYTE = 4.0 * 3  # a value and tower: feature, gradient, what arrives from the neighbour
NOTE = (
    "ViT-L/14 at 224 pixels, features of 768 in 32 bits; towers in parts of 128 samples a GPU, all but the features "
    "computed twice (GradCache), on every side; pixels in host memory; the loss's similarities once, in 32 bits"
)


@functools.cache
def towers(num_gpu: int) -> tuple[Estimate, ...]:
    """Both towers with one part of the batch: the GradCache baseline's unit of work."""
    out = []
    for model, seq in TOWERS:
        plan = TrainPlan(
            dp=num_gpu, micro_batch=SUB, batch=SUB * num_gpu, seq=seq, attention="flash2", recompute="none"
        )
        out.append(estimate(model, plan, known_site(SYSTEM, num_gpu, STACK, "flash2")))
    return tuple(out)


def loss_byte(way: str, batch: int, num_gpu: int) -> float:
    """Bytes of a GPU that the loss holds: similarities (all, its own rows, a tile) and features (all, or its own)."""
    own = batch / num_gpu
    features = {CLIP: batch, OPEN: batch, INF: own}[way] * DIM * 2 * FEATURE_BYTE
    return {CLIP: 4.0 * batch * batch, OPEN: 4.0 * own * batch, INF: 0.0}[way] + features


def total_byte(way: str, batch: int, num_gpu: int) -> float:
    """With the towers' states and the activations of one part."""
    both = towers(num_gpu)
    return sum(one.peak_byte for one in both) - known_reserve(num_gpu) + loss_byte(way, batch, num_gpu)


def known_reserve(num_gpu: int) -> float:
    """What both towers' peaks count and one process has once."""
    return float(known_site(SYSTEM, num_gpu, STACK, "flash2").stack["reserve_byte"])


def loss_s(way: str, batch: int, num_gpu: int) -> float:
    """Seconds of similarities, softmax and both features' gradients. What is kept is written and read again; Inf-CL
    multiplies each tile once more in the backward pass and passes features round a ring under the products."""
    where = known_site(SYSTEM, num_gpu, STACK, "flash2")
    own = max(1, batch // num_gpu)
    rows = own if way != CLIP else batch
    if way != INF:
        products = products_s(where, [Product(rows, batch, DIM), Product(rows, DIM, batch, 2)], "tf32")
        return (
            products
            + stream_s(where, 4.0 * rows * batch * 6)
            + exchange_s(where, ALL_GATHER, 4.0 * batch * DIM * 2, num_gpu)
        )
    streams = TwoStreams()
    tile = products_s(where, [Product(own, own, DIM)], "tf32")
    hop = exchange_s(where, P2P, 4.0 * own * DIM, num_gpu) if num_gpu > 1 else 0.0
    for times in (1, 3):
        arrived = -1
        for turn in range(num_gpu):
            streams.add(COMPUTE, times * tile, [arrived] if turn and num_gpu > 1 else [])
            if turn + 1 < num_gpu:
                arrived = streams.add(LINK, hop * min(times, 2), [])
    return streams.run().total_s


def samples_per_s(way: str, batch: int, num_gpu: int) -> float:
    """Of a GPU: both towers forward, then forward and backward, a part at a time, and the loss."""
    parts = max(1, batch // num_gpu // SUB)
    once = sum(one.step_s for one in towers(num_gpu))
    return batch / num_gpu / (parts * once * 4 / 3 + loss_s(way, batch, num_gpu))


def run(batches: tuple[int, ...] = BATCHES) -> pd.DataFrame:
    """What fits, memory and speed by batch, and what a second pass of the towers costs."""
    device = catalog.device("a800")
    room = device.mem_byte - device.mem_reserved_byte
    rows: list[dict[str, Any]] = []
    for count, batch in MOST.items():
        need = {way: total_byte(way, batch, count) for way in (CLIP, OPEN, INF)}
        text = ", ".join(f"{way} {byte / 1e9:,.0f} GB" for way, byte in need.items())
        rows.append(
            order(
                INF,
                f"memory: a batch of {batch // 2**20}M fits, with none of the others",
                f"{count} A800",
                need[INF] < room < min(need[OPEN], need[CLIP]),
                f"{text}; {NOTE}",
            )
        )
    ratio = loss_byte(OPEN, 2**20, 8) / loss_byte(INF, 2**20, 8)
    rows.append(
        row(
            INF,
            "memory of OpenCLIP's loss over its own",
            "8 A800, batch 1M",
            100.0,
            ratio,
            f"published: two orders of magnitude, at no stated batch; {NOTE}",
            tag="approx",
            said=True,
        )
    )
    shared = [b for b in batches if total_byte(OPEN, b, 8) < room]
    slower = [samples_per_s(OPEN, b, 8) / samples_per_s(INF, b, 8) for b in shared]
    rows.append(order(INF, "order: as fast as OpenCLIP where both fit (5 %)", "8 A800", max(slower) < 1.05,
                      f"at most {max(slower) - 1:+.1%}; {NOTE}"))  # fmt: skip
    for batch in batches:
        for way in (CLIP, OPEN, INF):
            rows.append(point(way, MEMORY, str(batch), total_byte(way, batch, 8) / 1e9))
            rows.append(point(way, LOSS, str(batch), loss_byte(way, batch, 8) / 1e9))
            if total_byte(way, batch, 8) < room:
                rows.append(point(way, SPEED, str(batch), samples_per_s(way, batch, 8)))
    return frame(rows)


@styled
def plot(table: pd.DataFrame) -> "Figure":
    """Memory of a GPU by batch with the device's, that of the loss alone, and speed, on eight A800."""
    figure, axes = new_figure(1, 3, (12.5, 3.8))
    for axis, claim in zip(axes, (MEMORY, LOSS, SPEED), strict=True):
        for way, colour in ((CLIP, PALETTE[2]), (OPEN, PALETTE[1]), (INF, BLUE)):
            part = table[(table["claim"] == claim) & (table["system"] == way)]
            axis.plot(part["setup"].astype(int), part["simulated"], "o-", color=colour, label=way)
        axis.set_xscale("log", base=2)
        axis.set(xlabel="batch, 8 A800", ylabel=claim)
        axis.legend(fontsize=7)
        if claim != SPEED:
            axis.set_yscale("log")
            axis.axhline(80, color="black", lw=0.8, ls=":")
    axes[2].set_ylim(0, 1.2 * float(table[table["claim"] == SPEED]["simulated"].max()))
    suptitle(figure, "Inf-CL: contrastive loss in tiles round a ring, ViT-L/14")
    return figure
