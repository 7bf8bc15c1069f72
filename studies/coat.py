"""COAT: optimizer states and activations of Llama-2 in 8 bits, what that saves and how much faster it is."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

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
SMALL: dict[str, Any] = {}
SYSTEM, STACK, SEQ = "dgx_h100", "pytorch-fsdp", 2048
# table 7: GB a GPU of optimizer states, activations, peak; tokens a second and GPU at the largest batch. Its code is
# OLMo's (NVlabs/COAT, README and examples/OLMo), with OLMo's vocabulary; what is allocated is counted in units of 2^20
# B there, a thousand of which are taken as a GB, and the peak in millions of bytes
Published = dict[str, tuple[float | None, float | None, float]]
MEMORY: dict[tuple[str, int], Published] = {
    ("llama-2-7b", 4): {"BF16": (13.1, 25.8, 55.1), "COAT": (3.2, 16.9, 35.6)},
    ("llama-2-7b", 8): {"BF16": (None, None, 41.2), "COAT": (None, None, 27.0)},
    ("llama-2-13b", 4): {"BF16": (None, None, 76.1), "COAT": (None, None, 49.1)},
    ("llama-2-13b", 8): {"BF16": (None, None, 49.4), "COAT": (None, None, 32.5)},
}
VOCAB, ALLOCATED_GB, PEAK_GB = 50304, 1000 * 2**20, 1e9
BATCH = {"llama-2-7b": 2, "llama-2-13b": 1}  # a GPU
# sequences a GPU of those speeds, BF16 and COAT: "in all multi-GPU settings" COAT doubles them (README); 256 a step
STATED, TOTAL = {"llama-2-7b": (2, 4), "llama-2-13b": (1, 2)}, 256
SPEED = {("llama-2-7b", 4): (7730, 11257), ("llama-2-7b", 8): (8238, 11241), ("llama-2-13b", 4): (2345, 5295),
         ("llama-2-13b", 8): (3907, 5650)}  # fmt: skip
# the repository's fine-tuning of Llama-2-7B on eight H100 (examples/ToolBench): eight sequences of 4,096 tokens a GPU
# and step, one at once or two, transformers' code; seconds a step
TUNED, TUNED_SEQ, TUNED_TOTAL = "llama-2-7b, ToolBench", 4096, 64
TUNED_S, TUNED_BATCH = {"BF16": 3.53, "COAT": 2.80}, {"BF16": 1, "COAT": 2}
# fully sharded in mixed precision: fp32 weights, of which the plan's own are 2 B; gradients are reduced in fp32 (OLMo)
# or 16 bits (transformers)
MASTER_BYTE, GRAD_BYTE = 2.0, {"olmo": 4.0, "transformers": 2.0}
# bytes a weight that PyTorch's FSDP moves before it reduces: to fp32 (a read of 2, a write of 4), divided in place
REDUCE_BYTE = {"olmo": 2 + 4 + 2 * 4, "transformers": 2 * 2}
STATE_BYTE = {"BF16": 8.0, "COAT": 2.0}  # two moments
# COAT quantizes what enters a matrix product a tensor at a time (1 B a value) and what enters a norm or an activation
# function in groups of 16 with a 2 B scale; the kernel of attention keeps 2 B. Shares of what a layer keeps in 16 bits.
# Of an eager norm's 10 B automatic mixed precision keeps the input in fp32, 4 B, and not that in 16 bits;
# attention's values are a view of the joint product, all of which stays beside the rotated queries and keys
NARROW, GROUPED, JOINT = 1 / 2, (1 + 2 / 16) / 2, 3.0
NORMS, WIDE = ("input of the first norm", "input of the second norm"), "wide copies of the {} norm"
POLICY = {
    "BF16": (
        *((WIDE.format(which), "shrink", 4 / EAGER_NORM_BYTE) for which in ("first", "second")),
        *((name, "skip", 1.0) for name in NORMS), ("value", "shrink", JOINT),
    ),
    "COAT": (
        *((WIDE.format(which), "skip", 1.0) for which in ("first", "second")), ("value", "shrink", JOINT),
        *((name, "shrink", GROUPED) for name in (*NORMS, "results of the up projections", "result of the gate")),
        *((name, "shrink", NARROW) for name in (
            "input of query, key and value", "input of the up projections", "input of the down projection")),
    ),
}  # fmt: skip
LOSS_BYTE, PEAK_LOGIT_BYTE = 4.0, 10.0  # a logit: what the loss keeps for its backward pass, and at the peak


class Eager(NamedTuple):
    """Bytes a value that operators run one by one move, both passes: of a norm, of the rotation of a query or key, of
    the gated activation, of splitting the joint product, of a sum with the residual."""

    norm: float
    rotate: float
    product: float
    split: float
    add: float


# OLMo: a norm between casts to fp32 and back (20 and 24); rotation in fp32: cast 6, half turned 12, two products 16,
# sum 12, cast 6, and as much backward; activation 4 and product 6, then 12, 6 and joining the halves 8; a joint
# gradient read and written. Transformers: a norm written out (36: to fp32 6, square 8, mean 4, scale 8, to bf16 6,
# weight 4; backward 72), a rotation in 16 bits (half turned 6, two products 8, sum 6; backward 24)
EAGER = {"olmo": Eager(20 + 24, 52 + 52, 10 + 26, 4, 6 + 6), "transformers": Eager(36 + 72, 20 + 24, 10 + 18, 0, 6 + 6)}
NARROW_BYTE = 2 + 1  # a weight and direction: read in 16 bits, written in 8
# COAT's own passes (coat_olmo.py and real_quantization/), bytes a value of a layer's width and of its feed-forward
# part, both ways. A norm reads 1, writes 4, is read again and written twice in 1 (a tensor's largest value comes
# first), backward 5, twice a layer: 32; the sum after each part 7, backward 6 and 3 more to narrow it: 32; the result
# of attention 5 and 3. The gate's activation 2, the product 4 and 4 more to narrow it; backward 8, 5 and joined 8
FUSED_BYTE, FUSED_PRODUCT_BYTE = 32 + 32 + 8, 10 + 21
PEAK, PART, FASTER, SECONDS = "peak GB", "part, GB: ", "faster, ratio", "seconds a step"
RATES = (
    "kernels of an H100 (stack pytorch-fsdp, FlashAttention 2), PyTorch's operators one by one, COAT's own as its code "
    "has them, both at the rate of the device's memory; no host time. The same model and parts agree with the "
    "repository's fine-tuning of Llama-2-7B; OLMo's BF16 took 12 to 22 % longer, which nothing in its code says, and "
    "90 % of 13B on 4 GPUs, whose memory is full: retries of the allocator are not modelled"
)
NOTE = (
    "OLMo's code: fp32 shards of weights and gradients, norms in fp32, a joint query, key and value; logits 10 B each"
)


def spec_of(model: str) -> ModelSpec:
    """The shape of a Llama-2 with OLMo's vocabulary; of the fine-tuned one as it is."""
    return models.load("llama-2-7b") if model == TUNED else replace(models.load(model), vocab=VOCAB)


def code_of(model: str) -> str:
    """Whose training code a run is of."""
    return "transformers" if model == TUNED else "olmo"


def plan_of(model: str, num_device: int, batch: int, system: str, total: int = 0) -> TrainPlan:
    """Fully sharded over `num_device`, `batch` sequences a microbatch, `total` a step (0: one microbatch)."""
    return TrainPlan(
        dp=num_device, micro_batch=batch, batch=total or batch * num_device, zero=3,
        grad_byte=GRAD_BYTE[code_of(model)],
        seq=TUNED_SEQ if model == TUNED else SEQ, optimizer_byte=STATE_BYTE[system] + MASTER_BYTE,
        policy=POLICY[system], fused_loss=False,
    )  # fmt: skip


def memory(model: str, num_device: int, batch: int, system: str) -> dict[str, float]:
    """Bytes of one GPU by kind with `batch` sequences, fully sharded over `num_device`. Embedding and head stay
    gathered from the forward pass on, as what is not in a layer does."""
    plan, stack, spec = plan_of(model, num_device, batch, system), np.zeros(1, STACK_DTYPE)[0], spec_of(model)
    out = rank_memory(spec, plan, stack)
    share = STATE_BYTE[system] / plan.optimizer_byte
    ends = 2 * spec.vocab * spec.hidden * plan.act_byte
    loss = LOSS_BYTE / PEAK_LOGIT_BYTE
    found = {
        "optimizer": out[M_OPTIMIZER] * share, "activation": out[M_ACTIVATION] + out[M_LOGIT] * loss + ends,
        "weight and gradient": out[M_WEIGHT] + out[M_GRAD] + out[M_OPTIMIZER] * (1 - share),
        "gathered layers, loss": out[M_BUFFER] + out[M_LOGIT] * (1 - loss),
    }  # fmt: skip
    return {name: float(value) for name, value in found.items()}


def eager_byte(spec: ModelSpec, system: str, code: str = "olmo") -> float:
    """Bytes a token and layer, both passes, of element-wise operators: one by one in OLMo's and in transformers' code,
    in COAT's own kernels, which leave rotation and split one by one."""
    block, h, own = spec.block[0], spec.hidden, EAGER[code]
    turned = 2 * block.attention.num_head * block.attention.head_dim
    kept = own.rotate * turned + own.split * (turned + h)
    if system == "BF16":
        return 2 * own.norm * h + own.product * block.ffn.inter + 2 * own.add * h + kept
    return FUSED_BYTE * h + FUSED_PRODUCT_BYTE * block.ffn.inter + kept


def token_per_s(model: str, num_device: int, batch: int, system: str, total: int = 0) -> float:
    """Tokens a second and GPU; `total` sequences a step, or one microbatch. Products of COAT are FP8 kernels as they
    were measured; norms and activations narrow their own results, gradients are narrowed in a pass of their own, with
    their transpose, and weights for each direction (coat_llama.py). A layer's other element-wise operators are
    `eager_byte` at the rate that the device's memory reaches (neither repository compiles them)."""
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
    moved = float(op.mem_byte(low.ops)[stream].sum()) / (batch * plan.seq)
    wanted = eager_byte(spec, system, code_of(model))
    for name, phase in (("forward_s", FORWARD), ("input_grad_s", INPUT_GRAD), ("weight_grad_s", WEIGHT_GRAD)):
        own = low.ops["phase"] == phase
        prices[name][BODY] += (wanted / moved - 1) * seconds[own & stream].sum()
        if phase == FORWARD:
            prices[name][BODY] -= seconds[own & (low.ops["kind"] == op.CONVERT)].sum()
    pass_s = prices["dense"][BODY] / float(where.stack["mem_byte_per_s"])  # of a byte a weight of a layer
    prices["weight_grad_s"][BODY] += REDUCE_BYTE[code_of(model)] * pass_s
    if system == "COAT":
        narrow_s = NARROW_BYTE * pass_s
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
                rows.append(row(name, "optimizer GB", setup, optimizer, byte["optimizer"] / ALLOCATED_GB,
                                "two moments"))  # fmt: skip
                rows.append(row(name, "activation GB", setup, activation, byte["activation"] / ALLOCATED_GB, NOTE))
            rows.append(row(name, PEAK, setup, total, peak[name] / PEAK_GB, NOTE))
            rows += [point(name, f"{PART}{kind}", setup, value / PEAK_GB) for kind, value in byte.items()]
        ratio = published["BF16"][2] / published["COAT"][2]
        rows.append(row("COAT", "memory saved, ratio", setup, round(ratio, 2), peak["BF16"] / peak["COAT"], NOTE,
                        null=1.0))  # fmt: skip
        rate = {name: token_per_s(model, num, batch, name, TOTAL)
                for name, batch in zip(published, STATED[model], strict=True)}  # fmt: skip
        slow, fast = SPEED[model, num]
        cause = f"256 sequences a step; {RATES}"
        rows.append(row("COAT", FASTER, f"{model}, {num} GPUs", round(fast / slow, 2), rate["COAT"] / rate["BF16"],
                        cause, null=1.0))  # fmt: skip
        for batch, (name, found), stated in zip(STATED[model], rate.items(), SPEED[model, num], strict=True):
            rows.append(row(name, "tokens/s a GPU", f"{model}, {num} GPUs, batch {batch}", stated, found, RATES))
    token = TUNED_SEQ * TUNED_TOTAL / 8
    tuned = {name: token / token_per_s(TUNED, 8, batch, name, TUNED_TOTAL) for name, batch in TUNED_BATCH.items()}
    for name, stated_s in TUNED_S.items():
        rows.append(row(name, SECONDS, f"{TUNED}, 8 GPUs", stated_s, tuned[name], RATES))
    rows.append(row("COAT", FASTER, f"{TUNED}, 8 GPUs", round(TUNED_S["BF16"] / TUNED_S["COAT"], 2),
                    tuned["BF16"] / tuned["COAT"], f"one sequence at once, and two; {RATES}", null=1.0))  # fmt: skip
    return frame(rows)


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
