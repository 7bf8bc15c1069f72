"""Does a pod of 1,024 TPU v3 train BERT-Large as evenly as its batch grows? (LAMB: BERT in 76 minutes, ICLR 2020)"""

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sim.show.plot_style import BLUE, FAINT, ORANGE, new_figure, styled, suptitle
from sim.training.critical_batch import StepTable
from sim.training.estimate import Estimate, estimate, known_site, rank_memory
from studies._gpt import gpt
from studies._verdict import frame, point, row
from workloads.training import TrainPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "LAMB (You et al. 2020): BERT-Large in 76 minutes on 1,024 TPU v3, in 81 hours on 16"
SMALL: dict[str, Any] = {"chips": (16, 1024)}
SYSTEM = "tpu_v3"
MODEL = gpt("bert-large", 1024, 24, 16, vocab=30522, position_row=512)
# chips: batch, steps, minutes (the paper's table of results); 16 chips with the same optimizer
TABLE = {16: (512, 1_000_000, 82.8 * 60), 32: (1024, 500_000, 43.2 * 60), 64: (2048, 250_000, 21.4 * 60),
         128: (4096, 125_000, 693.6), 256: (8192, 62_500, 390.5), 512: (16384, 31_250, 200.0),
         1024: (32768, 15_625, 101.2)}  # fmt: skip
STEPS = StepTable(
    np.array([float(one[0]) for one in TABLE.values()]), np.array([float(one[1]) for one in TABLE.values()])
)
SHORT, LONG = 128, 512  # tokens: nine tenths of the steps, and one
MIXED = {SHORT: (65536, 7038), LONG: (32768, 1561)}  # 8,599 steps, 76.19 minutes
MIXED_MINUTES, MINUTES, EVEN = 76.19, "minutes of a run", "speed a chip over that of 16"
EXPOSED = (0.0, 1.0)  # share of the reduction that is not hidden, not published
KEPT = (("fused_softmax", True), ("fused_softmax", False), ("unfused", True))  # attention, masks kept
NOTE = (
    "the published loss is one step between 64 and 256 chips, which neither reduction nor update has; the two runs on "
    "1,024 chips, of one batch and of the mixed, leave 0.21 s a step that no token takes, and on 16 chips 0.12 s: "
    "tried, an all-reduce a weight tensor (8 to 57 ms) and an update of its own for each of a chip's two cores (21 "
    "ms); nine tenths of the steps at 128 tokens, one at 512; products and passes at the share of their roofline that "
    "16 chips give; gradients in 32 bits, none or all of the reduction exposed; the head on every token"
)


def step(seq: int, chips: int, batch: int, slow: float, exposed: float) -> Estimate:
    """One step at `slow` times the speed of light."""
    where = known_site(SYSTEM, chips, "sol", "unfused")
    where = where._replace(stack=where.stack.copy())
    where.stack["compute"] = where.stack["vector"] = slow
    where.stack["exposed"] = exposed
    plan = TrainPlan(dp=chips, micro_batch=batch // chips, batch=batch, seq=seq, attention="unfused", dropout=True,
                     fused_norm=True)  # fmt: skip
    return estimate(MODEL, plan, where)


def minutes(chips: int, slow: float, exposed: float = 0.0) -> float:
    """Of a run at the table's batch."""
    batch = TABLE[chips][0]
    both = 0.9 * step(SHORT, chips, batch, slow, exposed).step_s + 0.1 * step(LONG, chips, batch, slow, exposed).step_s
    return STEPS.at(batch) * both / 60


def mixed(slow: float, exposed: float = 0.0) -> float:
    """Minutes with a batch of its own at either length, on the whole pod."""
    return sum(num * step(seq, 1024, batch, slow, exposed).step_s for seq, (batch, num) in MIXED.items()) / 60


def largest(attention: str, dropout: bool) -> float:
    """Sequences of 512 tokens that all chips hold, from the bytes of two batches (they grow evenly)."""
    stack = known_site(SYSTEM, 1024, "sol", "unfused").stack
    plan = TrainPlan(dp=1024, batch=1024, seq=LONG, attention=attention, dropout=dropout, fused_norm=True)
    one, two = (float(rank_memory(MODEL, replace(plan, micro_batch=n, batch=1024 * n), stack)[-1]) for n in (16, 32))
    return 1024 * (16 + (float(stack["mem_byte"]) - one) / (two - one) * 16)


@functools.cache
def slowdown() -> float:
    """The one constant that is fitted: what 16 chips take over the speed of light."""
    found = 2.0
    for _ in range(4):
        found *= TABLE[16][2] / minutes(16, found)
    return found


def run(chips: tuple[int, ...] = tuple(TABLE)) -> pd.DataFrame:
    """Minutes of every row of the table, how even the speed is, the mixed batch, and what fits."""
    slow = slowdown()
    note = f"{slow:.2f} times the speed of light; {NOTE}"
    rows: list[dict[str, Any]] = []
    for count in chips:
        batch, _, published = TABLE[count]
        setup = f"{count} chips, batch {batch}"
        found = [minutes(count, slow, exposed) for exposed in EXPOSED]
        if count == 16:
            rows.append(row("LAMB", MINUTES, setup, published, found[0], note, kind="fitted"))
            continue
        rows.append(row("LAMB", MINUTES, setup, published, found[0], note, spread=found))
        even = [TABLE[16][2] * 16 / one / count for one in found]
        if count == 1024:
            lost = [1 - one for one in even]
            gone = 1 - TABLE[16][2] * 16 / published / count
            rows.append(row("LAMB", "speed lost, share", "1024 over 16 chips", gone, lost[0],
                            note, tag="approx", null=0.0, spread=lost))  # fmt: skip
        rows += [point(f"{exposed:.0%} exposed", EVEN, str(count), one)
                 for exposed, one in zip(EXPOSED, even, strict=True)]  # fmt: skip
    found = [mixed(slow, exposed) for exposed in EXPOSED]
    rows.append(row("LAMB", MINUTES, "1024 chips, batches of 64K and 32K", MIXED_MINUTES, found[0], note, spread=found))
    both = [found[i] / minutes(1024, slow, exposed) for i, exposed in enumerate(EXPOSED)]
    rows.append(row("LAMB", "time of the mixed batch over 32K alone", "1024 chips", round(MIXED_MINUTES / 101.2, 3),
                    both[0], note, null=1.0, spread=both))  # fmt: skip
    most = [largest(attention, dropout) for attention, dropout in KEPT]
    rows.append(row("LAMB", "largest batch of 512 tokens", "1024 chips", 32768, most[0],
                    f"softmax fused or not, masks kept or drawn again; {NOTE}", spread=most))  # fmt: skip
    return frame(rows)


@styled
def plot(table: pd.DataFrame) -> "Figure":
    """Minutes over chips beside an even line, and the speed that a chip keeps."""
    figure, (time, even) = new_figure(1, 2, (9.5, 3.8))
    part = table[(table["claim"] == MINUTES) & ~table["setup"].str.contains("64K")]
    chips = part["setup"].str.split().str[0].astype(int)
    time.plot(chips, part["paper"].iloc[0] * chips.iloc[0] / chips, "--", color=FAINT, label="even")
    time.plot(chips, part["paper"], "o", color=ORANGE, mfc="white", label="published")
    time.plot(chips, part["simulated"], "-", color=BLUE, label="simulated")
    last = table[table["setup"].str.contains("64K")].iloc[0]
    time.plot(1024, last["paper"], "D", color=ORANGE, mfc="white", label="64K and 32K, published")
    time.plot(1024, last["simulated"], "D", color=BLUE, label="64K and 32K, simulated")
    time.set_yscale("log")
    time.set(xlabel="TPU v3 chips", ylabel=MINUTES)
    time.legend(fontsize=7)
    even.plot(chips, part["paper"].iloc[0] * chips.iloc[0] / chips / part["paper"], "o", color=ORANGE, mfc="white",
              label="published")  # fmt: skip
    for name, part in table[table["claim"] == EVEN].groupby("system", sort=False):
        even.plot(part["setup"].astype(int), part["simulated"], ".-", label=str(name))
    even.set(xlabel="TPU v3 chips", ylabel=EVEN, ylim=(0, 1.05))
    even.legend(fontsize=7)
    for axis in (time, even):
        axis.set_xscale("log", base=2)
    suptitle(figure, "LAMB: BERT-Large on TPU v3")
    return figure
