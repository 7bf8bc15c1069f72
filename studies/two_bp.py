"""2BP: how much of 1.70x on four devices is scheduling, and how much is one weight gradient for all microbatches."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from hw_models import catalog
from kernels import training as t
from kernels.training_step import stage_times
from sim.pipeline.schedule import run_schedule
from sim.show.plot_style import BLUE, GREEN, ORANGE, new_figure, styled, suptitle
from sim.training.fitted.stack import hardware_vector, load
from studies._table import row
from workloads import models
from workloads.schedules import load as load_schedule
from workloads.training import TrainPlan, model_vector, parameter_count, plan_vector

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "2BP (Rae et al. 2024): 1.70 times the throughput of 1F1B with m = p on four devices"
MODEL, SYSTEM, STACK = (
    "llama-2-7b",
    "dgx_a100_40gb",
    "megatron-a100",
)  # a LLaMa-like 7B on four GPUs (A100: our reading)
TOKENS = (128, 256, 512, 1024, 2048)  # of a microbatch: not published
ADD_BYTE = 6.0  # a weight: the new gradient and the sum are read, the sum is written, 16 bits each
SCHEDULING = "scheduling alone: no concatenated weight gradients, no framework cost"
CONCATENATED = (
    "weight gradients of all microbatches as one product at the end: the sum of gradients in memory, 6 B a weight and "
    "microbatch, falls away and the product has p times the rows; tokens a microbatch are not published, and decide"
)
PLAIN = "weight gradients at the end, microbatch by microbatch; tokens a microbatch are not published"


class StageTimes(NamedTuple):
    """Seconds of one microbatch through a quarter of the model; `concatenated_s` is its share of the one product."""

    forward_s: float
    input_grad_s: float
    weight_grad_s: float
    concatenated_s: float


def llama_times(tokens: int, stages: int) -> StageTimes:
    """Of Llama-2-7B in equal stages, without embedding and head; adding gradients is part of every W but the first."""
    model, fit = models.load(MODEL), load(STACK).fit
    hw = hardware_vector(catalog.system(SYSTEM, stages))
    found = []
    for count in (tokens, stages * tokens):
        out = np.zeros(len(t.STAGE))
        laid = plan_vector(TrainPlan(pp=stages, batch=stages, seq=count))
        stage_times(model_vector(model, count), laid, hw, fit, t.MIDDLE, out)
        found.append(out)
    one, all_at_once = found
    add_s = ADD_BYTE * parameter_count(model) / stages / (hw[t.MEM_BYTE_PER_S] * fit[t.MEM])
    weight_s = float(one[t.WEIGHT_GRAD_S] + add_s * (stages - 1) / stages)
    return StageTimes(
        float(one[t.FORWARD_S]), float(one[t.INPUT_GRAD_S]), weight_s, float(all_at_once[t.WEIGHT_GRAD_S]) / stages
    )


def gains(tokens: int, stages: int) -> dict[str, float]:
    """Speedup over 1F1B of both ways to put weight gradients off."""
    times = llama_times(tokens, stages)
    ns = [round(value * 1e9) for value in times]
    base = run_schedule(load_schedule("1f1b").build(stages, stages), (ns[0], ns[1], ns[2])).summary["makespan"]
    order = load_schedule("2bp").build(stages, stages)
    return {
        name: base / run_schedule(order, (ns[0], ns[1], weight)).summary["makespan"]
        for name, weight in (("2BP, W at the end", ns[2]), ("2BP, one W for all", ns[3]))
    }


def run(stages: int = 4, tokens: tuple[int, ...] = TOKENS) -> pd.DataFrame:
    """1F1B (m = p) against its 2BP, against ZB-H1 of the same memory, and against no bubble at all, for W = F and for
    weight gradients that take longer; then a Llama's own times, by tokens a microbatch."""
    rows: list[dict[str, Any]] = []
    for times in ((10, 10, 10), (10, 10, 20)):
        base = run_schedule(load_schedule("1f1b").build(stages, stages), times).summary
        setup = f"p = m = {stages}, F : I : W = {times[0]} : {times[1]} : {times[2]}"
        makespans = {
            "2BP, W at the end": run_schedule(load_schedule("2bp").build(stages, stages), times).summary["makespan"],
            "ZB-H1": run_schedule(load_schedule("zb-h1").build(stages, stages), times).summary["makespan"],
            "no bubble (bound)": stages * sum(times),
        }
        for name, makespan in makespans.items():
            gain = base["makespan"] / makespan
            rows.append(row(name, "speedup over 1F1B", setup, 1.70, gain, SCHEDULING, 0.05))
    for count in tokens:
        setup = f"Llama 7B, p = m = {stages}, {count} tokens a microbatch"
        for name, gain in gains(count, stages).items():
            note = CONCATENATED if name.endswith("all") else PLAIN
            rows.append(row(name, "speedup over 1F1B, own times", setup, 1.70, gain, note, 0.05))
    return pd.DataFrame(rows)


@styled
def plot(table: pd.DataFrame) -> "Figure":
    """Scheduling alone as bars; a Llama's speedup by tokens a microbatch as curves; the published one as a line."""
    figure, axes = new_figure(1, 2, (10.0, 3.8))
    alone = table[table["claim"] == "speedup over 1F1B"]
    places = np.arange(len(alone))
    axes[0].bar(places, alone["simulated"], color=[BLUE, GREEN, ORANGE] * 2)
    labels = [f"{a}\n{b.split('= ')[-1]}" for a, b in zip(alone["system"], alone["setup"], strict=True)]
    axes[0].set_xticks(places, labels, fontsize=6.5, rotation=20)
    axes[0].set_title("scheduling alone")
    own = table[table["claim"] == "speedup over 1F1B, own times"]
    for (name, part), colour, mark in zip(own.groupby("system", sort=False), (BLUE, GREEN), "os", strict=True):
        tokens = [int(setup.split(", ")[-1].split()[0]) for setup in part["setup"]]
        axes[1].plot(tokens, part["simulated"], mark + "-", color=colour, label=name)
    axes[1].set_xscale("log", base=2)
    axes[1].set_xlabel("tokens a microbatch")
    axes[1].set_title("Llama 7B's own times")
    for axis in axes:
        axis.axhline(1.70, color="black", lw=1, ls="--", label="published, 1.70")
        axis.set_ylabel("speedup over 1F1B")
        axis.set_ylim(bottom=0.9)
    axes[1].legend(fontsize=8)
    suptitle(figure, "2BP on four devices")
    return figure
