"""ZeRO: which models fit where states are split, 1.4 B to 13 B parameters on V100, and its memory by degree."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hw_models import catalog
from kernels.train_plan import (
    LAYER_DTYPE,
    M_GRAD,
    M_OPTIMIZER,
    M_WEIGHT,
    STACK_DTYPE,
    plan_memory,
)
from kernels.train_plan import (
    MEMORY as KINDS,
)
from sim.show.plot_style import PALETTE, new_figure, styled, suptitle
from sim.training.price import plan_record
from studies._gpt import gpt
from studies._max_length import plan_byte
from studies._verdict import frame, point, row
from workloads.models.tensors import num_param
from workloads.training import TrainPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "ZeRO (Rajbhandari et al. 2020): 13 B parameters without model parallelism where data parallelism ends at 1.4 B"
DEGREES = (1, 4, 16, 64, 256, 1024)
PARAMETERS = (7.5e9, 128e9, 1e12)  # of the paper's table 1, which the tests hold cell by cell
DEVICE, SEQ, VOCAB = "v100_sxm_32gb", 1024, 50257
# width and heads, devices, ZeRO stage, and the largest model that is published, in billions
LARGEST = {"data parallel": (1536, 16, 128, 0, 1.4), "ZeRO-2": (4096, 32, 128, 2, 13.0)}
# bytes a parameter of gradients: 16 bits, and before ZeRO the flat buffer in 32 that all-reduces are fused in (section
# 3.2: 6 GB for 1.5 B parameters), which it keeps at a constant size
GRAD_BYTE = {0: 2.0 + 4.0, 2: 2.0}
MEMORY = "GB of states a device"
OPEN = (
    "layers of this width until 32 GB are full: a microbatch of one sequence of 1,024 recomputed, gradients of 16 "
    "bits; batch, what is recomputed and the allocator's share are not published"
)


def states_gb(parameter: float, zero: int, degree: int) -> float:
    """GB a device of weights and gradients in 16 bits and 12 bytes of states, as `ridgeline train` counts them."""
    layer, memory = np.zeros(3, LAYER_DTYPE), np.zeros(len(KINDS))
    layer[0]["dense"] = layer[0]["trained"] = parameter  # as one layer
    plan = TrainPlan(dp=degree, batch=degree, zero=zero, grad_byte=2.0)
    plan_memory(plan_record(gpt("", 64, 1, 1), plan), layer, np.zeros(1, STACK_DTYPE)[0], 0.0, memory)
    return float(memory[M_WEIGHT] + memory[M_GRAD] + memory[M_OPTIMIZER]) / 1e9


def largest(hidden: int, num_head: int, num_device: int, zero: int, micro_batch: int) -> float:
    """Billions of parameters of the deepest GPT of this width that fits."""
    device = catalog.device(DEVICE)
    limit = device.mem_byte - device.mem_reserved_byte
    plan = TrainPlan(dp=num_device, micro_batch=micro_batch, batch=num_device * micro_batch, seq=SEQ, zero=zero,
                     recompute="full", attention="unfused", grad_byte=GRAD_BYTE[zero])  # fmt: skip
    low, high = 0, 1024
    while high - low > 1:
        middle = (low + high) // 2
        fits = plan_byte(gpt("", hidden, middle, num_head, vocab=VOCAB, position_row=SEQ), plan) <= limit
        low, high = (middle, high) if fits else (low, middle)
    return num_param(gpt("", hidden, low, num_head, vocab=VOCAB, position_row=SEQ)) / 1e9 if low else 0.0


def run() -> pd.DataFrame:
    """The largest models, and states a device by stage and degree."""
    rows: list[dict[str, Any]] = []
    for name, (hidden, heads, count, zero, published) in LARGEST.items():
        values = [largest(hidden, heads, count, zero, micro) for micro in (1, 4, 8)]
        setup = f"{count} V100, 32 GB, width {hidden}"
        note = f"microbatches of 1, 4 and 8; {OPEN}"
        rows.append(row(name, "largest model, billions", setup, published, values[0], note, tag="approx",
                        spread=values))  # fmt: skip
    for parameter in PARAMETERS:
        for zero in (1, 2, 3):
            for degree in DEGREES:
                setup = f"{parameter / 1e9:g} B parameters; {degree}"
                rows.append(point(f"ZeRO-{zero}", MEMORY, setup, states_gb(parameter, zero, degree)))
    return frame(rows)


@styled
def plot(table: pd.DataFrame) -> "Figure":
    """GB of states a device over the degree, a panel a model, and the largest models."""
    states = table[table["claim"] == MEMORY]
    size = states["setup"].str.split("; ").str[0]
    panels = list(dict.fromkeys(size))
    figure, axes = new_figure(1, len(panels) + 1, (14.0, 3.6))
    for axis, panel in zip(axes, panels, strict=False):
        own = states[size == panel]
        for name, colour in zip(dict.fromkeys(own["system"]), PALETTE, strict=False):
            part = own[own["system"] == name]
            axis.plot(part["setup"].str.split("; ").str[1].astype(int), part["simulated"], "o-", color=colour,
                      label=name)  # fmt: skip
        axis.axhline(32, color="black", lw=0.8, ls=":", label="32 GB")
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set(xlabel="devices", ylabel=MEMORY, title=panel)
    axes[0].legend(fontsize=7)
    most = table[table["claim"].str.startswith("largest")]
    for shift, kind, colour in ((-0.2, "paper", PALETTE[1]), (0.2, "simulated", PALETTE[0])):
        label = {"paper": "published"}.get(kind, kind)
        axes[-1].bar(np.arange(len(most)) + shift, most[kind], 0.38, color=colour, label=label)
    axes[-1].set_xticks(range(len(most)), most["system"])
    axes[-1].set(ylabel="billions of parameters", title="largest model in 32 GB")
    axes[-1].grid(axis="x", visible=False)
    axes[-1].legend(fontsize=7)
    suptitle(figure, "ZeRO: what fits")
    return figure
