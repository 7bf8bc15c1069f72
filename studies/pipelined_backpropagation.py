"""How busy is a pipeline that never drains, and how old are its weights? (Pipelined Backpropagation at Scale, 2021)"""

from typing import TYPE_CHECKING, Any

import pandas as pd

from sim.pipeline.schedule import run_schedule
from sim.show.plot_style import BLUE, FAINT, PALETTE, new_figure, styled, suptitle
from studies._verdict import frame, order, point
from workloads.pipeline import Op, Order
from workloads.schedules import load

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Pipelined Backpropagation (Kosson et al. 2021): every stage always busy at a batch of one, with stale weights"
SMALL: dict[str, Any] = {"stages": (4, 16), "batches": (1, 8)}
STAGES, BATCHES = (4, 8, 16, 34, 64), (1, 4, 8, 16, 32, 64)  # 34: as many as the layers of a ResNet-20 with its joins
LONG = 20  # samples a stage of a run that has no end
FORWARD, BACKWARD = 1, 2  # ticks: a backward pass is two products where a forward one is one
BUSY, OLD = "share of time busy", "updates between forward and backward"
DRAIN, NEVER = "fill and drain", "never drained"
NOTE = "equal stages, no time between them, a sample a microbatch; fill and drain updates once a batch"


def stale_order(num_stage: int, num_sample: int) -> Order:
    """A forward and a backward pass a cycle: stage `i` gets its own sample back 2 (p - 1 - i) cycles later, and updates
    at each."""
    ranks: Order = []
    for stage in range(num_stage):
        ahead = min(2 * (num_stage - 1 - stage), num_sample)
        ops = [Op("F", stage, m) for m in range(ahead)]
        for m in range(num_sample):
            if m + ahead < num_sample:
                ops.append(Op("F", stage, m + ahead))
            ops.append(Op("B", stage, m))
        ranks.append(ops)
    return ranks


def staleness(order_: Order) -> list[int]:
    """Updates of every stage between the two passes of a sample in the middle of a run, counted in its order."""
    out = []
    for stage, ops in enumerate(order_):
        middle = max(op.microbatch for op in ops) // 2
        first, last = ops.index(Op("F", stage, middle)), ops.index(Op("B", stage, middle))
        out.append(sum(op.kind == "B" for op in ops[first:last]))
    return out


def busy(order_: Order, num_sample: int) -> float:
    """Share of the devices' time in passes, replayed."""
    found = run_schedule(order_, (FORWARD, BACKWARD, 0))
    return num_sample * (FORWARD + BACKWARD) / float(found.summary["makespan"])


def drained(num_stage: int, batch: int) -> float:
    """Of a pipeline that empties after every batch."""
    return busy(load("gpipe").build(num_stage, batch), batch)


def run(stages: tuple[int, ...] = STAGES, batches: tuple[int, ...] = BATCHES) -> pd.DataFrame:
    """Busy shares of both by stages and batch, and how old weights are."""
    rows: list[dict[str, Any]] = []
    never, gap = {}, {}
    for stage in stages:
        num = LONG * stage
        own = stale_order(stage, num)
        never[stage], gap[stage] = busy(own, num), staleness(own)
        rows.append(point(NEVER, BUSY, f"{stage} stages; endless", never[stage]))
        rows += [point(DRAIN, BUSY, f"{stage} stages; {batch}", drained(stage, batch)) for batch in batches]
    deep = stages[-1]
    rows += [point(NEVER, OLD, str(at), float(value)) for at, value in enumerate(gap[deep])]
    best = {stage: drained(stage, max(batches)) for stage in stages}
    rows += [
        order(NEVER, "order: busier than a drained pipeline at any batch", f"{min(stages)} to {max(stages)} stages",
              all(never[stage] > best[stage] for stage in stages), f"drained {best[deep]:.0%} at most; {NOTE}"),
        order(NEVER, "order: nearly always busy (90 % of a run of 20 samples a stage)", f"{deep} stages",
              never[deep] > 0.9, f"{never[deep]:.1%}, the rest is one fill and one drain; {NOTE}"),
        order(DRAIN, "order: hardly busy at a batch of one", f"{deep} stages", drained(deep, 1) < 2 / deep, NOTE),
        order(NEVER, "order: the first stage's weights are the oldest, the last one's new", f"{deep} stages",
              gap[deep] == sorted(gap[deep], reverse=True) and gap[deep][-1] == 0,
              f"{gap[deep][0]} updates at the first; {NOTE}"),
    ]  # fmt: skip
    return frame(rows)


@styled
def plot(table: pd.DataFrame) -> "Figure":
    """Busy shares by batch for each depth beside those of a pipeline without end, and the age of weights by stage."""
    figure, (share, age) = new_figure(1, 2, (9.5, 3.6))
    part = table[table["claim"] == BUSY]
    depth = part["setup"].str.split("; ").str[0]
    for name, colour in zip(dict.fromkeys(depth), (*PALETTE, FAINT), strict=False):
        own = part[(depth == name) & (part["system"] == DRAIN)]
        share.plot(own["setup"].str.split("; ").str[1].astype(int), own["simulated"], "o-", color=colour, label=name)
        share.axhline(
            float(part[(depth == name) & (part["system"] == NEVER)]["simulated"].iloc[0]), color=colour, ls="--"
        )
    share.set_xscale("log", base=2)
    share.set(xlabel="batch", ylabel=BUSY, ylim=(0, 1.03), title="drained (points), never drained (dashes)")
    share.legend(fontsize=7)
    old = table[table["claim"] == OLD]
    age.bar(old["setup"].astype(int), old["simulated"], color=BLUE)
    age.set(xlabel="stage", ylabel=OLD)
    suptitle(figure, "Pipelined backpropagation: busy stages, old weights")
    return figure
