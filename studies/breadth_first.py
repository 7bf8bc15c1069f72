"""Breadth-First Pipeline Parallelism: what looping by chunks gains where a GPU has few samples, 52B on 64 V100."""

import functools
import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from kernels.train_plan import Records
from sim.show.plot_style import MARKERS, PALETTE, new_figure, styled, suptitle
from sim.training.estimate import composed, known_site
from sim.training.price import piece, plan_record
from sim.training.step import train
from studies._gpt import gpt
from studies._verdict import frame, order, point, row
from workloads.training import TrainPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Breadth-First Pipeline Parallelism (Lamy-Poirier 2023): 43 % over Megatron-LM, 52B, small batch a GPU, 64 V100"
SMALL = {"batches": (8, 64)}
MODEL = gpt("52B", 8192, 64, 64, vocab=30592, position_row=1024)
SYSTEM, STACK, FORMAT, SEQ, NUM_DEVICE = "dgx_1", "megatron-2022", "fp16", 1024, 64
BREADTH, DEPTH, PLAIN, DEPTH_SHARDED = (
    "breadth-first", "depth-first (Megatron-LM)", "1F1B (Megatron-LM)", "depth-first, sharded"
)  # fmt: skip
METHODS = (BREADTH, DEPTH, PLAIN, DEPTH_SHARDED)
BATCHES = (8, 16, 32, 64, 128, 256)
FEW = 64  # one sequence a GPU
RATE = "TFLOP/s a GPU"
CHUNKS = (2, 4, 8, 16)
REPLAYED = 3  # of the fastest in closed form
ASSUMED = (
    "layout, microbatch, chunks and sharding the fastest that fit in 32 GB for each method; Megatron-LM holds whole "
    "states on every replica, reduces after the last backward pass, and its stages wait for their transfers, as its "
    "release of 2021 did (stack megatron-2022 on kernels carried over to V100); full recomputation; DGX-1 "
    "with four EDR ports (the cluster is our reading, nothing of it is published in reach)"
)
CAUSE = (
    "; theirs is one batch size of theirs; the launches and synchronisation of many small transfers in their baseline, "
    "which they name, cost only the transfers' time here"
)


class Found(NamedTuple):
    """The fastest plan of a method; `plan` is None where nothing fits."""

    tflop_per_s: float
    plan: TrainPlan | None
    summary: dict[str, Any]


def plans(method: str, batch: int) -> Iterator[TrainPlan]:
    """Every layout of 64 GPUs that the method allows for this batch."""
    for tp, pp, micro in itertools.product((1, 2, 4, 8), (2, 4, 8, 16, 32), (1, 2, 4, 8)):
        dp = NUM_DEVICE // tp // pp
        if dp == 0 or batch % (dp * micro):
            continue
        plan = TrainPlan(
            tp, pp, dp, micro_batch=micro, batch=batch, seq=SEQ, recompute="full", attention="fused_softmax",
            dropout=True, fused_norm=True, fused_loss=False, blocking_hop=method in (DEPTH, PLAIN),
        )  # fmt: skip
        if method == PLAIN:
            yield plan
            continue
        for chunks in (v for v in CHUNKS if pp * v <= MODEL.num_layer):
            if method == BREADTH:
                for zero in (0, 1, 3) if dp > 1 else (0,):
                    yield replace(plan, schedule="breadth-first", interleave=chunks, zero=zero,
                                  dp_traffic="scheduled", keep_gathered=zero == 3)  # fmt: skip
            elif plan.num_microbatch % pp == 0 and (method == DEPTH or dp > 1):
                sharded = method == DEPTH_SHARDED
                yield replace(plan, schedule="interleaved-1f1b", interleave=chunks, zero=3 * sharded,
                              keep_gathered=sharded, dp_traffic="scheduled" if sharded else "fitted")  # fmt: skip


@functools.cache
def prices(plan: TrainPlan) -> Records:
    """Of a layer and the ends."""
    return piece(MODEL, plan, known_site(SYSTEM, NUM_DEVICE, STACK, plan.attention, FORMAT))


def shape(plan: TrainPlan) -> TrainPlan:
    """The plan without what a layer's prices do not depend on: many plans have one shape."""
    return TrainPlan(tp=plan.tp, dp=NUM_DEVICE // plan.tp, micro_batch=plan.micro_batch, seq=SEQ, dropout=True,
                     zero=plan.zero, recompute=plan.recompute, attention=plan.attention, fused_norm=True,
                     fused_loss=False)  # fmt: skip


def best(method: str, batch: int) -> Found:
    """The fastest plan that fits: all in closed form, the best ones replayed with their traffic."""
    timed: list[tuple[float, TrainPlan]] = []
    for plan in plans(method, batch):
        where = known_site(SYSTEM, NUM_DEVICE, STACK, plan.attention, FORMAT)
        one = composed(plan_record(MODEL, plan), prices(shape(plan)), where)
        if one.fits:
            timed.append((one.step_s, plan))
    found = Found(0.0, None, {})
    for _, plan in sorted(timed, key=lambda one: one[0])[:REPLAYED]:
        summary = train(MODEL, SYSTEM, plan, stack=STACK, number_format=FORMAT).summary
        rate = summary["mfu"] * where.peak_flop_per_s / 1e12
        if rate > found.tflop_per_s:
            found = Found(rate, plan, summary)
    return found


def layout(found: Found) -> str:
    """The plan in words."""
    p = found.plan
    if p is None:
        return "does not fit"
    chunks = f" x {p.interleave} chunks" if p.interleave > 1 else ""
    shard = {0: "", 1: ", states shared", 3: ", FSDP"}[p.zero]
    return (
        f"tensor {p.tp}, pipeline {p.pp}{chunks}, data {p.dp}, microbatch {p.micro_batch}{shard}: "
        f"{found.tflop_per_s:.1f} TFLOP/s, bubble {found.summary['bubble_rate']:.0%}"
    )


def run(batches: tuple[int, ...] = BATCHES) -> pd.DataFrame:
    """The speedup over depth-first at small batches a GPU, and who wins where."""
    rows: list[dict[str, Any]] = []
    found = {method: {batch: best(method, batch) for batch in batches} for method in METHODS}
    gain = {b: found[BREADTH][b].tflop_per_s / found[DEPTH][b].tflop_per_s for b in batches}
    small = [b for b in batches if b <= FEW]
    top = max(small, key=gain.__getitem__)
    detail = f"ours: {layout(found[BREADTH][top])}; theirs: {layout(found[DEPTH][top])}"
    note = f"at batch {top}, {detail}; {ASSUMED}" + (CAUSE if abs(gain[top] / 1.43 - 1) > 0.1 else "")
    setup = f"52B, 64 V100, at most {FEW // NUM_DEVICE} sequence a GPU"
    rows.append(row(BREADTH, "speedup over depth-first, up to", setup, 1.43, gain[top], note, null=1.0, said=True))
    for method in METHODS:
        rows += [point(method, RATE, f"batch {b}", one.tflop_per_s, layout(one)) for b, one in found[method].items()]
    for batch in batches:
        others = [found[method][batch] for method in METHODS[1:]]
        first = all(found[BREADTH][batch].tflop_per_s > 0.999 * other.tflop_per_s for other in others)
        note = "; ".join(f"{method}: {layout(found[method][batch])}" for method in METHODS)
        note += "; with as many microbatches as stages both orders are one"
        rows.append(order(BREADTH, "order: none is faster", f"batch {batch}", first, note))
    few = batches[0]
    rows.append(order(DEPTH, "order: faster than 1F1B", f"batch {few}",
                      found[DEPTH][few].tflop_per_s > found[PLAIN][few].tflop_per_s,
                      "chunks divide the bubble, which dominates where microbatches are few"))  # fmt: skip
    one = TrainPlan(8, 8, seq=SEQ, dropout=True, recompute="full", attention="fused_softmax", fused_norm=True,
                    fused_loss=False, blocking_hop=True)  # fmt: skip
    rate = [
        train(MODEL, SYSTEM, replace(one, micro_batch=micro, batch=64 * micro), stack=STACK,
              number_format=FORMAT).summary["mfu"] for micro in (1, 4)
    ]  # fmt: skip
    rows.append(order(PLAIN, "order: a microbatch of one costs efficiency", "tensor 8, pipeline 8, 64 microbatches",
                      rate[0] < rate[1], f"MFU {rate[0]:.3f} at microbatch 1, {rate[1]:.3f} at 4"))  # fmt: skip
    return frame(rows)


@styled
def plot(rows: pd.DataFrame) -> "Figure":
    """Throughput by batch a GPU for each method, and the gain over depth-first, published and simulated."""
    figure, axes = new_figure(1, 2, (9.5, 3.9), width_ratios=(2, 1))
    for method, colour, mark in zip(METHODS, PALETTE, MARKERS, strict=False):
        part = rows[(rows["claim"] == RATE) & (rows["system"] == method) & (rows["simulated"] > 0)]  # 0: nothing fits
        batch = part["setup"].str.removeprefix("batch ").astype(int)
        axes[0].plot(batch / NUM_DEVICE, part["simulated"], mark + "-", color=colour, label=method)
    axes[0].set_xscale("log", base=2)
    axes[0].set_xlabel("sequences a GPU")
    axes[0].set_ylabel("TFLOP/s a GPU")
    axes[0].set_ylim(bottom=0)
    axes[0].legend(fontsize=8)
    head = rows.iloc[0]
    axes[1].bar(["published", "simulated"], [head["paper"], head["simulated"]], color=[PALETTE[1], PALETTE[0]])
    axes[1].axhline(1.0, color="black", lw=1)
    axes[1].set_ylabel("over depth-first, up to")
    axes[1].set_ylim(0, 1.6)
    suptitle(figure, "Breadth-first pipelines: 52B on 64 V100")
    return figure
