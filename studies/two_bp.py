"""2BP: how much of 1.70x on four devices is scheduling, and how much is a pause of its baseline."""

from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from kernels.formats import FORMAT_CODE
from kernels.optable import ADD
from kernels.stream import stream_s
from kernels.train_step import FORWARD_S, INPUT_GRAD_S, MIDDLE, WEIGHT_GRAD_S
from sim.pipeline.schedule import run_schedule
from sim.show.plot_style import BLUE, GREEN, ORANGE, new_figure, styled, suptitle
from sim.training.estimate import known_site, rank_times
from studies._verdict import frame, order, point, row
from workloads import models
from workloads.models.tensors import num_param
from workloads.pipeline import Op, Order
from workloads.schedules import load as load_schedule
from workloads.training import TrainPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "2BP (Rae et al. 2024): 1.70 times the throughput of 1F1B with m = p on four devices"
MODEL, SYSTEM, STACK = "llama-2-7b", "dgx_a100_40gb", "scaling-2023"  # a LLaMa-like 7B on four GPUs (our reading)
TOKEN = 1024  # of a microbatch of one sequence
# bytes a weight, read and written: the new gradient and the sum are read, the sum is written, 16 bits each; weight,
# gradient and two moments in fp16 are read, all but the gradient written
ADD_BYTE, ADAM_BYTE = (4.0, 2.0), (8.0, 6.0)
PAUSE_S, PAUSES_S = 0.025, (0.020, 0.030)  # the baseline empties the allocator's cache: 20 to 30 ms
SCHEDULING, OWN = "speedup over 1F1B, scheduling alone", "speedup over 1F1B, own times"
ONE_BY_ONE, AS_CODED, PAUSED = "2BP, W at the end", "2BP, as coded", "2BP, as coded, over the baseline's pause"
NOTE = (
    "1,024 tokens, microbatch 1, fp16, Adam and a barrier in the time; weight gradients one by one in the cool-down, "
    "the rest at the end as a batched product and a sum"
)
PAUSE_NOTE = (
    "the baseline empties the allocator's cache after each backward pass of the last rank, 20 to 30 ms as its authors' "
    "code has it: most of the gain is this pause"
)


class StageTimes(NamedTuple):
    """Seconds of one microbatch through a quarter of the model, without embedding and head; `add_s` is what adding its
    weight gradients to those before takes, `adam_s` the optimizer's update of the quarter."""

    forward_s: float
    input_grad_s: float
    weight_grad_s: float
    add_s: float
    adam_s: float


def llama_times(tokens: int, stages: int) -> StageTimes:
    """Of Llama-2-7B in equal stages."""
    model, plan = models.load(MODEL), TrainPlan(pp=stages, batch=stages, seq=tokens)
    where = known_site(SYSTEM, stages, STACK, plan.attention, "fp16")
    out, value = rank_times(model, plan, where, MIDDLE), num_param(model) / stages
    fit = where.machine.fit[ADD, FORMAT_CODE["fp16"]]
    add_s, adam_s = (
        float(stream_s(value, read * value, write * value, where.machine.rate, fit)[0])
        for read, write in (ADD_BYTE, ADAM_BYTE)
    )
    forward_s, input_s, weight_s = (float(out[at]) for at in (FORWARD_S, INPUT_GRAD_S, WEIGHT_GRAD_S))
    return StageTimes(forward_s, input_s, weight_s, add_s, adam_s)


def coded_order(stages: int) -> Order:
    """1F1B with m = p, a weight gradient in each gap of the cool-down; the others are left for the end."""
    ranks: Order = []
    for rank, ops in enumerate(load_schedule("1f1b").build(stages, stages)):
        out, waiting, cooling = [], 0, stages - 1 - rank
        for at, op in enumerate(ops):
            out.append(op if op.kind == "F" else Op("I", op.stage, op.microbatch))
            if op.kind != "F" and at >= len(ops) - cooling - 1 and waiting < cooling:
                out.append(Op("W", op.stage, waiting))  # the oldest that waits
                waiting += 1
        ranks.append(out)
    return ranks


def gains(tokens: int, stages: int, pause_s: float) -> dict[str, float]:
    """Speedups over 1F1B: weight gradients all at the end one by one, and as coded over a baseline with a pause."""
    one = llama_times(tokens, stages)
    ns = [round(value * 1e9) for value in one]
    weight = round((one.weight_grad_s + one.add_s * (stages - 1) / stages) * 1e9)
    last = [ns[1]] * (stages - 1) + [ns[1] + round(pause_s * 1e9)]
    base = run_schedule(load_schedule("1f1b").build(stages, stages), (ns[0], last, weight)).summary["makespan"]
    late = run_schedule(load_schedule("2bp").build(stages, stages), (ns[0], ns[1], weight)).summary["makespan"]
    coded = run_schedule(coded_order(stages), (ns[0], ns[1], weight))
    end = 0.0
    for _, part in coded.op.groupby("rank"):
        left = stages - int((part["kind"] == "W").sum())
        # a product for each, written (2 B a weight) and read again for the sum, which is written
        tail = left * ns[2] + (2 * left + 2) / sum(ADD_BYTE) * ns[3] if left else 0.0
        end = max(end, float(part["end"].max()) + tail)
    return {ONE_BY_ONE: (base + ns[4]) / (late + ns[4]), AS_CODED: (base + ns[4]) / (end + ns[4])}


def run(stages: int = 4, tokens: int = TOKEN) -> pd.DataFrame:
    """1F1B (m = p) against its 2BP as the authors' code runs it, with and without the baseline's pause; scheduling
    alone, for W = F and for weight gradients that take longer, beside ZB-H1 of the same memory and no bubble at all."""
    setup = f"Llama 7B, p = m = {stages}, {tokens:,} tokens a microbatch"
    plain, paused = gains(tokens, stages, 0.0), gains(tokens, stages, PAUSE_S)
    spread = [gains(tokens, stages, pause_s)[AS_CODED] for pause_s in PAUSES_S]
    rows: list[dict[str, Any]] = [
        row(PAUSED, OWN, setup, 1.70, paused[AS_CODED], f"{NOTE}; {PAUSE_NOTE}", null=1.0, spread=spread),
        order(AS_CODED, "order: faster than 1F1B without the pause", setup, plain[AS_CODED] > 1,
              f"{plain[AS_CODED]:.2f}, of the published 1.70"),
        *(point(name, OWN, setup, gain, NOTE) for name, gain in plain.items()),
    ]  # fmt: skip
    for times in ((10, 10, 10), (10, 10, 20)):
        base = run_schedule(load_schedule("1f1b").build(stages, stages), times).summary
        setup = f"p = m = {stages}, F : I : W = {times[0]} : {times[1]} : {times[2]}"
        makespans = {
            ONE_BY_ONE: run_schedule(load_schedule("2bp").build(stages, stages), times).summary["makespan"],
            "ZB-H1": run_schedule(load_schedule("zb-h1").build(stages, stages), times).summary["makespan"],
            "no bubble (bound)": stages * sum(times),
        }
        rows += [point(name, SCHEDULING, setup, base["makespan"] / each) for name, each in makespans.items()]
    return frame(rows)


@styled
def plot(table: pd.DataFrame) -> "Figure":
    """Scheduling alone, and a Llama's own times, as bars; the published speedup as a line."""
    figure, axes = new_figure(1, 2, (10.0, 3.8))
    alone, own = (table[table["claim"] == claim] for claim in (SCHEDULING, OWN))
    axes[0].bar(range(len(alone)), alone["simulated"], color=[BLUE, GREEN, ORANGE] * (len(alone) // 3))
    labels = [f"{a}\n{b.split('= ')[-1]}" for a, b in zip(alone["system"], alone["setup"], strict=True)]
    axes[0].set_xticks(range(len(alone)), labels, fontsize=6.5, rotation=20)
    axes[0].set_title("scheduling alone")
    own = own.sort_values("simulated")
    axes[1].bar(range(len(own)), own["simulated"], 0.6, color=BLUE)
    axes[1].set_xticks(range(len(own)), [name.replace(", ", ",\n") for name in own["system"]], fontsize=7.5)
    axes[1].set_title("Llama 7B's own times")
    for axis in axes:
        axis.axhline(1.70, color="black", lw=1, ls="--", label="published, 1.70")
        axis.axhline(1.0, color="black", lw=0.8)
        axis.set_ylabel("speedup over 1F1B")
        axis.set_ylim(0, 2)
        axis.grid(axis="x", visible=False)
    axes[1].legend(fontsize=8, loc="upper left")
    suptitle(figure, "2BP on four devices")
    return figure
