"""SSDTrain: activations on NVMe drives under the forward pass, and what that leaves in memory."""

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hw_models import catalog
from kernels import training as t
from kernels.training_step import stage_times
from sim.show.plot_style import FAINT, PALETTE, new_figure, styled, suptitle
from sim.training.fitted.stack import hardware_vector, load
from studies._activation_offload import Module, best_offload, offload_step
from studies._table import row
from workloads import models
from workloads.models.spec import ModelSpec
from workloads.saved_tensors import saved_tensors
from workloads.training import TrainPlan, model_vector, plan_vector

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "SSDTrain (Wu et al. 2024): 47 % less peak memory of activations, at no cost in time"
SYSTEM, TP, SEQ = "dgx_a100_40gb", 2, 1024  # two bridged A100-PCIe-40GB: the same GPU, the same 300 GB/s between two
SHAPES = ((8192, 4), (12288, 3), (16384, 2))  # width, layers: what two such GPUs hold
# one Optane P5800X writes 6.1 and reads 7.2 GB/s (its datasheet); an array of three or four a GPU, behind PCIe 4 x16
DRIVE = (6.1e9, 7.2e9)
ARRAYS = (3, 4)
NOTE = (
    "set-up from memory of the paper: two A100-40GB, tensor parallelism 2, 1,024 tokens, batch 16, arrays of 3 and 4 "
    "drives; GPT layers with dropout (BERT's differ in the mask alone; T5's second attention is not modelled); logits "
    "included, constants of megatron-a100"
)


@functools.cache
def shape(hidden: int, num_layer: int) -> ModelSpec:
    """A GPT of this width, heads of 128."""
    base = models.load("gpt3-13b")
    head = replace(
        base.block[0].attention, num_head=hidden // 128, num_kv_head=hidden // 128, head_dim=128, v_head_dim=128
    )
    block = replace(base.block[0], attention=head, ffn=replace(base.block[0].ffn, inter=4 * hidden))
    return replace(base, name=f"gpt-{hidden}x{num_layer}", hidden=hidden, block=(block,), layer=(0,) * num_layer)


@functools.cache
def modules(hidden: int, num_layer: int, batch: int, dedup: bool = True) -> tuple[Module, ...]:
    """The halves of every layer and the head, with their times and what they keep."""
    model, stack = shape(hidden, num_layer), load("megatron-a100")
    plan = TrainPlan(tp=TP, micro_batch=batch, batch=batch, seq=SEQ, attention="flash2", dropout=True)
    hw, vector = hardware_vector(catalog.system(SYSTEM, TP)), model_vector(model, SEQ, True)
    body, whole = np.zeros((2, len(t.STAGE)))
    stage_times(vector, plan_vector(plan), hw, stack.fit, t.MIDDLE, body)
    stage_times(vector, plan_vector(plan), hw, stack.fit, t.ONLY, whole)
    out = []
    tensors = saved_tensors(model, plan)
    for part, share in (("attention", 1 / 3), ("feed-forward", 2 / 3)):  # 4 h^2 and 8 h^2 of a layer's 12 h^2 weights
        own = [tensor for tensor in tensors if tensor.part == part]
        back = body[t.INPUT_GRAD_S] + body[t.WEIGHT_GRAD_S]
        out.append(
            Module(
                part, body[t.FORWARD_S] * share / num_layer, back * share / num_layer, sum(one.byte for one in own),
                sum(one.byte * (1 if dedup else one.num_saved) for one in own),
            )
        )  # fmt: skip
    edge = whole - body
    logit = batch * SEQ * model.vocab * t.IDEAL_FIT[t.LOGIT_BYTE] / TP
    head = Module("head", edge[t.FORWARD_S], edge[t.INPUT_GRAD_S] + edge[t.WEIGHT_GRAD_S], logit, logit)
    return (*(out * num_layer), head)


def rates(num_drive: int) -> tuple[float, float]:
    """Bytes a second written and read by an array behind its GPU's own PCIe link."""
    link = float(hardware_vector(catalog.system(SYSTEM, TP))[t.HOST_BYTE_PER_S])
    return min(num_drive * DRIVE[0], link), min(num_drive * DRIVE[1], link)


@functools.cache
def case(hidden: int, num_layer: int, num_drive: int, batch: int = 16) -> dict[str, Any]:
    """Peak bytes and seconds: kept, offloaded, recomputed layer by layer."""
    own = modules(hidden, num_layer, batch)
    keep = offload_step(own, 0, *rates(num_drive))
    count, found = best_offload(own, *rates(num_drive))
    twice = offload_step(modules(hidden, num_layer, batch, False), count, *rates(num_drive))
    layer, head = own[:2], own[-1]
    stream = batch * SEQ * hidden * 2.0
    # the inputs, and the larger of the logits and the layer at work
    peak = num_layer * stream + max(head.kept_byte, sum(one.kept_byte for one in layer))
    again = keep.step_s + num_layer * sum(one.forward_s for one in layer)
    return {
        "shape": f"width {hidden}, {num_layer} layers", "batch": batch, "keep_byte": keep.peak_byte,
        "keep_s": keep.step_s, "offload_byte": found.peak_byte, "offload_s": found.step_s, "num_offload": count,
        "recompute_byte": peak, "recompute_s": again, "twice_s": twice.step_s,
        "saved": 1 - found.peak_byte / keep.peak_byte,
    }  # fmt: skip


def run(shapes: tuple[tuple[int, int], ...] = SHAPES, arrays: tuple[int, ...] = ARRAYS) -> pd.DataFrame:
    """Savings and step times of every shape and array, and the largest saving of each array."""
    rows: list[dict[str, Any]] = []
    for drives in arrays:
        cases = [case(hidden, layers, drives) for hidden, layers in shapes]
        for one in cases:
            setup = f"{one['shape']}, {drives} drives"
            halves = f"{one['num_offload']} halves of layers offloaded; {NOTE}"
            rows.append(
                row("SSDTrain", "peak of activations, share saved", setup, (0.0, 0.47), one["saved"], halves, 0.1)
            )
            rows.append(row("SSDTrain", "step time over keeping all", setup, 1.0, one["offload_s"] / one["keep_s"],
                            "the planner sends what costs no time", 0.01))  # fmt: skip
            faster = one["recompute_s"] / one["offload_s"]
            rows.append(row("SSDTrain", "recomputation's step time over it", setup, round(4 / 3, 2), faster,
                            "four passes for three, but for the head's", 0.05))  # fmt: skip
        best = max(float(one["saved"]) for one in cases)
        rows.append(row("SSDTrain", "peak of activations, share saved, up to", f"{drives} drives", 0.47, best,
                        f"bound by what {drives} drives write under a forward pass; {NOTE}", 0.1))  # fmt: skip
    return pd.DataFrame(rows)


@styled
def plot(table: pd.DataFrame) -> "Figure":
    """Throughput over peak memory of keeping, offloading and recomputing at three batches, a panel a shape; the bytes
    held over a step in the last one."""
    figure, axes = new_figure(1, len(SHAPES) + 1, (15, 3.9))
    names = (("keep", "o", PALETTE[0]), ("offload", "s", PALETTE[2]), ("recompute", "^", PALETTE[1]))
    for axis, (hidden, layers) in zip(axes, SHAPES, strict=False):
        cases = [case(hidden, layers, 4, batch) for batch in (4, 8, 16)]
        for name, marker, colour in names:
            place = [one[f"{name}_byte"] / 1e9 for one in cases]
            rate = [one["batch"] * SEQ / one[f"{name}_s"] / 1e3 for one in cases]
            axis.plot(place, rate, marker, ls="-", color=colour, label=name)
            axis.annotate(f"batch {cases[-1]['batch']}", (place[-1], rate[-1]), (-8, 6), textcoords="offset points",
                          fontsize=6, color=FAINT)  # fmt: skip
        axis.set(title=cases[0]["shape"], xlabel="peak of activations, GB", ylabel="thousand tokens a second")
        axis.legend(fontsize=7, loc="center right")
    hidden, layers = SHAPES[1]
    own = modules(hidden, layers, 16)
    for colour, label, count in (
        (PALETTE[0], "keep", 0), (PALETTE[2], "offload", case(hidden, layers, 4)["num_offload"]),
    ):  # fmt: skip
        moment, held = zip(*offload_step(own, count, *rates(4)).curve, strict=True)
        axes[-1].step((0, *moment), np.array((0, *held)) / 1e9, where="post", color=colour, label=label)
    axes[-1].set(title=f"one step, width {hidden}", xlabel="seconds", ylabel="activations held, GB")
    axes[-1].legend(fontsize=7)
    suptitle(figure, "SSDTrain: keep, offload to four drives, recompute")
    return figure
