"""FSDP against DDP: memory, what is exposed, backward prefetch, the rate limiter, the batch where traffic hides."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hw_models import catalog
from sim.fabric.overlap import core_share
from sim.show.plot_style import BLUE, GREEN, ORANGE, new_figure, styled, suptitle
from sim.training.fitted.stack import hardware_vector, load
from sim.training.fitted.step import TrainResult, train
from sim.training.fitted.traffic import unit_seconds
from sim.training.sharded import Sharded, sharded_step
from studies._claims import frame, holds, row
from studies._gpt import gpt
from workloads.training import TrainPlan, model_flop, model_vector, plan_vector

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "PyTorch FSDP (Zhao et al. 2023): as fast as DDP where that fits, 18 % from backward prefetch, GPT-175B at 55 %"
STACK, SYSTEM = "megatron-a100", "dgx_a100"
# decoders of as many parameters as the paper's T5 (all its layers are taken as one kind)
SIZES = {"611M": gpt("611M", 1536, 19, 16, vocab=32128), "2.28B": gpt("2.28B", 2560, 28, 20, vocab=32128),
         "11B": gpt("11B", 4096, 54, 32, vocab=32128)}  # fmt: skip
LARGE = gpt("175B", 12288, 96, 96)
BATCH = 8  # sequences of 512 tokens a GPU
RATE = {1: 173.0, 2: 186.0}  # TFLOP/s a GPU of GPT-175B by sequences a GPU
REMEMBERED = "the paper's numbers as its text is remembered, not read again"
ASSUMED = (
    "one node for T5, 128 GPUs for 175B; full recomputation; unfused attention; rates and efficiencies fitted on "
    "Megatron's A100 runs; 24 of 108 cores with a collective"
)


def plan(num_device: int, zero: int, batch: int, seq: int = 512) -> TrainPlan:
    """Data parallel alone, `batch` sequences a device; ZeRO 3 is FSDP, 0 is DDP."""
    return TrainPlan(
        dp=num_device, micro_batch=batch, batch=num_device * batch, seq=seq, recompute="full", zero=zero,
        grad_byte=2.0 if zero else 4.0, attention="fused_softmax", dp_traffic="scheduled",
    )  # fmt: skip


def data_parallel(size: str, zero: int, batch: int) -> TrainResult:
    """A step on one node."""
    return train(SIZES[size], SYSTEM, plan(8, zero, batch), stack=STACK)


def large(batch: int, num_device: int = 128, *, prefetch: bool = True, limit: int = 2) -> tuple[float, Sharded]:
    """GPT-175B fully sharded, layer by layer: TFLOP/s a GPU (of the model, no recomputation), and the replay."""
    laid = plan(num_device, 3, batch, 2048)
    system, fit = catalog.system(SYSTEM, num_device), load(STACK).fit
    hw, vector, layers = hardware_vector(system), model_vector(LARGE, 2048), LARGE.num_layer
    found = train(LARGE, SYSTEM, laid, stack=STACK)
    once = found.stage.iloc[0]
    backward_s = float(once["input_grad_s"] + once["weight_grad_s"] + once["recompute_s"])
    gather, scatter = unit_seconds(vector, plan_vector(laid), hw, fit, 1)
    slow = 1 / (1 - core_share(system.device))
    step = sharded_step(
        layers, float(once["forward_s"]) / layers, backward_s / layers, float(gather[0]), float(scatter[0]),
        limit=limit, backward_prefetch=prefetch, slowdown=slow,
    )  # fmt: skip
    step_s = step.times.total_s + found.summary["optimizer_s"] + found.summary["host_s"]
    return model_flop(LARGE, laid) / step_s / num_device / 1e12, step


def run(sizes: tuple[str, ...] = tuple(SIZES), far: int = 512) -> pd.DataFrame:
    """Who fits, how fast, how many bytes, what prefetch brings and the limiter costs; `far` GPUs at most."""
    rows: list[dict[str, Any]] = []
    for size in sizes:
        ddp, fsdp = (data_parallel(size, zero, BATCH).summary for zero in (0, 3))
        setup = f"{size}, 8 A100, {BATCH} sequences of 512 a GPU"
        need = ", ".join(f"{name} {s['mem_total_byte'] / 2**30:.0f} GiB" for name, s in (("DDP", ddp), ("FSDP", fsdp)))
        fits = size != "11B"
        rows.append(holds("DDP", f"memory: {'fits' if fits else 'does not fit'}", setup, ddp["fits"] == fits,
                          f"{need}; {REMEMBERED}"))  # fmt: skip
        rows.append(holds("FSDP", "memory: fits", setup, fsdp["fits"], need))
        if fits:
            note = f"published: about the same; ours is faster as its update is shared out; {REMEMBERED}; {ASSUMED}"
            rows.append(row("FSDP", "throughput over DDP", setup, 1.0, ddp["step_s"] / fsdp["step_s"], 0.1, note))
    one = (
        data_parallel(sizes[0], 0, 1).summary,
        train(
            SIZES[sizes[0]],
            SYSTEM,
            replace(plan(8, 3, 1), grad_byte=4.0, weight_byte=4.0, recompute="none"),
            stack=STACK,
        ).summary,
    )
    note = "two gathers and a scatter against an all-reduce, in equal formats (Rajbhandari et al. 2020: 3 Psi to 2 Psi)"
    ratio = one[1]["dp_s"] / one[0]["dp_s"]
    rows.append(row("FSDP", "traffic over DDP", f"{sizes[0]}, 8 A100", 1.5, ratio, 0.05, note))
    near = {batch: large(batch) for batch in RATE}
    for batch, published in RATE.items():
        note = (
            f"{REMEMBERED}; FLOPs of the model: with recomputation counted, as theirs may be, ours is "
            f"{near[batch][0] * 4 / 3:.0f}; {ASSUMED}"
        )
        rows.append(row("FSDP", "TFLOP/s a GPU", f"GPT-175B, 128 GPUs, batch {batch}", published, near[batch][0], 0.1,
                        note))  # fmt: skip
    rate, _ = large(1, far)
    rows.append(row("FSDP", "scaling", f"GPT-175B, {far} over 128 GPUs", 1.0, rate / near[1][0], 0.05,
                    f"published: near-linear; {REMEMBERED}; rings without contention"))  # fmt: skip
    late, _ = large(1, prefetch=False)
    note = (
        "one communicator: without prefetch a gather waits for the scatter before it, and that for its layer; "
        f"{REMEMBERED}; {ASSUMED}"
    )
    setup = "GPT-175B, 128 GPUs, batch 1"
    rows.append(row("FSDP", "backward prefetch, speedup", setup, 1.18, near[1][0] / late, 0.1, note))
    free_rate, free = large(1, limit=0)
    held, loose = near[1][1].most_gathered, free.most_gathered
    note = f"{held} layers gathered at once instead of {loose}; what a fragmented allocator loses is not modelled"
    rows.append(holds("FSDP", "order: the rate limiter saves memory for nothing", setup,
                      held == 2 < loose and near[1][0] > 0.99 * free_rate, note))  # fmt: skip
    small, many = (data_parallel("2.28B", 3, batch).summary for batch in (1, 16))
    shares = [s["exposed_dp_s"] / s["dp_s"] for s in (small, many)]
    note = f"{shares[0]:.0%} of it is exposed at 1, {shares[1]:.0%} at 16"
    rows.append(holds("FSDP", "order: a larger batch hides the traffic", "2.28B, 8 A100, batch 1 and 16",
                      shares[0] > 0.25 and shares[1] < 0.05, note))  # fmt: skip
    return frame(rows)


@styled
def plot(rows: pd.DataFrame) -> "Figure":
    """TFLOP/s by size and by batch, exposed share by batch, and published beside simulated numbers."""
    figure, axes = new_figure(1, 3, (12.5, 3.8))
    names = list(SIZES)
    batches = [1, 2, 4, 8, 16, 32]
    for zero, name, colour, shift in ((0, "DDP", ORANGE, -0.2), (3, "FSDP", BLUE, 0.2)):
        found = [data_parallel(size, zero, BATCH).summary for size in names]
        rate = [s["mfu"] * 312 if s["fits"] else 0.0 for s in found]
        axes[0].bar(np.arange(len(names)) + shift, rate, 0.38, color=colour, label=name)
        for at, s in enumerate(found):
            if not s["fits"]:
                axes[0].text(at + shift, 2, "OOM", ha="center", color=colour, fontsize=8)
        curve = [data_parallel("2.28B", zero, batch).summary for batch in batches]
        axes[1].plot(batches, [s["mfu"] * 312 for s in curve], "o-", color=colour, label=f"{name}: TFLOP/s")
        axes[1].plot(batches, [100 * s["exposed_dp_s"] / s["step_s"] for s in curve], "s--", color=colour,
                     label=f"{name}: % exposed")  # fmt: skip
    axes[0].set_xticks(range(len(names)), names)
    axes[0].set_ylabel("TFLOP/s a GPU (model)")
    axes[0].set_title("by size, 8 A100")
    axes[1].set_xscale("log", base=2)
    axes[1].set_xticks(batches, [str(batch) for batch in batches])
    axes[1].set_xlabel("sequences of 512 a GPU")
    axes[1].set_title("2.28B by batch")
    for axis in axes[:2]:
        axis.legend(fontsize=7)
    shown = rows[~rows["claim"].str.contains("memory|order")]
    place = np.arange(len(shown))
    ratio = shown["simulated"] / shown["paper"]
    axes[2].barh(place, ratio, color=GREEN)
    axes[2].axvline(1.0, color="black", lw=1)
    parts = [(one["claim"], one["setup"].split(", ")) for one in shown.to_dict("records")]
    labels = [f"{claim}\n{setup[0]}, {setup[-1]}" for claim, setup in parts]
    axes[2].set_yticks(place, labels, fontsize=6.5)
    axes[2].invert_yaxis()
    axes[2].set_title("simulated over published")
    axes[2].grid(axis="y", visible=False)
    suptitle(figure, "FSDP and DDP on A100 80 GB")
    return figure
