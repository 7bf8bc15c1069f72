"""SSDTrain: activations on NVMe drives under the forward pass, and what that leaves in memory."""

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from hw_models import catalog, topology
from kernels.machine import LINK_BYTE_PER_S, LINK_HOST
from sim.show.plot_style import FAINT, PALETTE, new_figure, styled, suptitle
from sim.training.estimate import known_site
from sim.training.halves import Half, layer_halves
from sim.training.price import ends_seconds
from studies._activation_offload import Module, best_offload, offload_step
from studies._verdict import frame, point, row
from workloads import models
from workloads.kept_activations import kept_tensors
from workloads.models.spec import ModelSpec
from workloads.training import TrainPlan
from workloads.training_rows import FORWARD

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "SSDTrain (Wu et al. 2024): 47 % less peak memory of activations, at no cost in time"
SMALL = {"shapes": ((12288, 3),)}
SYSTEM, STACK = "dgx_a100_40gb", "megatron-2022"
TP, SEQ = 2, 1024  # two bridged A100-PCIe-40GB: the same GPU, the same 300 GB/s between two
SHAPES = ((8192, 4), (12288, 3), (16384, 2))  # width, layers: what two such GPUs hold
# one Optane P5800X writes 6.1 and reads 7.2 GB/s (its datasheet); an array of three or four a GPU, behind PCIe 4 x16
DRIVE = (6.1e9, 7.2e9)
ARRAYS = (3, 4)
VOCAB = 30592  # BERT's 30,522, padded
LOGIT_BYTE = 4.0  # logits and their gradient in fp16, as its cross entropy runs
SAVED = "peak of activations, share saved"
PEAK, RATE, HELD = "peak of activations, GB", "thousand tokens/s", "activations held, GB"
NAMES = ("keep", "offload", "recompute")
NOTE = (
    "BERT layers (a GPT's with dropout: the mask alone differs) of a vocabulary of 30.5K, fp16 throughout, cross "
    "entropy too, SGD; 1,024 tokens, batch 16, tensor parallelism 2; stack megatron-2022 with FlashAttention 2; "
    "T5's second attention is not modelled"
)


@functools.cache
def shape(hidden: int, num_layer: int) -> ModelSpec:
    """A model of this width, heads of 256."""
    base = models.load("gpt3-13b")
    head = replace(
        base.block[0].attention, num_head=hidden // 256, num_kv_head=hidden // 256, head_dim=256, v_head_dim=256
    )
    block = replace(base.block[0], attention=head, ffn=replace(base.block[0].ffn, inter=4 * hidden))
    return replace(
        base, name=f"bert-{hidden}x{num_layer}", hidden=hidden, vocab=VOCAB, block=(block,), layer=(0,) * num_layer
    )


@functools.cache
def modules(hidden: int, num_layer: int, batch: int, dedup: bool = True) -> tuple[Module, ...]:
    """The halves of every layer and the head, with their times and what they keep."""
    model = shape(hidden, num_layer)
    plan = TrainPlan(tp=TP, micro_batch=batch, batch=batch, seq=SEQ, attention="flash2", dropout=True, fused_norm=True)
    where = known_site(SYSTEM, TP, STACK, plan.attention, "fp16")
    out = []
    tensors = kept_tensors(hidden, model.block[0], plan)
    for part, half in zip(("attention", "feed-forward"), layer_halves(model, model.block[0], plan, where), strict=True):
        own = [tensor for tensor in tensors if tensor.part == part]
        out.append(
            Module(
                part, half.forward_s + half.reduce_s, _backward_s(half), sum(one.byte for one in own),
                sum(one.byte * (1 if dedup else one.num_saved) for one in own),
            )
        )  # fmt: skip
    rows = ends_seconds(model, plan, where)
    forward, whole = (
        float(sum(seconds[low.ops["phase"] == FORWARD].sum() for low, seconds in rows)),
        float(sum(seconds.sum() for _, seconds in rows)),
    )
    logit = batch * SEQ * model.vocab * LOGIT_BYTE / TP
    head = Module("head", forward, whole - forward, logit, logit)
    return (*(out * num_layer), head)


def _backward_s(half: Half) -> float:
    """Its all-reduce runs beside the weight gradient of the first product."""
    return half.backward_s + max(half.weight_grad_s, half.reduce_s)


def rates(num_drive: int) -> tuple[float, float]:
    """Bytes a second written and read by an array behind its GPU's own PCIe link."""
    link = float(topology.link_rows(catalog.system(SYSTEM, TP))[LINK_HOST][LINK_BYTE_PER_S])
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
    """The largest saving with each array; peaks and rates of every way by batch; what a step holds over its time."""
    rows: list[dict[str, Any]] = []
    for drives in arrays:
        cases = [case(hidden, layers, drives) for hidden, layers in shapes]
        best = max(cases, key=lambda one: float(one["saved"]))
        note = (
            f"{best['shape']}, {best['num_offload']} halves of layers offloaded; bound by what {drives} drives write "
            f"under a forward pass; {NOTE}"
        )
        rows.append(row("SSDTrain", f"{SAVED}, up to", f"{drives} drives, widths of 8K to 16K", 0.47,
                        float(best["saved"]), note, null=0.0))  # fmt: skip
        rows += [point("SSDTrain", SAVED, f"{one['shape']}, {drives} drives", float(one["saved"])) for one in cases]
    for hidden, layers in shapes:
        for batch in (4, 8, 16):
            one = case(hidden, layers, max(arrays), batch)
            for name in NAMES:
                setup = f"{one['shape']}; batch {batch}"
                rows.append(point(name, PEAK, setup, one[f"{name}_byte"] / 1e9))
                rows.append(point(name, RATE, setup, batch * SEQ / one[f"{name}_s"] / 1e3))
    hidden, layers = shapes[len(shapes) // 2]
    own = modules(hidden, layers, 16)
    for name, count in (("keep", 0), ("offload", case(hidden, layers, max(arrays))["num_offload"])):
        curve = offload_step(own, count, *rates(max(arrays))).curve
        rows += [point(name, HELD, f"width {hidden}; {second:.6g}", byte / 1e9) for second, byte in curve]
    return frame(rows)


@styled
def plot(table: pd.DataFrame) -> "Figure":
    """Throughput over peak memory of keeping, offloading and recomputing at three batches, a panel a shape; the bytes
    held over a step in the last one."""
    part = table[table["claim"].isin((PEAK, RATE))]
    shapes = list(dict.fromkeys(part["setup"].str.split("; ").str[0]))
    figure, axes = new_figure(1, len(shapes) + 1, (3.75 * (len(shapes) + 1), 3.9))
    for axis, title in zip(axes, shapes, strict=False):
        for name, marker, colour in zip(NAMES, "os^", (PALETTE[0], PALETTE[2], PALETTE[1]), strict=True):
            own = part[(part["system"] == name) & part["setup"].str.startswith(f"{title};")]
            own = own.pivot_table("simulated", "setup", "claim", sort=False)
            axis.plot(own[PEAK], own[RATE], marker, ls="-", color=colour, label=name)
            axis.annotate(own.index[-1].split("; ")[1], (own[PEAK].iloc[-1], own[RATE].iloc[-1]), (-8, 6),
                          textcoords="offset points", fontsize=6, color=FAINT)  # fmt: skip
        axis.set(title=title, xlabel=PEAK, ylabel="thousand tokens a second")
        axis.set_xlim(left=0)
        axis.margins(y=0.2)
        axis.set_ylim(bottom=0)
        axis.legend(fontsize=7, loc="lower right")
    held = table[table["claim"] == HELD]
    for name, colour in zip(NAMES, (PALETTE[0], PALETTE[2]), strict=False):
        own = held[held["system"] == name]
        second = own["setup"].str.split("; ").str[1].astype(float)
        axes[-1].step([0, *second], [0, *own["simulated"]], where="post", color=colour, label=name)
    axes[-1].set(title=f"one step, {held['setup'].iloc[0].split('; ')[0]}", xlabel="seconds", ylabel=HELD)
    axes[-1].legend(fontsize=7)
    suptitle(figure, "SSDTrain: keep, offload to drives, recompute")
    return figure
