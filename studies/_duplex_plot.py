"""The pictures of Duplex's study: decode steps, throughput and energy published beside simulated, EDAP by Op/B."""

from typing import TYPE_CHECKING

import pandas as pd

from sim.show.plot_style import BLUE, ORANGE, PALETTE, new_figure, styled, suptitle

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHORT = {"3 MoE models, 256 to 4096, batch 32 to 128": "grid", "GLaM, batch 64, 512 to 2048": "GLaM"}


@styled
def figure(rows: pd.DataFrame) -> "Figure":
    """Four panels of the rows of `studies.duplex.run`."""
    made, axes = new_figure(2, 2, (13.5, 9.0), width_ratios=(1.25, 1.0))
    _steps(axes[0][0], rows[rows["claim"].str.startswith("decode step")])
    ratio = rows["claim"].str.startswith(("throughput over", "saturation"))
    _pairs(axes[0][1], rows[ratio], "throughput ratio; saturation in requests/s")
    _pairs(axes[1][1], rows[rows["claim"].str.contains("saved")], "share saved")
    _edap(axes[1][0], rows[rows["claim"] == "EDAP"])
    suptitle(made, "Duplex: published and simulated")
    return made


def _steps(axis: "Axes", rows: pd.DataFrame) -> None:
    """Bars by machine, a group a set-up, the published value as a mark."""
    setups, systems = list(dict.fromkeys(rows["setup"])), list(dict.fromkeys(rows["system"]))
    for k, system in enumerate(systems):
        part = rows[rows["system"] == system]
        place = [g + (k - (len(systems) - 1) / 2) * 0.16 for g in range(len(setups))]
        axis.bar(place, part["simulated"], 0.15, color=PALETTE[k % len(PALETTE)], label=system)
        axis.plot(place, part["paper"], "_", color="black", markersize=11, label="published" if k == 0 else None)
    axis.set_xticks(range(len(setups)), setups)
    axis.set_ylim(0, 1.3 * float(rows["paper"].max()))
    axis.set_ylabel("ms a decode step, Mixtral")
    axis.legend(fontsize=8, ncols=3)


def _pairs(axis: "Axes", rows: pd.DataFrame, label: str) -> None:
    place = range(len(rows))
    axis.barh([p - 0.2 for p in place], rows["paper"], 0.38, color=ORANGE, label="published")
    axis.barh([p + 0.2 for p in place], rows["simulated"], 0.38, color=BLUE, label="simulated")
    claims = rows["claim"].str.removeprefix("throughput ")
    setups = [SHORT.get(setup, setup) for setup in rows["setup"]]
    names = [": ".join(pair) + f", {setup}" for *pair, setup in zip(rows["system"], claims, setups, strict=True)]
    axis.set_yticks(list(place), [name if len(name) <= 62 else name[:61] + "…" for name in names], fontsize=7)
    axis.invert_yaxis()
    axis.set_xlabel(label)
    axis.grid(axis="y", visible=False)
    axis.legend(fontsize=8)


def _edap(axis: "Axes", rows: pd.DataFrame) -> None:
    """Lines by Op/B, published dashed."""
    for k, system in enumerate(dict.fromkeys(rows["system"])):
        part = rows[rows["system"] == system]
        intensity = [int(str(setup).split()[0]) for setup in part["setup"]]
        axis.plot(intensity, part["simulated"], "o-", color=PALETTE[k], label=system)
        axis.plot(intensity, part["paper"], "s--", color=PALETTE[k], alpha=0.6, markersize=4)
    axis.set_xscale("log", base=2)
    axis.set_xlabel("Op/B (published dashed)")
    axis.set_ylabel("EDAP, the largest of three 1")
    axis.legend(fontsize=8)
