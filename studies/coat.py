"""COAT: optimizer states and activations of Llama-2 in 8 bits, what that saves and how much faster it is."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hw_models import catalog, device
from kernels import optable as op
from kernels.formats import FORMAT_CODE
from kernels.train_plan import (
    BODY,
    M_ACTIVATION,
    M_BUFFER,
    M_GRAD,
    M_LOGIT,
    M_OPTIMIZER,
    M_WEIGHT,
    STACK_DTYPE,
)
from sim.show.plot_style import PALETTE, new_figure, styled, suptitle
from sim.training.estimate import composed, rank_memory
from sim.training.price import layer_seconds, piece, plan_record, site
from sim.training.stack import load_stack
from studies._panels import records
from studies._verdict import frame, point, row
from workloads import models
from workloads.kept_activations import EAGER_NORM_BYTE
from workloads.models.spec import ModelSpec
from workloads.training import TrainPlan
from workloads.training_rows import FORWARD, INPUT_GRAD, WEIGHT_GRAD

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "COAT (Xi et al. 2024): 1.54 times less memory and 1.43 times faster than BF16 with FP8 states and activations"
SMALL = {"models_": ("llama-2-7b",)}
SYSTEM, STACK, SEQ = "dgx_h100", "pytorch-fsdp", 2048
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
# COAT quantizes what enters a matrix product a tensor at a time (1 B a value) and what enters a norm or an activation
# function in groups of 16 with a 2 B scale; the kernels of attention keep 2 B. Shares of what a layer keeps in 16 bits
# (and of 10 B of wide copies of an eager norm: transformers' Llama keeps its input in fp32 alone, 4 B)
NARROW, GROUPED = 1 / 2, (1 + 2 / 16) / 2
NORMS, WIDE = ("input of the first norm", "input of the second norm"), "wide copies of the {} norm"
POLICY = {
    "BF16": tuple((WIDE.format(which), "shrink", 4 / EAGER_NORM_BYTE) for which in ("first", "second")),
    "COAT": (
        *((WIDE.format(which), "skip", 1.0) for which in ("first", "second")),
        *((name, "shrink", GROUPED) for name in (*NORMS, "results of the up projections", "result of the gate")),
        *((name, "shrink", NARROW) for name in (
            "input of query, key and value", "input of the up projections", "input of the down projection")),
        ("result of attention", "shrink", (1 + NARROW) / 2),  # for attention in 2 B, for the product after it in 1
    ),
}  # fmt: skip
# bytes a value that PyTorch's operators move one by one in transformers' Llama, which both sides train (coat_llama.py
# replaces norms, activation, products and sums by fused kernels, and keeps the rotation). Forward of a norm: to fp32 6,
# square 8, mean 4, scale 8, to bf16 6, weight 4; backward: weight 8, casts 12, scale 24, mean 4, square 12, sum 12.
# Rotation of a query or key: half turned 6, two products 8, sum 6; backward 24. Activation times up: 4 and 6; 6 and 12.
# A sum with the residual: 6 each way
NORM_BYTE, ROTATE_BYTE, PRODUCT_BYTE, SUM_BYTE = 36 + 72, 20 + 24, 10 + 18, 6 + 6
NARROW_BYTE = 2 + 1  # a weight and direction: read in 16 bits, written in 8
# COAT's own passes over 1 B values: a norm and the sum before it read two and write two, backward three and one, twice
# a layer; its activation reads two and writes one, backward three and two
FUSED_BYTE, FUSED_PRODUCT_BYTE = 2 * 8, 8
PEAK, PART, FASTER = "peak GB", "part, GB: ", "faster, ratio"
RATES = (
    "kernels of an H100 (stack pytorch-fsdp, FlashAttention 2), PyTorch's operators one by one where not fused; no "
    "host time"
)
NOTE = "fp32 shards of weights and gradients, which the published peaks of 4 and 8 GPUs imply; logits 10 B each"


def spec_of(model: str) -> ModelSpec:
    """The model, OLMo too."""
    return replace(models.load("llama-2-7b"), name=OLMO, vocab=OLMO_VOCAB) if model == OLMO else models.load(model)


def plan_of(model: str, num_device: int, batch: int, system: str, total: int = 0) -> TrainPlan:
    """Fully sharded over `num_device`, `batch` sequences a microbatch, `total` a step (0: one microbatch)."""
    return TrainPlan(
        dp=num_device, micro_batch=batch, batch=total or batch * num_device, seq=SEQ, zero=3, grad_byte=GRAD_BYTE,
        optimizer_byte=STATE_BYTE[system] + MASTER_BYTE, policy=POLICY[system], fused_loss=False,
    )  # fmt: skip


def memory(model: str, num_device: int, batch: int, system: str) -> dict[str, float]:
    """Bytes of one GPU by kind with `batch` sequences, fully sharded over `num_device`."""
    plan, stack = plan_of(model, num_device, batch, system), np.zeros(1, STACK_DTYPE)[0]
    out = rank_memory(spec_of(model), plan, stack)
    share = STATE_BYTE[system] / plan.optimizer_byte
    found = {
        "optimizer": out[M_OPTIMIZER] * share, "activation": out[M_ACTIVATION] + out[M_LOGIT],
        "weight and gradient": out[M_WEIGHT] + out[M_GRAD] + out[M_OPTIMIZER] * (1 - share),
        "gathered layers": out[M_BUFFER],
    }  # fmt: skip
    return {name: float(value) for name, value in found.items()}


def eager_byte(spec: ModelSpec, system: str) -> float:
    """Bytes a token and layer, both passes, of element-wise operators: one by one in transformers, fused in COAT, which
    keeps the rotation one by one and otherwise reads and writes 1 B where a fused pass of 16 bits has 2."""
    block, h = spec.block[0], spec.hidden
    rotate = ROTATE_BYTE * 2 * block.attention.num_head * block.attention.head_dim
    if system == "BF16":
        return 2 * NORM_BYTE * h + rotate + PRODUCT_BYTE * block.ffn.inter + 2 * SUM_BYTE * h
    return FUSED_BYTE * h + FUSED_PRODUCT_BYTE * block.ffn.inter + rotate


def token_per_s(model: str, num_device: int, batch: int, system: str, total: int = 0) -> float:
    """Tokens a second and GPU; `total` sequences a step, or one microbatch. Products of COAT are FP8 kernels as they
    were measured; norms and activations narrow their own results, gradients are narrowed in a pass of their own, with
    their transpose, and weights for each direction (coat_llama.py). A layer's other element-wise operators are
    `eager_byte` at the rate that the device's memory reaches (OLMo's repository compiles both sides: fused passes)."""
    spec, plan = spec_of(model), plan_of(model, num_device, batch, system, total)
    fused = replace(plan, fused_norm=True, policy=())
    precision = "fp8" if system == "COAT" else "bf16"
    where = site(catalog.system(SYSTEM, num_device), load_stack(STACK), plan.attention, precision)
    where.stack["vector"] = 1.0  # every pass is counted here
    measured = device.machine(where.system, "calibrated").fit
    where.machine.fit[op.GEMM, FORMAT_CODE["fp8"]] = measured[op.GEMM, FORMAT_CODE["fp8"]]
    prices = piece(spec, fused, where)
    low, seconds = layer_seconds(spec, spec.block[0], fused, where)
    stream = np.isin(low.ops["kind"], (op.ADD, op.ACT, op.ROPE, op.COPY, op.NORM))
    moved = float(op.mem_byte(low.ops)[stream].sum()) / (batch * SEQ)
    wanted = moved / 2 if system == "COAT" else moved
    if model != OLMO:
        wanted = eager_byte(spec, system)
    for name, phase in (("forward_s", FORWARD), ("input_grad_s", INPUT_GRAD), ("weight_grad_s", WEIGHT_GRAD)):
        own = low.ops["phase"] == phase
        prices[name][BODY] += (wanted / moved - 1) * seconds[own & stream].sum()
        if phase == FORWARD:
            prices[name][BODY] -= seconds[own & (low.ops["kind"] == op.CONVERT)].sum()
    if system == "COAT":
        narrow_s = NARROW_BYTE * prices["dense"][BODY] / float(where.stack["mem_byte_per_s"])
        for name in ("forward_s", "input_grad_s"):
            prices[name][BODY] += narrow_s
    return plan.token / num_device / composed(plan_record(spec, plan), prices, where).step_s


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
