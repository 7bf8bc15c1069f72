"""COAT: optimizer states and activations of Llama-2 in 8 bits, what that saves and how much faster it is."""

import functools
from dataclasses import replace
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
from studies._panels import records
from studies._verdict import frame, point, row
from workloads import models
from workloads.models.spec import ModelSpec
from workloads.saved_tensors import SavedTensor, saved_tensors
from workloads.training import TrainPlan, model_vector, plan_vector

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "COAT (Xi et al. 2024): 1.54 times less memory and 1.43 times faster than BF16 with FP8 states and activations"
SMALL = {"models_": ("llama-2-7b",)}
SYSTEM, SEQ = "dgx_h100", 2048
# table 7: GB a GPU of optimizer states, activations, peak; tokens a second and GPU at the largest batch
Published = dict[str, tuple[float | None, float | None, float]]
MEMORY: dict[tuple[str, int], Published] = {
    ("llama-2-7b", 4): {"BF16": (13.1, 25.8, 55.1), "COAT": (3.2, 16.9, 35.6)},
    ("llama-2-7b", 8): {"BF16": (None, None, 41.2), "COAT": (None, None, 27.0)},
    ("llama-2-13b", 4): {"BF16": (None, None, 76.1), "COAT": (None, None, 49.1)},
    ("llama-2-13b", 8): {"BF16": (None, None, 49.4), "COAT": (None, None, 32.5)},
}
BATCH = {"llama-2-7b": 2, "llama-2-13b": 1}  # a GPU
# sequences a GPU of those speeds, BF16 and COAT: "in all multi-GPU settings" COAT doubles them (README)
STATED = {"llama-2-7b": (2, 4), "llama-2-13b": (1, 2)}
# its repository's OLMo-7B run on 8 H100: shapes of Llama-2-7B with this vocabulary, 256 sequences a step; over BF16
OLMO, OLMO_VOCAB, OLMO_BATCH, OLMO_GAIN = "olmo-7b", 50304, 256, 1.26
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
# bytes a value that PyTorch's operators move one by one in transformers' Llama, which both sides train (coat_llama.py
# replaces norms, activation, products and sums by fused kernels, and keeps the rotation). Forward of a norm: to fp32 6,
# square 8, mean 4, scale 8, to bf16 6, weight 4; backward: weight 8, casts 12, scale 24, mean 4, square 12, sum 12.
# Rotation of a query or key: half turned 6, two products 8, sum 6; backward 24. Activation times up: 4 and 6; 6 and 12.
# A sum with the residual: 6 each way
NORM_BYTE, ROTATE_BYTE, PRODUCT_BYTE, SUM_BYTE = 36 + 72, 20 + 24, 10 + 18, 6 + 6
FUSED_ROTATE_BYTE = 4 + 4  # read and written once each way
PEAK, PART, FASTER = "peak GB", "part, GB: ", "faster, ratio"
RATES = "constants of megatron-h100, FP8 kernels as fitted, PyTorch's operators one by one where they are not fused"
NOTE = "fp32 shards of weights and gradients, which the published peaks of 4 and 8 GPUs imply; logits 10 B each"


def spec_of(model: str) -> ModelSpec:
    """The model, OLMo too."""
    return replace(models.load("llama-2-7b"), name=OLMO, vocab=OLMO_VOCAB) if model == OLMO else models.load(model)


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
    spec, out = spec_of(model), np.zeros(len(t.MEMORY))
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


def eager_byte(spec: ModelSpec, system: str, vector_pass: float) -> float:
    """Bytes a token and layer, both passes, that operators run one by one move beyond the fused passes that are priced
    (`vector_pass` over the width and one over the wide tensors, thrice in all)."""
    block, h = spec.block[0], spec.hidden
    heads = 2 * block.attention.num_head * block.attention.head_dim
    priced = 3 * 2.0 * (vector_pass * h + 3 * block.ffn.inter)
    rotate, fused = ROTATE_BYTE * heads, FUSED_ROTATE_BYTE * heads
    if system == "COAT":  # its own passes read and write 1 B where 2 are priced
        return rotate - fused - (priced - fused) / 2
    return 2 * NORM_BYTE * h + rotate + PRODUCT_BYTE * block.ffn.inter + 2 * SUM_BYTE * h - priced


@functools.cache
def product_gain(model: str, token: int) -> float:
    """Time of a layer's matrix products, all three passes, in BF16 over FP8, with the kernels fitted to an H100."""
    spec = spec_of(model)
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


def token_per_s(model: str, num_device: int, batch: int, system: str, total: int = 0) -> float:
    """Tokens a second and GPU: COAT's products as much faster as FP8 kernels are, all else the same (quantisation is
    fused into what is beside it); `total` sequences a step, or one microbatch."""
    spec, stack = spec_of(model), load("megatron-h100")
    hw, fit = hardware_vector(catalog.system(SYSTEM, num_device)), stack.fit.copy()
    total = total or batch * num_device
    plan = TrainPlan(dp=num_device, micro_batch=batch, batch=total, seq=SEQ, zero=3)
    if system == "COAT":
        fit[t.GEMM] *= product_gain(model, batch * SEQ)
    out, stage = np.zeros(len(RESULT)), np.zeros((4, len(t.STAGE)))
    eager = 0.0 if model == OLMO else eager_byte(spec, system, float(fit[t.VECTOR_PASS]))
    token = total / num_device * SEQ
    eager_s = token * spec.num_layer * eager / float(hw[t.MEM_BYTE_PER_S] * fit[t.MEM])
    return token / (eager_s + float(plan_step(model_vector(spec, SEQ), plan_vector(plan), hw, fit, stage, out)))


def run(models_: tuple[str, ...] = ("llama-2-7b", "llama-2-13b")) -> pd.DataFrame:
    """States, activations, peaks and their ratio; speeds at the published batches."""
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
                rows.append(row(name, "optimizer GB", setup, optimizer, byte["optimizer"] / 1e9, "two moments"))
                rows.append(row(name, "activation GB", setup, activation, byte["activation"] / 1e9, NOTE))
            rows.append(row(name, PEAK, setup, total, peak[name] / 1e9, NOTE))
            rows += [point(name, f"{PART}{kind}", setup, value / 1e9) for kind, value in byte.items()]
        ratio = published["BF16"][2] / published["COAT"][2]
        rows.append(row("COAT", "memory saved, ratio", setup, round(ratio, 2), peak["BF16"] / peak["COAT"], NOTE,
                        null=1.0))  # fmt: skip
        rows.append(_speed(model, num))
        for batch, name, rate in zip(STATED[model], published, SPEED[model, num], strict=True):
            rows.append(row(name, "tokens/s a GPU", f"{model}, {num} GPUs, batch {batch}", rate,
                            token_per_s(model, num, batch, name), RATES))  # fmt: skip
    slow, fast = (token_per_s(OLMO, 8, batch, name, OLMO_BATCH) for batch, name in ((2, "BF16"), (4, "COAT")))
    rows.append(row("COAT", FASTER, "olmo-7b, 8 GPUs", OLMO_GAIN, fast / slow,
                    f"256 sequences a step, batches of 2 and 4; {RATES}", null=1.0))  # fmt: skip
    return frame(rows)


def _speed(model: str, num: int) -> dict[str, Any]:
    slow, fast = SPEED[model, num]
    less, more = STATED[model]
    plain, eight = token_per_s(model, num, less, "BF16"), token_per_s(model, num, more, "COAT")
    cause = f"batches of {less} and {more}; {RATES}; retries of a full memory (13B, 4 GPUs) are not modelled"
    return row("COAT", FASTER, f"{model}, {num} GPUs", round(fast / slow, 2), eight / plain, cause, null=1.0)


@styled
def plot(table: pd.DataFrame) -> "Figure":
    """Memory of one GPU by kind, BF16 beside COAT, with the published peaks; speed at those batches."""
    figure, (left, right) = new_figure(1, 2, (12, 4.2), width_ratios=(2, 1))
    names, peaks = [], records(table[table["claim"] == PEAK])
    for at, one in enumerate(peaks):
        base, place = 0.0, at + 0.4 * (at // 2)
        own = table[(table["setup"] == one["setup"]) & (table["system"] == one["system"])]
        for part, colour in zip(records(own[own["claim"].str.startswith(PART)]), PALETTE, strict=False):
            label = part["claim"].removeprefix(PART) if at == 0 else None
            left.bar(place, part["simulated"], 0.8, bottom=base, color=colour, label=label)
            base += part["simulated"]
        left.plot([place - 0.4, place + 0.4], [one["paper"]] * 2, color="black", lw=2,
                  label="published peak" if at == 0 else None)  # fmt: skip
        model, count, _ = one["setup"].split(", ")
        names.append((place, f"{one['system']}\n{model.removeprefix('llama-2-')}\n{count}"))
    left.set_xticks([place for place, _ in names], [name for _, name in names], fontsize=7)
    left.set(ylabel="GB a GPU", title="memory", ylim=(0, 100))
    left.legend(fontsize=7, ncols=3)
    left.grid(axis="x", visible=False)
    speed = table[table["claim"] == FASTER]
    spot = np.arange(len(speed))
    right.bar(spot - 0.2, speed["paper"], 0.4, color=PALETTE[1], label="published")
    right.bar(spot + 0.2, speed["simulated"], 0.4, color=PALETTE[0], label="simulated")
    right.axhline(1, color="black", lw=0.8)
    right.set_xticks(spot, speed["setup"].str.replace(", ", "\n"), fontsize=7)
    right.set(ylabel="COAT over BF16", title="speed")
    right.grid(axis="x", visible=False)
    right.legend(fontsize=7)
    suptitle(figure, "COAT: Llama-2 in BF16 and with states and activations in FP8")
    return figure
