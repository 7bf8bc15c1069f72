"""ZeRO's memory table: bytes of model states a device by stage."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kernels import training as t
from studies._table import bars, row
from workloads.training import TrainPlan, plan_vector

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "ZeRO (Rajbhandari et al. 2020), figure 1: 7.5 B parameters on 64 devices, 120, 31.4, 16.6 and 1.9 GB"
PAPER = {7.5e9: (64, (120.0, 31.4, 16.6, 1.88)), 128e9: (1024, (2048.0, 513.0, 257.0, 2.0))}


def run() -> pd.DataFrame:
    """Weights, gradients and optimizer states a device for 16-bit weights and gradients and 12 bytes of states."""
    rows = []
    for parameter, (dp, expected) in PAPER.items():
        model = np.zeros(len(t.MODEL))
        # one layer of width 1000 with as many channels as give the parameters: 4 norm rows, four attention squares
        model[t.HIDDEN], model[t.NUM_LAYER], model[t.NUM_HEAD], model[t.NUM_KV_HEAD] = 1000, 1, 1, 1
        model[t.HEAD_DIM], model[t.NUM_UP], model[t.TIED] = 1000, 1, 1
        model[t.INTER] = (parameter - 4 * 1000 * 1000 - 4 * 1000) / 2000
        for zero, paper in enumerate(expected):
            memory = np.zeros(len(t.MEMORY))
            plan = plan_vector(TrainPlan(dp=dp, batch=dp, zero=zero, grad_byte=2.0))
            t.plan_memory(model, plan, np.array(t.IDEAL_FIT), 0.0, memory)
            states = float(memory[t.M_WEIGHT] + memory[t.M_GRAD] + memory[t.M_OPTIMIZER]) / 1e9
            setup = f"{parameter / 1e9:g} B parameters, {dp} devices"
            rows.append(row(f"ZeRO-{zero}" if zero else "data parallel", "GB a device", setup, paper, states, "", 0.01))
    return pd.DataFrame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Bars of every row."""
    return bars(table, "ZeRO memory")
