"""COAT: optimizer states and activations of Llama-2 in 8 bits, what that saves and how much faster it is."""

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hw_models import catalog, device
from kernels import optable
from kernels import training as t
from kernels.formats import FORMAT_CODE
from kernels.training_step import RESULT, plan_step
from sim.show.plot_style import PALETTE, new_figure, styled, suptitle
from sim.training.fitted.stack import hardware_vector, load
from studies._table import row
from workloads import models
from workloads.saved_tensors import SavedTensor, saved_tensors
from workloads.training import TrainPlan, model_vector, plan_vector

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "COAT (Xi et al. 2024): 1.54 times less memory and 1.43 times faster than BF16 with FP8 states and activations"
SYSTEM, SEQ = "dgx_h100", 2048
# table 7: GB a GPU of optimizer states, activations, peak; tokens a second and GPU at the largest batch
Published = dict[str, tuple[float | None, float | None, float]]
MEMORY: dict[tuple[str, int], Published] = {
    ("llama-2-7b", 4): {"BF16": (13.1, 25.8, 55.1), "COAT": (3.2, 16.9, 35.6)},
    ("llama-2-7b", 8): {"BF16": (None, None, 41.2), "COAT": (None, None, 27.0)},
    ("llama-2-13b", 4): {"BF16": (None, None, 76.1), "COAT": (None, None, 49.1)},
    ("llama-2-13b", 8): {"BF16": (None, None, 49.4), "COAT": (None, None, 32.5)},
}
BATCH = {"llama-2-7b": 2, "llama-2-13b": 1}  # a GPU; 13B's is what its published peaks leave room for
SPEED = {("llama-2-7b", 4): (7730, 11257), ("llama-2-7b", 8): (8238, 11241), ("llama-2-13b", 4): (2345, 5295),
         ("llama-2-13b", 8): (3907, 5650)}  # fmt: skip
# fully sharded in mixed precision: fp32 weights and gradients, of which the plan's own weights are 2 B
GRAD_BYTE, MASTER_BYTE = 4.0, 2.0
STATE_BYTE = {"BF16": 8.0, "COAT": 2.0}  # two moments
# an unfused norm keeps its input as a copy in fp32 besides
NORM_COPY_BYTE = 4.0
# COAT quantizes what enters a matrix product a tensor at a time (1 B a value) and what enters a norm or an activation
# function in groups of 16 with a 2 B scale; the kernels of attention keep 2 B
GROUP_BYTE = 1 + 2 / 16
NOTE = "fp32 shards of weights and gradients, which the published peaks of 4 and 8 GPUs imply; logits 10 B each"


def stored_byte(tensor: SavedTensor, system: str) -> float:
    """Bytes that a tensor takes under a system (2 B a value in the list)."""
    norm = "norm" in tensor.name
    if system == "BF16":
        return tensor.byte * (1 + NORM_COPY_BYTE / 2 if norm else 1)
    if tensor.name.startswith(("query", "key", "value", "row sums")):
        return tensor.byte
    if tensor.name == "result of attention":  # for attention in 2 B, for the product after it in 1
        return tensor.byte * 1.5
    if norm or "activation function" in tensor.name or tensor.name == "result of the up projection":
        return tensor.byte / 2 * GROUP_BYTE
    return tensor.byte / 2


def memory(model: str, num_device: int, batch: int, system: str) -> dict[str, float]:
    """Bytes of one GPU by kind with `batch` sequences, fully sharded over `num_device`."""
    spec, out = models.load(model), np.zeros(len(t.MEMORY))
    plan = TrainPlan(dp=num_device, micro_batch=batch, batch=batch * num_device, seq=SEQ, zero=3, grad_byte=GRAD_BYTE,
                     optimizer_byte=STATE_BYTE[system] + MASTER_BYTE)  # fmt: skip
    t.plan_memory(model_vector(spec, SEQ), plan_vector(plan), np.array(t.IDEAL_FIT), 0.0, out)
    kept = sum(stored_byte(tensor, system) for tensor in saved_tensors(spec, plan)) * spec.num_layer
    share = STATE_BYTE[system] / plan.optimizer_byte
    found = {
        "optimizer": out[t.M_OPTIMIZER] * share, "activation": kept + out[t.M_LOGIT],
        "weight and gradient": out[t.M_WEIGHT] + out[t.M_GRAD] + out[t.M_OPTIMIZER] * (1 - share),
        "gathered layers": out[t.M_BUFFER],
    }  # fmt: skip
    return {name: float(value) for name, value in found.items()}


def largest_batch(model: str, num_device: int, system: str) -> int:
    """The largest power of two of sequences a GPU that fits, as the published batches are."""
    limit, batch = float(hardware_vector(catalog.system(SYSTEM, num_device))[t.MEM_BYTE]), 1
    while sum(memory(model, num_device, 2 * batch, system).values()) <= limit:
        batch *= 2
    return batch


@functools.cache
def product_gain(model: str, token: int) -> float:
    """Time of a layer's matrix products, all three passes, in BF16 over FP8, with the kernels fitted to an H100."""
    spec = models.load(model)
    block, h = spec.block[0], spec.hidden
    query, inter = block.attention.num_head * block.attention.head_dim, block.ffn.inter
    shapes = [(query * 3, h), (h, query), (inter, h), (inter, h), (h, inter)]
    passes = [one for n, k in shapes for one in ((token, n, k), (token, k, n), (n, k, token))]
    arrays = device.machine(catalog.system(SYSTEM), "calibrated")
    seconds = []
    for name, byte in (("bf16", 2.0), ("fp8", 1.0)):
        ops, work = optable.empty(len(passes))
        ops["kind"], ops["fmt"], ops["count"], ops["batch"] = optable.GEMM, FORMAT_CODE[name], 1, 1
        for at, (m, n, k) in enumerate(passes):
            ops["m"][at], ops["n"][at], ops["k"][at], ops["flop"][at] = m, n, k, 2.0 * m * n * k
            ops["weight_byte"][at], ops["act_byte"][at], ops["write_byte"][at] = n * k * byte, m * k * byte, m * n * 2.0
        seconds.append(float(device.cost(ops, work, arrays)["time_ps"].sum()))
    return seconds[0] / seconds[1]


def token_per_s(model: str, num_device: int, batch: int, system: str) -> float:
    """Tokens a second and GPU: COAT's products as much faster as FP8 kernels are, all else the same (what narrower
    streams save, scaling takes)."""
    spec, stack = models.load(model), load("megatron-h100")
    hw, fit = hardware_vector(catalog.system(SYSTEM, num_device)), stack.fit.copy()
    plan = TrainPlan(dp=num_device, micro_batch=batch, batch=batch * num_device, seq=SEQ, zero=3)
    if system == "COAT":
        fit[t.GEMM] *= product_gain(model, batch * SEQ)
    out, stage = np.zeros(len(RESULT)), np.zeros((4, len(t.STAGE)))
    return batch * SEQ / float(plan_step(model_vector(spec, SEQ), plan_vector(plan), hw, fit, stage, out))


def run(models_: tuple[str, ...] = ("llama-2-7b", "llama-2-13b")) -> pd.DataFrame:
    """States, activations, peaks and their ratio; largest batches and what they bring."""
    rows: list[dict[str, Any]] = []
    for (model, num), published in MEMORY.items():
        if model not in models_:
            continue
        setup = f"{model}, {num} GPUs, batch {BATCH[model]}"
        peak = {}
        for name, (optimizer, activation, total) in published.items():
            byte = memory(model, num, BATCH[model], name)
            peak[name] = sum(byte.values())
            if optimizer and activation:
                rows.append(row(name, "optimizer GB", setup, optimizer, byte["optimizer"] / 1e9, "two moments", 0.1))
                rows.append(row(name, "activation GB", setup, activation, byte["activation"] / 1e9, NOTE, 0.15))
            rows.append(row(name, "peak GB", setup, total, peak[name] / 1e9, NOTE, 0.1))
        ratio = published["BF16"][2] / published["COAT"][2]
        rows.append(row("COAT", "memory saved, ratio", setup, round(ratio, 2), peak["BF16"] / peak["COAT"], NOTE, 0.1))
        batch = {name: largest_batch(model, num, name) for name in published}
        if (model, num) == ("llama-2-7b", 4):
            for name, most in (("BF16", 2), ("COAT", 4)):
                rows.append(
                    row(
                        name,
                        "largest batch",
                        f"{model}, {num} GPUs",
                        most,
                        batch[name],
                        "powers of two; the published runs stop 15 GB earlier, which allocators may need",
                        0.0,
                    )
                )
        plain, eight = (token_per_s(model, num, batch[name], name) for name in ("BF16", "COAT"))
        slow, fast = SPEED[model, num]
        cause = (
            f"batch {batch['BF16']} and {batch['COAT']}; constants of megatron-h100, FP8 kernels as fitted; a "
            "full memory's retries (13B, 4 GPUs) and kernels that fuse scaling are not modelled"
        )
        claim, pair = "faster at the largest batch, ratio", f"{model}, {num} GPUs"
        rows.append(row("COAT", claim, pair, round(fast / slow, 2), eight / plain, cause, 0.15))
    return pd.DataFrame(rows)


@styled
def plot(table: pd.DataFrame) -> "Figure":
    """Memory of one GPU by kind, BF16 beside COAT, with the published peaks; speed at the largest batch."""
    figure, (left, right) = new_figure(1, 2, (12, 4.2), width_ratios=(2, 1))
    names = []
    for at, (model, num) in enumerate(MEMORY):
        for side, system in enumerate(("BF16", "COAT")):
            byte, base, place = memory(model, num, BATCH[model], system), 0.0, 2.4 * at + side
            for (kind, value), colour in zip(byte.items(), PALETTE, strict=False):
                left.bar(place, value / 1e9, 0.8, bottom=base, color=colour, label=kind if place == 0 else None)
                base += value / 1e9
            left.plot([place - 0.4, place + 0.4], [MEMORY[model, num][system][2]] * 2, color="black", lw=2,
                      label="published peak" if place == 0 else None)  # fmt: skip
            names.append((place, f"{system}\n{model.removeprefix('llama-2-')}, {num} GPUs"))
    left.set_xticks([place for place, _ in names], [name for _, name in names], fontsize=7)
    left.set(ylabel="GB a GPU", title="memory", ylim=(0, 100))
    left.legend(fontsize=7, ncols=3)
    part = table[table["claim"].str.startswith("faster")]
    spot = np.arange(len(part))
    right.bar(spot - 0.2, part["paper"].astype(float), 0.4, color=PALETTE[1], label="published")
    right.bar(spot + 0.2, part["simulated"], 0.4, color=PALETTE[0], label="simulated")
    right.set_xticks(spot, part["setup"].str.replace(", ", "\n"), fontsize=7)
    right.set(ylabel="COAT over BF16", title="speed at the largest batch")
    right.legend(fontsize=7)
    suptitle(figure, "COAT: Llama-2 in BF16 and with states and activations in FP8")
    return figure
