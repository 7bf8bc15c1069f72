"""Critical batch size: the plan with the highest throughput is neither the cheapest nor the soonest to a target."""

import functools
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sim.show.plot_style import FAINT, ORANGE, PALETTE, new_figure, styled, suptitle
from sim.training.critical_batch import Hyperbola
from sim.training.search import batch_tradeoff
from sim.training.space import Space
from studies._panels import records
from studies._verdict import frame, order, point

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "Critical batch size (McCandlish et al. 2018): a run at it takes twice the fewest steps and twice the fewest tokens"
)
SMALL = {"devices": (64, 256), "batches": (128, 1024)}
MODEL, SYSTEM, SEQ = "gpt3-13b", "dgx_a100", 2048
DEVICES, BATCHES = (64, 256, 1024), (128, 256, 512, 1024, 2048, 4096, 8192)
# Kaplan et al. 2020 (arXiv 2001.08361, equation 1.4): B_crit = 2e8 tokens / L^(1/0.21); at a loss of 3 nats
CRITICAL_BATCH = 2e8 / 3 ** (1 / 0.21) / SEQ
HOURS, DOLLARS, RATE = "hours to the target", "dollars to the target", "tokens/s a GPU"
MIN_STEP = 10_000  # any number: it cancels in every ratio here
NOTE = "batch of 522 sequences is critical (loss of 3 nats); the fastest plan of each batch by search, at list prices"


@functools.cache
def tradeoff(devices: tuple[int, ...] = DEVICES, batches: tuple[int, ...] = BATCHES) -> pd.DataFrame:
    """The fastest plan of every number of devices and batch: hours and dollars to the target, tokens a second."""
    spaces = [
        Space(
            n,
            batch,
            SEQ,
            zeros=(0, 1),
            grad_bytes=(4.0,),
            optimizer_bytes=(12.0,),
            max_micro_batch=8,
            max_chunk=4,
            schedules=("1f1b", "interleaved-1f1b"),
        )
        for n in devices
        for batch in batches
    ]
    table = batch_tradeoff(MODEL, SYSTEM, spaces, steps=Hyperbola(MIN_STEP, CRITICAL_BATCH))
    return table.assign(token_per_s_per_device=table["batch"] * SEQ / table["step_s"] / table["num_device"])


def run(devices: tuple[int, ...] = DEVICES, batches: tuple[int, ...] = BATCHES) -> pd.DataFrame:
    """What the plan of the highest throughput costs beside the best ones, a point a plan. (That a run at the critical
    batch takes twice the fewest steps and tokens is the relation itself, which the tests of it hold.)"""
    table = tradeoff(devices, batches)
    rows = []
    for count, part in table.groupby("num_device"):
        setup = f"{MODEL} on {count} x A100, batches of {min(batches)} to {max(batches)}"
        plans = records(part)
        quick = max(plans, key=lambda one: one["token_per_s_per_device"])
        cheap = min(plans, key=lambda one: one["target_usd"])
        ratio = float(quick["target_usd"] / cheap["target_usd"])
        note = f"{ratio:.3g} times the dollars; batch {quick['batch']} against {cheap['batch']}; {NOTE}"
        rows += [
            order("highest throughput", "order: dearer to the target than the cheapest plan", setup, ratio > 1, note),
            order("cheapest", "order: a batch below the critical one", setup, cheap["batch"] < CRITICAL_BATCH,
                  f"batch {cheap['batch']}: tokens are wasted beyond; {NOTE}"),
        ]  # fmt: skip
    best = table.sort_values("target_h").drop_duplicates("num_device").sort_values("num_device")["batch"].tolist()
    rows.append(order("soonest", "order: more devices want as large a batch or a larger", f"{MODEL}, {len(best)} sizes",
                      best == sorted(best), "a small batch does not fill many devices"))  # fmt: skip
    for one in records(table):
        setup = f"{one['num_device']} A100, batch {one['batch']}"
        note = "nothing sooner and cheaper" if one["pareto"] else ""
        for claim, name in ((HOURS, "target_h"), (DOLLARS, "target_usd"), (RATE, "token_per_s_per_device")):
            rows.append(point("plan", claim, setup, float(one[name]), note))
    return frame(rows)


@styled
def plot(table: pd.DataFrame) -> "Figure":
    """Dollars and hours to the target of every batch (front: filled), and the relation itself with the batches."""
    figure, (cost, relation) = new_figure(1, 2, (11, 4.6))
    part = table[table["system"] == "plan"]
    found = part.pivot_table("simulated", "setup", "claim", sort=False)
    found["pareto"] = part.groupby("setup", sort=False)["assumptions"].first() != ""
    found["device"] = [int(setup.split()[0]) for setup in found.index]
    found["batch"] = [int(setup.split("batch ")[1]) for setup in found.index]
    for colour, (count, one) in zip(PALETTE, found.groupby("device"), strict=False):
        cost.plot(one[HOURS], one[DOLLARS], "o-", color=colour, mfc="white", label=f"{count} A100")
        front = one[one["pareto"]]
        cost.plot(front[HOURS], front[DOLLARS], "o", color=colour)
        quick, cheap = one.iloc[int(one[RATE].argmax())], one.iloc[int(one[DOLLARS].argmin())]
        cost.plot(quick[HOURS], quick[DOLLARS], "*", color=colour, ms=15)
        for each in (cheap, quick):
            cost.annotate(f"batch {each['batch']:g}", (each[HOURS], each[DOLLARS]), (6, 5), textcoords="offset points",
                          fontsize=7)  # fmt: skip
    cost.plot([], [], "*", color=FAINT, ms=12, label="highest throughput")
    cost.plot([], [], "o", color=FAINT, label="nothing sooner and cheaper")
    cost.set(xscale="log", yscale="log", xlabel="hours to the target", ylabel="dollars to the target")
    cost.margins(x=0.35)
    cost.set_xlim(left=float(found[HOURS].min()) / 12)  # room for the legend
    cost.legend(fontsize=8, loc="upper left")
    batch = np.geomspace(CRITICAL_BATCH / 16, CRITICAL_BATCH * 16, 60)
    relation.plot(1 + CRITICAL_BATCH / batch, 1 + batch / CRITICAL_BATCH, color=FAINT)
    for size in sorted(set(found["batch"])):
        place = (1 + CRITICAL_BATCH / size, 1 + size / CRITICAL_BATCH)
        relation.plot(*place, "o", color=PALETTE[0])
        relation.annotate(str(size), place, (6, 4), textcoords="offset points", fontsize=8)
    relation.plot(2, 2, "D", color=ORANGE, label=f"critical batch, {CRITICAL_BATCH:.0f} sequences")
    relation.set(xscale="log", yscale="log", xlabel="steps over the fewest", ylabel="tokens over the fewest")
    relation.legend()
    suptitle(figure, f"{MODEL} to a target loss: time and cost of every batch, and the critical batch size")
    return figure
