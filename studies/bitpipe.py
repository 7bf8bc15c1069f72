"""BitPipe: what two V-shaped pipelines gain over the best synchronous schedule, on the published set-ups."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hw_models import catalog
from kernels.optable import ALL_REDUCE
from kernels.train_step import group_collective_s
from sim.pipeline.schedule import run_schedule
from sim.show.plot_style import BLUE, GREEN, ORANGE, PURPLE, new_figure, styled, suptitle
from sim.training.price import plan_record, site
from sim.training.stack import load_stack
from sim.training.step import train
from studies._gpt import gpt
from studies._panels import records
from studies._verdict import frame, point, row
from workloads.models.tensors import num_param
from workloads.schedules import load as load_schedule
from workloads.training import TrainPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "BitPipe (Wu et al. 2024): 1.05 to 1.28 times the throughput of synchronous pipelines"
SMALL: dict[str, Any] = {}
STAGE = 24  # ticks of a forward through 1/p of the model; a chunk of v takes 1/v of it, a backward twice as long
# the authors' set-ups: model, sequence, microbatch, sequences a replica; eight stages
MODELS = {
    "BERT": (gpt("BERT", 2560, 64, 64, vocab=30592, position_row=512), 512, 4, 32),
    "GPT": (gpt("GPT", 3072, 96, 32, position_row=1024), 1024, 1, 16),
}
STAGES = 8
REPLICAS = (1, 2, 4)  # 8 to 32 GPUs
SYSTEM, STACK = "dgx_a100", "megatron-2022"
BASELINES = {"1F1B": ("1f1b", 1), "interleaved 1F1B": ("1f1b", 2), "Chimera": ("chimera", 1)}
GAIN, THROUGHPUT = "speedup over the best baseline", "throughput over 1F1B"
EAGER = 0.5  # share of the copies' all-reduce that is seen: two of four chunks are sent before the last backward
ASSUMED = (
    "stage times, hops and reductions of stack megatron-2022 on A100 (their GPUs: A800); the batch grows with the "
    "replicas; gradients of the two copies of every stage are summed besides, half of it in the open"
)


def copies_s(model: str) -> float:
    """Seconds to sum the gradients that a rank shares with its mirror: two stages' worth in 32 bits, in one node."""
    spec, where = MODELS[model][0], site(catalog.system(SYSTEM, STAGES), load_stack(STACK), precision="fp16")
    record = plan_record(spec, TrainPlan(pp=STAGES, batch=STAGES))
    byte = num_param(spec) / STAGES * 2 * 4.0
    return float(group_collective_s(ALL_REDUCE, byte, 2.0, 1.0, record, where.stack, where.machine))


def step_s(model: str, replicas: int) -> dict[str, float]:
    """Seconds of a step under each schedule."""
    spec, seq, micro, batch = MODELS[model]
    found = {}
    for name, (schedule, chunks) in (BASELINES | {"BitPipe": ("bitpipe", 1)}).items():
        plan = TrainPlan(
            1, STAGES, replicas, micro_batch=micro, batch=batch * replicas, seq=seq, interleave=chunks,
            schedule=schedule, attention="fused_softmax", dropout=True, fused_norm=True, fused_loss=False,
            dp_traffic="scheduled" if replicas > 1 else "fitted",
        )  # fmt: skip
        found[name] = float(train(spec, SYSTEM, plan, stack=STACK, number_format="fp16").summary["step_s"])
        if name in ("BitPipe", "Chimera"):
            found[name] += EAGER * copies_s(model)
    return found


def run(
    microbatches: tuple[int, ...] = (8, 16, 32), models: tuple[str, ...] = tuple(MODELS),
    replicas: tuple[int, ...] = REPLICAS,
) -> pd.DataFrame:  # fmt: skip
    """Speedups on the published set-ups, least and most; compute alone with B = 2F by number of microbatches."""
    rows: list[dict[str, Any]] = []
    gains: list[float] = []
    for model in models:
        for count in replicas:
            found = step_s(model, count)
            name = min(BASELINES, key=found.__getitem__)
            setup = f"{model}, {STAGES * count} GPUs, {MODELS[model][3] // MODELS[model][2]} microbatches"
            hidden = found[name] / (found["BitPipe"] - EAGER * copies_s(model))
            note = f"best baseline: {name}; {hidden:.2f} if that sum is hidden"
            gains.append(found[name] / found["BitPipe"])
            rows.append(point("BitPipe", GAIN, setup, gains[-1], note))
            rows += [point(one, THROUGHPUT, setup, found["1F1B"] / seconds) for one, seconds in found.items()]
    where = f"{' and '.join(models)}, {', '.join(str(STAGES * count) for count in replicas)} GPUs"
    for end, published, value in (("least", 1.05, min(gains)), ("most", 1.28, max(gains))):
        rows.insert(0, row("BitPipe", f"{GAIN}, {end}", where, published, value, ASSUMED, null=1.0))
    for m in microbatches:
        quarter = STAGE // 2
        bitpipe = run_schedule(load_schedule("bitpipe").build(STAGES, m), (quarter, 2 * quarter, 0)).summary
        best = min(
            run_schedule(load_schedule(kind).build(STAGES, m, **option), (time, 2 * time, 0)).summary["makespan"]
            for kind, option, time in (
                ("1f1b", {}, STAGE), ("interleaved-1f1b", {"num_chunk": 2}, quarter), ("chimera", {}, STAGE)
            )
        )  # fmt: skip
        note = (
            "compute alone; weights twice; with four units of p microbatches its turns cost more than two chunks save"
        )
        setup = f"p = {STAGES}, m = {m}, B = 2F, no hop"
        rows.append(point("BitPipe", "compute alone, over the best baseline", setup, best / bitpipe["makespan"], note))
    return frame(rows)


@styled
def plot(table: pd.DataFrame) -> "Figure":
    """Throughput of every schedule over 1F1B's by GPUs, as the paper draws it; BitPipe's gain in its range."""
    shown = table[table["claim"] == THROUGHPUT]
    models = list(dict.fromkeys(shown["setup"].str.split(", ").str[0]))
    figure, axes = new_figure(1, len(models) + 1, (4.0 * (len(models) + 1), 4.0))
    names = list(dict.fromkeys(shown["system"]))
    for axis, model in zip(axes, models, strict=False):
        part = shown[shown["setup"].str.startswith(f"{model}, ")]
        setups = list(dict.fromkeys(part["setup"]))
        for index, (name, colour) in enumerate(zip(names, (ORANGE, GREEN, PURPLE, BLUE), strict=True)):
            height = part[part["system"] == name].set_index("setup")["simulated"].loc[setups]
            axis.bar(np.arange(len(setups)) + 0.2 * (index - 1.5), height, 0.2, color=colour, label=name)
        axis.set_xticks(range(len(setups)), [setup.split(", ")[1] for setup in setups])
        axis.set_title(model)
        axis.set_ylabel("throughput over 1F1B")
        axis.grid(axis="x", visible=False)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=len(names), fontsize=8)
    gain, ends = table[table["claim"] == GAIN], records(table[table["claim"].str.startswith(f"{GAIN}, ")])
    place = np.arange(len(gain))
    axes[-1].axhspan(*sorted(one["paper"] for one in ends), color="#e6e6e6", label="published range")
    axes[-1].bar(place, gain["simulated"], color=BLUE, label="simulated")
    axes[-1].axhline(1, color="black", lw=0.8)
    axes[-1].set_ylim(0, 1.6)
    axes[-1].set_xticks(place, [", ".join(setup.split(", ")[:2]) for setup in gain["setup"]], rotation=30, ha="right",
                        fontsize=7)  # fmt: skip
    axes[-1].set_ylabel("over the best baseline")
    axes[-1].grid(axis="x", visible=False)
    axes[-1].legend(fontsize=7)
    suptitle(figure, "BitPipe")
    return figure
