"""GPipe: what fill and drain, re-materialisation and uneven cuts leave of n devices (torchgpipe's benchmarks)."""

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from hw_models import catalog, topology
from hw_models.spec import System
from kernels.machine import LINK_HOST
from sim.pipeline.schedule import run_schedule
from studies._conv_nets import BYTE, TRANSFORMED, Layer, amoebanet_d, layer_times, resnet101, unet
from studies._panels import Panel, panels
from studies._verdict import frame, row
from workloads.pipeline import Op, Order
from workloads.schedules import load

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "GPipe (Huang et al. 2019; torchgpipe, Kim et al. 2020): AmoebaNet-D 3.48 and 4.95 times faster on 8 devices"
SMALL = {"nets": ("AmoebaNet-D",)}
SYSTEM = "p40"  # torchgpipe's benchmarks: eight Tesla P40
# of peak rates, compute and memory alike: the geometric mean of 0.51, 0.57 and 0.53 that the three published
# throughputs need (0.51, 0.66 and 0.93 without Winograd's algorithm); it cancels out of a speedup but for the hops
SHARE = 0.537
PS = 1e12


class Setup(NamedTuple):
    """One published run: samples, microbatches, layers a stage; what its backward pass recomputes."""

    batch: int
    microbatch: int
    balance: tuple[int, ...]
    checkpoint: str = "except_last"  # always, except_last (the last microbatch keeps its activations), never


# torchgpipe's benchmark scripts; measured speedup, and what Huang et al. published for the same cell (0: none)
AMOEBANET: dict[str, tuple[Setup, float, float]] = {
    "n=2, m=1": (Setup(96, 1, (7, 17), "always"), 1.0, 1.0),
    "n=2, m=4": (Setup(256, 4, (9, 15)), 1.539, 1.07),
    "n=2, m=32": (Setup(1280, 32, (9, 15)), 1.773, 1.21),
    "n=4, m=1": (Setup(160, 1, (3, 4, 5, 12), "always"), 1.004, 1.13),
    "n=4, m=4": (Setup(360, 4, (3, 6, 7, 8)), 1.666, 1.26),
    "n=4, m=32": (Setup(1152, 32, (3, 6, 7, 8)), 2.709, 1.84),
    "n=8, m=1": (Setup(196, 1, (2, 2, 2, 2, 2, 3, 4, 7), "always"), 0.932, 1.38),
    "n=8, m=4": (Setup(480, 4, (2, 2, 2, 3, 3, 4, 4, 4)), 2.621, 1.72),
    "n=8, m=32": (Setup(1280, 32, (2, 2, 2, 3, 3, 4, 4, 4)), 4.953, 3.48),
}
RESNET: dict[str, tuple[Setup, float, float]] = {
    "baseline": (Setup(118, 1, (370,), "never"), 1.0, 1.0),
    "pipeline-1": (Setup(220, 2, (370,)), 0.853, 0.80),
    "pipeline-2": (Setup(25000, 1667, (135, 235)), 1.414, 1.42),
    "pipeline-4": (Setup(5632, 256, (44, 92, 124, 110)), 2.774, 2.18),
    "pipeline-8": (Setup(5400, 150, (26, 22, 33, 44, 44, 66, 66, 69)), 4.294, 2.89),
}
UNET: dict[str, tuple[Setup, float, float]] = {
    "baseline": (Setup(40, 1, (241,), "never"), 1.0, 0.0),
    "pipeline-1": (Setup(80, 2, (241,)), 0.858, 0.0),
    "pipeline-2": (Setup(512, 32, (104, 137)), 1.246, 0.0),
    "pipeline-4": (Setup(512, 16, (30, 66, 84, 61)), 2.352, 0.0),
    "pipeline-8": (Setup(640, 40, (16, 27, 31, 44, 22, 57, 27, 17)), 3.105, 0.0),
}
NETS = {
    "AmoebaNet-D": (amoebanet_d, AMOEBANET, "n=2, m=1", 26.733),
    "ResNet-101": (resnet101, RESNET, "baseline", 95.862),
    "U-Net": (unet, UNET, "baseline", 28.5),
}
# the largest U-Net (convolutions a block, width) of each run: its cut, millions of parameters, GiB over all devices
UNET_MEMORY: dict[str, tuple[tuple[int, int], tuple[int, ...], float, float]] = {
    "baseline": ((6, 72), (285,), 362.2, 20.3),
    "pipeline-1": ((11, 128), (505,), 2210.0, 20.5),
    "pipeline-2": ((24, 128), (526, 551), 4990.0, 43.4),
    "pipeline-4": ((24, 160), (472, 54, 36, 515), 7800.0, 79.1),
    "pipeline-8": ((48, 160), (800, 140, 62, 36, 36, 36, 36, 987), 15820.0, 154.1),
}
UNET_BATCH = 32  # samples, in microbatches of one
INPUTS = (
    "published: cuts, batches, microbatches, recompute policy; derived: FLOPs and bytes of every layer, 3 x 3 "
    "convolutions by Winograd's algorithm; assumed: all kernels at one share of their roofline, hops alone on PCIe 3"
)
TPU = "another machine (TPU or P100) whose cuts are not published: ours are torchgpipe's"
# where the assumption of one share of the roofline for all kernels is known not to hold
CAUSE = {
    "AmoebaNet-D": "; pooling, 1 x 7 convolutions and narrow channels reach other shares of the roofline than 1 x 1 "
    "convolutions do, so that the cuts, even in measured time, are uneven in ours; whether hops go through the host is "
    "not published",
    "ResNet-101": "; one Python thread starts the kernels of all stages, which is not modelled",
    "U-Net": "; the cuts, even in measured time, are uneven in ours: Winograd's algorithm saves less where channels "
    "are few",
}


def gpipe_order(num_stage: int, num_microbatch: int, checkpoint: str) -> Order:
    """GPipe's order with R before each B that needs it, backward from the last microbatch to the first."""
    ranks: Order = []
    for ops in load("gpipe").build(num_stage, num_microbatch):
        out = [op for op in ops if op.kind == "F"]
        for op in reversed([op for op in ops if op.kind == "B"]):
            kept = checkpoint == "never" or (checkpoint == "except_last" and op.microbatch == num_microbatch - 1)
            out += [op] if kept else [Op("R", op.stage, op.microbatch), op]
        ranks.append(out)
    return ranks


def samples_per_s(layers: list[Layer], setup: Setup, system: System) -> tuple[float, float]:
    """Throughput of a run, and the longest stage over the mean one."""
    size = setup.batch / setup.microbatch
    times = layer_times(layers, system.device, SHARE)
    edge = [0, *itertools.accumulate(setup.balance)]
    stage = [[sum(part) for part in zip(*times[a:b], strict=True)] for a, b in itertools.pairwise(edge)]
    forward, backward = ([round(size * one[i] * PS) for one in stage] for i in (0, 1))
    link = float(topology.link_rows(system)[LINK_HOST][0])
    hop = [round(size * layers[at - 1].out_value * BYTE / link * PS) for at in edge[1:-1]] or 0
    order = gpipe_order(len(stage), setup.microbatch, setup.checkpoint)
    found = run_schedule(order, (forward, backward, 0), hop, recompute=forward)
    total = [sum(one) for one in stage]
    return setup.batch / (found.summary["makespan"] / PS), max(total) * len(total) / sum(total)


def unet_byte(shape: tuple[int, int], balance: tuple[int, ...], *, recompute: bool) -> tuple[float, float]:
    """Parameters, and bytes over all devices: weights and gradients, of each device's widest layer the gradient before
    it is added (the second step of the benchmark clears none) and the weight in Winograd's tiles, activations of the
    whole batch or, recomputed, of one microbatch a stage with the inputs of all, skips from other devices among them.
    """
    layers, depth = unet(5, *shape), 5
    edge = [0, *itertools.accumulate(balance)]
    stages = [layers[a:b] for a, b in itertools.pairwise(edge)]
    weight = sum(kernel.weight for layer in layers for kernel in layer.kernel)
    widest = sum(max(kernel.weight for layer in stage for kernel in layer.kernel) for stage in stages)
    widest *= 1 + TRANSFORMED
    kept = sum(kernel.kept_value for layer in layers for kernel in layer.kernel)
    if not recompute:
        return weight, BYTE * (2 * weight + widest + UNET_BATCH * kept)
    level = 4 * shape[0] + 2  # layers of a level: four a convolution, and two that change its side
    inputs = sum(layers[at - 1].out_value for at in edge[1:-1])
    for at in range(depth):  # what a level keeps for its counterpart on the way up
        left, joined = level * at + level - 2, level * (2 * depth - at) - 1
        if any(left < cut <= joined for cut in edge[1:-1]):
            inputs += layers[left].out_value
    return weight, BYTE * (2 * weight + widest + kept + UNET_BATCH * inputs)


def memory_rows() -> list[dict[str, Any]]:
    """How large a U-Net trains on how many devices."""
    rows = []
    for name, (shape, balance, parameter, gib) in UNET_MEMORY.items():
        weight, byte = unet_byte(shape, balance, recompute=name != "baseline")
        setup = f"{name} {shape}"
        counted = "counted from layers"
        rows.append(row("torchgpipe", "U-Net parameters, M", setup, parameter, weight / 1e6, counted, bound=0.005))
        note = "as counted from layers; they read what the allocator holds: what it loses between blocks is not counted"
        rows.append(row("torchgpipe", "U-Net memory, GiB", setup, gib, byte / 2**30, note))
    return rows


def transformer_rows() -> list[dict[str, Any]]:
    """A Transformer of 48 equal layers on 4 and 8 TPUs in 32 microbatches, over 2 TPUs in one (Huang et al., table 2):
    a backward pass of two forward ones, all recomputed."""

    def second(num_stage: int, num_microbatch: int) -> float:
        unit = 4096 // (num_stage * num_microbatch)  # ticks: work divides over stages and microbatches
        order = gpipe_order(num_stage, num_microbatch, "always")
        return float(run_schedule(order, (unit, 2 * unit, 0), recompute=unit).summary["makespan"])

    note = "equal stages, no hop; what cuts differ by and microbatches of 1/32 lose in the kernels is not counted"
    return [
        row(
            "Huang et al.",
            "speedup, Transformer-48",
            f"n={n}, m=32",
            published,
            second(2, 1) / second(n, 32),
            note,
            null=1.0,
        )
        for n, published in ((4, 3.4), (8, 6.3))
    ]


def run(nets: tuple[str, ...] = tuple(NETS)) -> pd.DataFrame:
    """Speedups of every published run, and the throughput that they are relative to."""
    system = catalog.system(SYSTEM)
    rows: list[dict[str, Any]] = []
    for name in nets:
        build, setups, first, throughput = NETS[name]
        layers = build()
        base, _ = samples_per_s(layers, setups[first][0], system)
        rows.append(row("torchgpipe", "samples/s", f"{name}, {first}", throughput, base, INPUTS, kind="fitted"))
        for label, (setup, published, huang) in setups.items():
            if label == first:
                continue
            rate, uneven = samples_per_s(layers, setup, system)
            note = f"longest stage {uneven:.2f} of the mean; {INPUTS}"
            off = abs(rate / base / published - 1) > min(0.1, abs(1 / published - 1))
            rows.append(row("torchgpipe", f"speedup, {name}", label, published, rate / base,
                            note + (CAUSE[name] if off else ""),
                            null=1.0 if abs(published - 1) > 0.05 else None))  # fmt: skip
            if huang:
                rows.append(row("Huang et al.", f"speedup, {name}", label, huang, rate / base, TPU, said=True))
    return frame([*rows, *transformer_rows(), *(memory_rows() if "U-Net" in nets else [])])


def plot(rows: pd.DataFrame) -> "Figure":
    """The three speedup tables, the throughput of their baselines, and the U-Nets that fit."""
    shown = [Panel(f"speedup, {name}", name, f"speedup over {NETS[name][2]}") for name in NETS]
    shown.append(Panel("samples/s", "What they are relative to", "samples/s"))
    shown += [Panel(f"U-Net {what}", f"Largest U-Net: {what.split(',')[0]}", what.split(", ")[1], log=True)
              for what in ("parameters, M", "memory, GiB")]  # fmt: skip
    return panels(rows, shown, "GPipe on eight P40", columns=3)
