"""FSDP against DDP: memory, what is exposed, backward prefetch, the rate limiter, the batch where traffic hides."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hw_models import catalog
from kernels.train_step import layer_traffic_s
from sim.fabric.overlap import core_share
from sim.show.plot_style import BLUE, GREEN, ORANGE, new_figure, styled, suptitle
from sim.training.price import piece, plan_record, site
from sim.training.sharded import Sharded, sharded_step
from sim.training.stack import load_stack
from sim.training.step import TrainResult, train
from studies._gpt import gpt
from studies._panels import from_zero, records
from studies._verdict import frame, order, point, row
from workloads.training import TrainPlan
from workloads.training_flop import model_flop

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "PyTorch FSDP (Zhao et al. 2023): as fast as DDP where that fits, 18 % from backward prefetch, GPT-175B at 55 %"
SMALL = {"far": 256}
STACK, SYSTEM = "llm-foundry", "dgx_a100"
# decoders of as many parameters as the paper's T5 (all its layers are taken as one kind)
SIZES = {"611M": gpt("611M", 1536, 19, 16, vocab=32128), "2.28B": gpt("2.28B", 2560, 28, 20, vocab=32128),
         "11B": gpt("11B", 4096, 54, 32, vocab=32128)}  # fmt: skip
LARGE = gpt("175B", 12288, 96, 96)
BATCH = 8  # sequences of 512 tokens a GPU
BATCHES = (1, 2, 4, 8, 16, 32)
SPEED = {"611M": (15.18, 14.61), "2.28B": (27.40, 25.76)}  # TFLOP/s a GPU of T5, FSDP and DDP
RATE = {1: (128, 173.0), 2: (512, 186.0)}  # GPUs, and TFLOP/s a GPU of GPT-175B, by sequences a GPU
BY_SIZE, BY_BATCH, EXPOSED = "TFLOP/s a GPU by size", "TFLOP/s a GPU by batch", "traffic exposed, % of the step"
ASSUMED = (
    "GPT shapes of T5's sizes on one node, batch of 8 x 512 assumed; full recomputation; unfused attention; dropout as "
    "minGPT and T5 have it by default; eager operators over PyTorch's FSDP of that year (stack llm-foundry, fitted on "
    "other models); 8 x 200 Gbit/s a node for the paper's 2 Tbit/s; 24 of 108 cores with a collective"
)
HARDWARE = "FLOPs of the hardware, recomputation counted: 55 % of the peak is printed for 173"


def plan(num_device: int, zero: int, batch: int, seq: int = 512) -> TrainPlan:
    """Data parallel alone, `batch` sequences a device; ZeRO 3 is FSDP, 0 is DDP."""
    return TrainPlan(
        dp=num_device, micro_batch=batch, batch=num_device * batch, seq=seq, recompute="full", zero=zero,
        grad_byte=2.0 if zero else 4.0, attention="unfused", dp_traffic="scheduled", fused_norm=True, dropout=True,
        fused_loss=False,
    )  # fmt: skip


def data_parallel(size: str, zero: int, batch: int) -> TrainResult:
    """A step on one node: in 32 bits where DDP runs too, products in tf32 (27 TFLOP/s are more than the fp32 units
    have); the paper names bf16 with the largest alone."""
    own = plan(8, zero, batch)
    if size not in SPEED:
        return train(SIZES[size], SYSTEM, own, stack=STACK)
    wide = replace(own, weight_byte=4.0, act_byte=4.0, grad_byte=4.0, optimizer_byte=8.0)
    return train(SIZES[size], SYSTEM, wide, stack=STACK, number_format="tf32")


def rate_of(size: str, run_: TrainResult, batch: int) -> float:
    """TFLOP/s a GPU of the model, on one node."""
    return model_flop(SIZES[size], plan(8, 0, batch)) / float(run_.summary["step_s"]) / 8 / 1e12


def large(batch: int, num_device: int = 128, *, prefetch: bool = True, limit: int = 2) -> tuple[float, Sharded]:
    """GPT-175B fully sharded, layer by layer: TFLOP/s a GPU (of the model, no recomputation), and the replay."""
    laid = plan(num_device, 3, batch, 2048)
    where, layers = site(catalog.system(SYSTEM, num_device), load_stack(STACK), laid.attention), LARGE.num_layer
    found = train(LARGE, SYSTEM, laid, stack=STACK)
    once = found.stage.iloc[0]
    backward_s = float(once["input_grad_s"] + once["weight_grad_s"] + once["recompute_s"])
    gather_s, scatter_s, _ = layer_traffic_s(
        plan_record(LARGE, laid), piece(LARGE, laid, where), where.stack, where.machine
    )
    slow = 1 / (1 - core_share(where.system.device))
    step = sharded_step(
        layers, float(once["forward_s"]) / layers, backward_s / layers, gather_s, scatter_s,
        limit=limit, backward_prefetch=prefetch, slowdown=slow,
    )  # fmt: skip
    step_s = step.times.total_s + found.summary["optimizer_s"] + found.summary["host_s"]
    return model_flop(LARGE, laid) / step_s / num_device / 1e12, step


def run(sizes: tuple[str, ...] = tuple(SIZES), far: int = 512) -> pd.DataFrame:
    """Who fits, how fast, what scale loses, what prefetch brings and the limiter costs; `far` GPUs at most."""
    rows: list[dict[str, Any]] = []
    for size in sizes:
        steps = {name: data_parallel(size, zero, BATCH) for name, zero in (("DDP", 0), ("FSDP", 3))}
        both = {name: one.summary for name, one in steps.items()}
        setup = f"{size}, 8 A100, {BATCH} sequences of 512 a GPU"
        need = ", ".join(f"{name} {s['mem_total_byte'] / 2**30:.0f} GiB" for name, s in both.items())
        fits = size != "11B"
        rows.append(order("DDP", f"memory: {'fits' if fits else 'does not fit'}", setup, both["DDP"]["fits"] == fits,
                          need))  # fmt: skip
        rows.append(order("FSDP", "memory: fits", setup, both["FSDP"]["fits"], need))
        if size in SPEED:
            sharded, whole = SPEED[size]
            note = f"ours gains as its update is shared out, less with a larger batch; {ASSUMED}"
            rows.append(row("FSDP", "throughput over DDP", setup, sharded / whole,
                            both["DDP"]["step_s"] / both["FSDP"]["step_s"], note, null=1.0))  # fmt: skip
        rows += [point(name, BY_SIZE, size, rate_of(size, one, BATCH) if one.summary["fits"] else 0.0)
                 for name, one in steps.items()]  # fmt: skip
    if "11B" in sizes:
        one, many = (train(SIZES["11B"], SYSTEM, plan(n, 3, BATCH), stack=STACK).summary["mfu"] for n in (8, far))
        rows.append(row("FSDP", "scaling", f"T5-11B, {far} over 8 GPUs", 0.93, many / one,
                        f"rings without contention; {ASSUMED}", null=1.0))  # fmt: skip
    near = {batch: large(batch, num_device=min(count, far)) for batch, (count, _) in RATE.items()}
    for batch, (count, published) in RATE.items():
        rate = near[batch][0] * 4 / 3
        note = f"{HARDWARE}; of the model alone {near[batch][0]:.0f}; {ASSUMED}"
        setup = f"GPT-175B, {min(count, far)} GPUs, batch {batch}"
        rows.append(row("FSDP", "TFLOP/s a GPU", setup, published, rate, note))
    rate, _ = large(1, far)
    rows.append(row("FSDP", "scaling", f"GPT-175B, {far} over 128 GPUs", 1.0, rate / near[1][0],
                    "published: near-linear; rings without contention", bound=0.05))  # fmt: skip
    late, _ = large(1, prefetch=False)
    note = "one communicator: without prefetch a gather waits for the scatter before it, and that for its layer"
    setup = "GPT-175B, 128 GPUs, batch 1"
    rows.append(row("FSDP", "backward prefetch, speedup", setup, 1.18, near[1][0] / late, f"{note}; {ASSUMED}",
                    null=1.0))  # fmt: skip
    free_rate, free = large(1, limit=0)
    held, loose = near[1][1].most_gathered, free.most_gathered
    note = f"{held} layers gathered at once instead of {loose}; what a fragmented allocator loses is not modelled"
    rows.append(order("FSDP", "order: the rate limiter saves memory for nothing", setup,
                      held == 2 < loose and near[1][0] > 0.99 * free_rate, note))  # fmt: skip
    curve = {(name, batch): data_parallel("2.28B", zero, batch) for name, zero in (("DDP", 0), ("FSDP", 3))
             for batch in BATCHES}  # fmt: skip
    traffic = {batch: curve["FSDP", batch].summary for batch in (1, 16)}
    shares = [one["exposed_dp_s"] / one["dp_s"] for one in traffic.values()]
    note = f"{shares[0]:.0%} of it is exposed at 1, {shares[1]:.0%} at 16"
    rows.append(order("FSDP", "order: a larger batch hides the traffic", "2.28B, 8 A100, batch 1 and 16",
                      shares[1] < 0.05 < shares[0], note))  # fmt: skip
    for (name, batch), one in curve.items():
        rows.append(point(name, BY_BATCH, str(batch), rate_of("2.28B", one, batch)))
        share = one.summary["exposed_dp_s"] / one.summary["step_s"]
        rows.append(point(name, EXPOSED, str(batch), 100 * share))
    return frame(rows)


@styled
def plot(rows: pd.DataFrame) -> "Figure":
    """TFLOP/s by size and by batch, exposed share by batch, and simulated over published numbers."""
    figure, axes = new_figure(1, 4, (15.5, 3.8), width_ratios=(1, 1, 1, 1.2))
    for name, colour, shift in (("DDP", ORANGE, -0.2), ("FSDP", BLUE, 0.2)):
        own = rows[rows["system"] == name]
        size = own[own["claim"] == BY_SIZE]
        axes[0].bar(np.arange(len(size)) + shift, size["simulated"], 0.38, color=colour, label=name)
        for at, value in enumerate(size["simulated"]):
            if not value:
                axes[0].text(at + shift, 2, "OOM", ha="center", color=colour, fontsize=8)
        axes[0].set_xticks(range(len(size)), size["setup"])
        for axis, claim in ((axes[1], BY_BATCH), (axes[2], EXPOSED)):
            curve = own[own["claim"] == claim]
            batches = curve["setup"].astype(int)
            axis.plot(batches, curve["simulated"], "o-", color=colour, label=name)
            axis.set_xscale("log", base=2)
            axis.set_xticks(batches, curve["setup"])
            axis.set_xlabel("sequences of 512 a GPU, 2.28B")
            from_zero(axis)
    for axis, label in zip(axes, ("TFLOP/s a GPU (model), 8 A100", "TFLOP/s a GPU (model)", EXPOSED), strict=False):
        axis.set_ylabel(label)
        axis.legend(fontsize=7)
    shown = rows[(rows["kind"] == "number") & (rows["verdict"] != "said")]
    place = np.arange(len(shown))
    axes[3].barh(place, shown["simulated"] / shown["paper"], color=GREEN)
    axes[3].axvline(1.0, color="black", lw=1)
    parts = [(one["claim"], one["setup"].split(", ")) for one in records(shown)]
    axes[3].set_yticks(place, [f"{claim}\n{', '.join(setup[:2])}" for claim, setup in parts], fontsize=6.5)
    axes[3].invert_yaxis()
    axes[3].set_xlabel("simulated over published")
    axes[3].grid(axis="y", visible=False)
    suptitle(figure, "FSDP and DDP on A100 80 GB")
    return figure
