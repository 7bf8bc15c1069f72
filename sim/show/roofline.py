"""Where the operators of a step fall under the roofs of a machine."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hw_models.device import cost
from kernels.errors import InputError
from kernels.formats import FORMATS
from kernels.machine import EXPERT_BYTE, EXPERT_PIM_BYTE, MEM_BYTE_PER_S, PIM_BYTE_PER_S, PIM_FLOP_PER_S
from kernels.optable import (
    BOUNDS,
    ENGINE_LINK,
    ENGINE_PIM,
    KINDS,
    MOE,
    CostTable,
    OpTable,
    mem_byte,
    op_per_byte,
)
from kernels.units import PS_PER_S
from sim.run.ffn_part import one_machine
from sim.run.scenario import Scenario, check_scenarios
from sim.run.setup import Setup, prepare
from sim.show.tables import table as text_table
from workloads.lowering import Plan, lower_step

if TYPE_CHECKING:
    from matplotlib.figure import Figure


UNITS = "units"  # the roof of units in the memory


def roofline(
    scenario: Scenario, batch: int = 32, context: int = 1024, chunk: int = 1024
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Operators of a prefill step (one prompt of `chunk` tokens) and of a decode step (`batch` sequences of
    `context` tokens), priced at the scenario's fidelity, and the machine's roofs.

    Returns two frames. Operators, one row an operator and phase: `phase, operator, kind, format, layers, flop,
    mem_byte, op_per_byte, time_s` (all layers), `share` of the step, `flop_per_s` achieved, `bound`, `engine`.
    Roofs, one row a number format: `format, peak_flop_per_s, mem_byte_per_s, ridge_op_per_byte`; units
    in the memory have a roof of their own.
    """
    check_scenarios(scenario)
    one_machine(scenario, "a roofline is of")
    setup = prepare(scenario)
    if setup.placement.dp > 1:
        raise InputError("has no effect: a step is one replica's", field="dp", value=scenario.dp,
                         allowed="1, or what shares experts (ep)")  # fmt: skip
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
        ops, work = lower_step(setup.model, setup.formats, setup.placement, stage, plan, setup.expert_skew)
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
                    "engine": engines(ops, price, setup),
                }
            )
        )
    frame = pd.concat(frames, ignore_index=True)
    frame.insert(list(frame.columns).index("time_s") + 1, "share", frame["time_s"] / frame["time_s"].sum())
    return frame


def engines(ops: OpTable, price: CostTable, setup: Setup) -> list[str]:
    """Where each operator runs: `xpu`, `units` in the memory, `both`, or `link`."""
    table = setup.machine.expert
    found = []
    for row, cost_row in zip(ops, price, strict=True):
        name = "units" if cost_row["engine"] == ENGINE_PIM else "link" if cost_row["engine"] == ENGINE_LINK else "xpu"
        if len(table) and row["kind"] == MOE:
            entry = table[min(int(row["m"]), len(table) - 1)]
            share = entry[EXPERT_PIM_BYTE] / max(entry[EXPERT_BYTE], 1.0)
            name = "both" if 0.01 < share < 0.99 else "units" if share >= 0.99 else "xpu"
        found.append(name)
    return found


def roofs(setup: Setup) -> pd.DataFrame:
    """Peak rate and ridge point of each number format that the device has a pipe for, and of the units in its memory
    (format `units`) where it has them."""
    bandwidth = float(setup.machine.rate[MEM_BYTE_PER_S])
    peak = setup.machine.peak_flop_per_s
    rows = [(form.pipe, float(peak[code])) for code, form in enumerate(FORMATS) if peak[code] > 0]
    rows = sorted(set(rows), key=lambda row: row[1], reverse=True)
    frame = pd.DataFrame(rows, columns=["format", "peak_flop_per_s"])
    frame["mem_byte_per_s"] = bandwidth
    rate = setup.machine.rate
    if rate[PIM_BYTE_PER_S] > 0:
        units = {"format": UNITS, "peak_flop_per_s": rate[PIM_FLOP_PER_S], "mem_byte_per_s": rate[PIM_BYTE_PER_S]}
        frame = pd.concat([frame, pd.DataFrame([units])], ignore_index=True)
    frame["ridge_op_per_byte"] = frame["peak_flop_per_s"] / frame["mem_byte_per_s"]
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
            "engine": points["engine"],
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
    return "\n".join(text_table(frame) for frame in (table, roof))


def draw(points: pd.DataFrame, roofs_frame: pd.DataFrame, scenario: Scenario) -> "Figure":
    """The operators under the roofs of the formats that they use."""
    from sim.show import plots

    units = roofs_frame[roofs_frame["format"] == UNITS]
    formats = roofs_frame[roofs_frame["format"] != UNITS]
    used = set(points.loc[points["flop"] > 0, "format"])
    chosen = formats[formats["format"].isin(used)]
    shown = chosen if len(chosen) else formats
    peaks = list(zip(shown["format"], shown["peak_flop_per_s"], strict=True))
    inside = (float(units["peak_flop_per_s"].iloc[0]), float(units["mem_byte_per_s"].iloc[0])) if len(units) else None
    return plots.roofline(
        points, peaks, float(shown["mem_byte_per_s"].iloc[0]), f"{scenario.model} on {scenario.system}", units=inside
    )
