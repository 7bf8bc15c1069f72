"""Where the operators of a step fall under the roofs of a machine."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hw_models.device import cost
from kernels.formats import FORMATS
from kernels.machine import MEM_BYTE_PER_S
from kernels.optable import BOUNDS, KINDS, mem_byte, op_per_byte
from kernels.units import PS_PER_S
from sim.scenario import Scenario
from sim.setup import Setup, prepare
from workloads.lowering import Plan, lower_step

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def roofline(
    scenario: Scenario, batch: int = 32, context: int = 1024, chunk: int = 1024
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Operators of a prefill step (one prompt of `chunk` tokens) and of a decode step (`batch` sequences of
    `context` tokens), priced at the scenario's fidelity, and the machine's roofs.

    Returns two frames. Operators, one row an operator and phase: `phase, operator, kind, format, layers, flop,
    mem_byte, op_per_byte, time_s` (all layers), `share` of the step, `flop_per_s` achieved, `bound`.
    Roofs, one row a number format: `format, peak_flop_per_s, mem_byte_per_s, ridge_op_per_byte`.
    """
    setup = prepare(scenario)
    frames = [operators(setup, phase, plan) for phase, plan in typical_plans(batch, context, chunk).items()]
    return pd.concat(frames, ignore_index=True), roofs(setup)


def typical_plans(batch: int, context: int, chunk: int) -> dict[str, Plan]:
    """A prompt of `chunk` tokens; `batch` sequences of `context` tokens that decode."""
    one, many = np.ones(1, np.int64), np.ones(batch, np.int64)
    return {
        "prefill": Plan(one * chunk, one * chunk, one == 0, one == 1),
        "decode": Plan(many, many * context, many == 1, many == 1),
    }


def operators(setup: Setup, phase: str, plan: Plan) -> pd.DataFrame:
    """One row an operator of one step on the first device of each stage; stages are added up."""
    frames = []
    for stage in range(setup.placement.pp):
        ops, work = lower_step(setup.model, setup.formats, setup.placement, stage, plan, setup.scenario.expert_skew)
        ops = ops[ops["count"] > 0]
        price = cost(ops, work, setup.machine)
        count = ops["count"]
        time_s = price["time_ps"] / PS_PER_S
        frames.append(
            pd.DataFrame(
                {
                    "phase": phase,
                    "operator": [name.decode() for name in ops["name"]],
                    "kind": [KINDS[kind] for kind in ops["kind"]],
                    "format": [FORMATS[fmt].name for fmt in ops["fmt"]],
                    "layers": count,
                    "flop": ops["flop"] * count,
                    "mem_byte": mem_byte(ops) * count,
                    "link_byte": ops["link_byte"] * count,
                    "op_per_byte": op_per_byte(ops),
                    "time_s": time_s,
                    "flop_per_s": np.divide(ops["flop"] * count, time_s, out=np.zeros(len(ops)), where=time_s > 0),
                    "bound": [BOUNDS[bound] for bound in price["bound"]],
                }
            )
        )
    frame = pd.concat(frames, ignore_index=True)
    frame.insert(list(frame.columns).index("time_s") + 1, "share", frame["time_s"] / frame["time_s"].sum())
    return frame


def roofs(setup: Setup) -> pd.DataFrame:
    """Peak rate and ridge point of each number format that the device has a pipe for."""
    bandwidth = float(setup.machine.rate[MEM_BYTE_PER_S])
    peak = setup.machine.peak_flop_per_s
    rows = [(form.pipe, float(peak[code])) for code, form in enumerate(FORMATS) if peak[code] > 0]
    rows = sorted(set(rows), key=lambda row: row[1], reverse=True)
    frame = pd.DataFrame(rows, columns=["format", "peak_flop_per_s"])
    frame["mem_byte_per_s"] = bandwidth
    frame["ridge_op_per_byte"] = frame["peak_flop_per_s"] / bandwidth
    return frame


def show(points: pd.DataFrame, roofs_frame: pd.DataFrame) -> str:
    """Both tables as text, in friendly units."""
    table = pd.DataFrame(
        {
            "phase": points["phase"],
            "operator": points["operator"],
            "layers": points["layers"],
            "GFLOP": points["flop"] / 1e9,
            "MB": points["mem_byte"] / 1e6,
            "Op/B": points["op_per_byte"],
            "us": points["time_s"] * 1e6,
            "share %": points["share"] * 100,
            "TFLOP/s": points["flop_per_s"] / 1e12,
            "bound": points["bound"],
        }
    )
    roof = pd.DataFrame(
        {
            "format": roofs_frame["format"],
            "TFLOP/s": roofs_frame["peak_flop_per_s"] / 1e12,
            "GB/s": roofs_frame["mem_byte_per_s"] / 1e9,
            "ridge Op/B": roofs_frame["ridge_op_per_byte"],
        }
    )
    number = "{:,.2f}".format
    return "\n".join(frame.to_string(index=False, float_format=number) for frame in (table, roof))


def draw(points: pd.DataFrame, roofs_frame: pd.DataFrame, scenario: Scenario) -> "Figure":
    """The operators under the roofs of the formats that they use."""
    from sim import plots

    used = set(points.loc[points["flop"] > 0, "format"])
    chosen = roofs_frame[roofs_frame["format"].isin(used)]
    shown = chosen if len(chosen) else roofs_frame
    peaks = list(zip(shown["format"], shown["peak_flop_per_s"], strict=True))
    return plots.roofline(
        points, peaks, float(shown["mem_byte_per_s"].iloc[0]), f"{scenario.model} on {scenario.system}"
    )
