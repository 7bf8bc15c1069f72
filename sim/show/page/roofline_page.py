"""The operators of a run's mean steps under its device's roofs, a chart a phase."""

from typing import TYPE_CHECKING

import numpy as np

from sim.show.page.charts import Axis, line, points
from sim.show.page.page import section

if TYPE_CHECKING:
    import pandas as pd

    from sim.run.simulate import Simulation


def roofline_charts(done: "Simulation") -> str:
    """The section of a run's page."""
    from sim.run.results import roofline_frames

    if done.setup.ffn is not None:
        return section("Roofline", said="Not drawn: the layers of this run are on two machines.")
    return roofline_section(*roofline_frames(done))


def roofline_section(found: "pd.DataFrame", roofs: "pd.DataFrame") -> str:
    """Operators (`sim.show.roofline.operators`, both phases) under the roofs of the formats that they use."""
    from sim.show.roofline import UNITS

    there = found[(found["flop"] > 0) & (found["mem_byte"] > 0) & (found["time_s"] > 0)]
    shown = roofs[roofs["format"].isin([*there["format"], UNITS])]
    shown = shown if len(shown) else roofs
    if not len(there) or not len(shown):
        return ""
    at = (there["flop"] / there["mem_byte"]).to_numpy(np.float64)
    done = there["flop_per_s"].to_numpy(np.float64)
    names = ("ridge_op_per_byte", "peak_flop_per_s", "mem_byte_per_s")
    ridge, peaks, rate = (shown[name].to_numpy(np.float64) for name in names)
    x = Axis("operational intensity (FLOP/byte)", float(max(at.max(), ridge.max())) * 3,
             float(min(at.min(), ridge.min())) / 2, True)  # fmt: skip
    floor = min(float(done.min()) / 2, x.low * float(rate.min()))
    y = Axis("FLOP/s", float(peaks.max()) * 2, floor, True)
    behind, said = "", []
    for roof in shown.to_dict("records"):
        peak, byte = float(roof["peak_flop_per_s"]), float(roof["mem_byte_per_s"])
        edge = min(max(peak / byte, x.low), x.high)
        behind += line(x, y, [(x.low, min(peak, x.low * byte)), (edge, min(peak, edge * byte)), (x.high, peak)])
        said.append(f"{roof['format']}: {peak / 1e12:,.4g} TFLOP/s, {byte / 1e9:,.4g} GB/s")
    charts = []
    for phase in dict.fromkeys(found["phase"]):
        own = there[there["phase"] == phase]
        series: dict[str, list[tuple[float, float, str, str]]] = {}
        radius: dict[str, list[float]] = {}
        for row in own.to_dict("records"):
            speed = f"{row['op_per_byte']:.4g} FLOP/byte, {row['flop_per_s']:.4g} FLOP/s"
            whole = f"{row['operator']}: {speed}, {row['share']:.1%}"
            place = float(row["flop"]) / float(row["mem_byte"]), float(row["flop_per_s"])
            word = str(row["operator"]) if row["share"] > 0.1 else ""
            series.setdefault(str(row["kind"]), []).append((*place, word, whole))
            radius.setdefault(str(row["kind"]), []).append(3.0 + 12.0 * float(row["share"]) ** 0.5)
        rest = 1.0 - float(own["share"].sum())
        words = f"area: share of the time; not shown: {rest:.0%} of it (no FLOPs or no bytes)"
        charts.append(points(f"A mean {phase} step", x, y, series, said=words, behind=behind, radius=radius))
    return section("Roofline", *charts, said="; ".join(said) + ". Both axes are logarithmic.")
