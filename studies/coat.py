"""COAT: optimizer states and activations of Llama-2-7B in 8 bits, memory a GPU."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kernels import training as t
from studies._table import bars, row
from workloads import models
from workloads.training import TrainPlan, model_vector, plan_vector

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "COAT (Xi et al. 2024): 1.54 times less memory than BF16 with FP8 states and activations (Llama-2-7B, 4 GPUs)"
# GB a GPU, table 7: optimizer states, activations, peak; batch 2 a GPU, 2048 tokens, fully sharded
PAPER = {"BF16": (13.1, 25.8, 55.1), "COAT": (3.2, 16.9, 35.6)}


def run() -> pd.DataFrame:
    """States, activations and the ratio of the totals. BF16 norms keep a 4-byte copy of their input each (as the
    library's RMSNorm does); COAT stores every kept value in a byte, here attention's too, which it does not."""
    model = models.load("llama-2-7b")
    vector, totals, rows = model_vector(model, 2048), {}, []
    for name, state, act, norm in (("BF16", 8.0, 2.0, 4.0), ("COAT", 2.0, 1.0, 0.0)):
        fit, memory = np.array(t.IDEAL_FIT), np.zeros(len(t.MEMORY))
        fit[t.KEPT_NORM] = norm
        plan = TrainPlan(dp=4, micro_batch=2, batch=8, zero=3, optimizer_byte=state, act_byte=act, grad_byte=2.0)
        totals[name] = t.plan_memory(vector, plan_vector(plan), fit, 0.0, memory)
        kept = float(memory[t.M_ACTIVATION] + memory[t.M_LOGIT])
        optimizer, activation, _ = PAPER[name]
        setup = "Llama-2-7B, 4 GPUs, batch 2"
        rows.append(row(name, "optimizer GB", setup, optimizer, float(memory[t.M_OPTIMIZER]) / 1e9, "no fp32 master"))
        rows.append(row(name, "activation GB", setup, activation, kept / 1e9, "logits included"))
    ratio = PAPER["BF16"][2] / PAPER["COAT"][2]
    rows.append(row("COAT", "memory saved, ratio", "Llama-2-7B, 4 GPUs, batch 2", round(ratio, 2),
                    totals["BF16"] / totals["COAT"], "no allocator overhead", 0.15))  # fmt: skip
    return pd.DataFrame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Bars of every row."""
    return bars(table, "COAT")
