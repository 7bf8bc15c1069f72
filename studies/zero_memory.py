"""ZeRO's memory table: bytes of model states a device, by stage and degree, from 1.5 B to a trillion parameters."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kernels import training as t
from sim.show.plot_style import PALETTE, new_figure, styled, suptitle
from studies._table import row
from workloads.training import TrainPlan, plan_vector

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "ZeRO (Rajbhandari et al. 2020), table 1: 7.5 B, 128 B and 1 T parameters on 1 to 1,024 devices"
DEGREES = (1, 4, 16, 64, 256, 1024)
# GB a device of stages 1, 2 and 3 by degree; without ZeRO as on one device
TABLE = {
    7.5e9: ((120, 52.5, 35.6, 31.4, 30.4, 30.1), (120, 41.3, 21.6, 16.6, 15.4, 15.1), (120, 30, 7.5, 1.88, 0.47, 0.12)),
    128e9: ((2048, 896, 608, 536, 518, 513), (2048, 704, 368, 284, 263, 257), (2048, 512, 128, 32, 8, 2)),
    1e12: (
        (16000, 7000, 4750, 4187, 4046, 4011), (16000, 5500, 2875, 2218, 2054, 2013),
        (16000, 4000, 1000, 250, 62.5, 15.6),
    ),
}  # fmt: skip
GPT2 = (1.5e9, 24.0)  # section 3: at least 24 GB of states for GPT-2's 1.5 B parameters
ROUNDED = "the table is rounded to three digits, and cut in places"


def states_gb(parameter: float, zero: int, degree: int) -> float:
    """GB a device of weights and gradients in 16 bits and 12 bytes of states, as `ridgeline train` counts them."""
    model = np.zeros(len(t.MODEL))
    # one layer of width 1000 with as many channels as give the parameters: 4 norm rows, four attention squares
    model[t.HIDDEN], model[t.NUM_LAYER], model[t.NUM_HEAD], model[t.NUM_KV_HEAD] = 1000, 1, 1, 1
    model[t.HEAD_DIM], model[t.NUM_UP], model[t.TIED] = 1000, 1, 1
    model[t.INTER] = (parameter - 4 * 1000 * 1000 - 4 * 1000) / 2000
    memory = np.zeros(len(t.MEMORY))
    plan = plan_vector(TrainPlan(dp=degree, batch=degree, zero=zero, grad_byte=2.0))
    t.plan_memory(model, plan, np.array(t.IDEAL_FIT), 0.0, memory)
    return float(memory[t.M_WEIGHT] + memory[t.M_GRAD] + memory[t.M_OPTIMIZER]) / 1e9


def run() -> pd.DataFrame:
    """Every cell of the table, plain data parallelism, and GPT-2."""
    parameter, published = GPT2
    rows = [
        row(
            "data parallel",
            "GB a device",
            "1.5 B parameters, 1 device",
            published,
            states_gb(parameter, 0, 1),
            "",
            0.01,
        )
    ]
    for parameter, stages in TABLE.items():
        size = f"{parameter / 1e9:g} B parameters"
        plain = states_gb(parameter, 0, DEGREES[-1])
        rows.append(row("data parallel", "GB a device", f"{size}, 1024 devices", stages[0][0], plain, "", 0.01))
        for zero, values in enumerate(stages, 1):
            for degree, value in zip(DEGREES, values, strict=True):
                # half a unit of the last digit, or a whole one where it was cut
                bound = max(0.005, 0.006 / value)
                rows.append(row(f"ZeRO-{zero}", "GB a device", f"{size}, {degree} devices", value,
                                states_gb(parameter, zero, degree), ROUNDED, bound))  # fmt: skip
    return pd.DataFrame(rows)


@styled
def plot(table: pd.DataFrame) -> "Figure":
    """GB a device over the degree: simulated curves through the published points, a panel a model."""
    figure, axes = new_figure(1, len(TABLE), (11.0, 3.6))
    degrees = np.array(DEGREES)
    for axis, (parameter, stages) in zip(axes, TABLE.items(), strict=True):
        for zero, (values, colour) in enumerate(zip(stages, PALETTE, strict=False), 1):
            axis.plot(
                degrees, [states_gb(parameter, zero, n) for n in DEGREES], "-", color=colour, label=f"ZeRO-{zero}"
            )
            axis.plot(degrees, values, "o", color=colour, mfc="white")
        axis.axhline(80, color="black", lw=0.8, ls=":")
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xlabel("devices")
        axis.set_ylabel("GB a device")
        axis.set_title(f"{parameter / 1e9:g} B parameters")
    axes[0].plot([], [], "o", color="black", mfc="white", label="published")
    axes[0].plot([], [], ":", color="black", lw=0.8, label="80 GB")
    axes[0].legend(fontsize=7)
    suptitle(figure, "Model states of ZeRO")
    return figure
