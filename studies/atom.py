"""What do 4-bit weights, activations and keys bring a serving engine on a small card? (Atom, MLSys 2024)"""

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from kernels.optable import OpTable
from studies._kernels import LAUNCH_S, eager_s, product, seconds, stream, times
from studies._panels import Panel, panels
from studies._steps import arrays, attention_s
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Atom (Zhao et al. 2023): W4A4 serves Llama-7B on an RTX 4090 at 7.7 times the throughput of FP16, 2.5 of W8A8"
SMALL: dict[str, Any] = {}
SYSTEM, MODEL = "rtx_4090", "llama-2-7b"  # Llama-7B: the same shapes
LAYER, WIDTH, INTER, VOCAB, OUTLIER, GROUP = 32, 4096, 11008, 32000, 128, 128
ROWS = 256  # of the published kernels' products
GEMM = {"FP16": 3.4, "W8A8": 1.9}  # Atom's product over these
ATTENTION = {"FP16": ("fp16", 3.5), "W8A8": ("fp16:kv=fp8", 1.8)}  # its decode attention, batch 128, 1,024 tokens
MS, RATE, GAIN, KERNEL = "ms a token", "thousand tokens/s", "throughput over others", "kernel: Atom over others"
NUM_LAUNCH = 10  # kernels of an eager layer; more take a launch of PyTorch each
FIT_AT = "W8A8"  # the format of most kernels, on which the host's time a layer is fitted


class Engine(NamedTuple):
    """Formats of products and keys, batch in 24 GB, ms a token and thousand tokens/s (read off the figure); of a layer
    of the authors' code: kernels of few bytes before and after the attention's, and whether a product is waited for."""

    fmt: str
    kv: str
    batch: int
    ms: float
    rate: float
    small: int
    waits: bool = False


ENGINE = {
    "FP16": Engine("fp16", "fp16", 8, 20.0, 0.39, 7),  # two norms, writing of keys, activation, product, two sums
    "W4A16": Engine("w4a16", "fp16", 16, 28.0, 0.55, 7, True),  # AWQ's layers call synchronize after each product
    "W8A8": Engine("int8", "fp8", 32, 26.0, 1.2, 20),  # roundings, clamps and casts are kernels too
    "Atom W4A4": Engine("int4", "int4", 64, 21.0, 3.05, 6),  # quantised in the norm, activation and reordering
}
NOTE = (
    "kernels of an RTX 4090 as those of an L40S; layers as the authors' scripts have them (projections apart, "
    "roundings and casts as kernels, AWQ's products waited for), launched eagerly by a host that is not published: its "
    "time for the 10 kernels of a plain layer is fitted on W8A8's step (vLLM of 2023 took 0.37 and 0.55 ms of two), "
    "5 to 25 us for each more; that of the more decides: all steps are within 13 % at "
    "12 us, none at both ends; lengths as their script draws them; batches as published"
)
KERNELS = "outliers in 8 bits within the one kernel; scales are read, their adding up in the kernel is not priced"
PRODUCTS = f"{KERNELS}, by which FP16's would be nearer and W8A8's farther, whose kernel's own time is not published"


def linear(fmt: str, rows: int, depth: int, width: int) -> OpTable:
    """A product with weights of this format: of 4 bits with its outlier channels in 8, group scales, in one kernel; of
    8 bits into 32-bit sums."""
    found = product(rows, width, depth, fmt=fmt)
    if fmt == "int4":
        found["weight_byte"] = width * ((depth - OUTLIER) / 2 + OUTLIER + 2.0 * depth / GROUP)
        found["flop"] = 2.0 * rows * width * (depth + OUTLIER)
    if fmt == "int8":
        found["write_byte"] = 4.0 * rows * width
    return found


@functools.cache
def context() -> int:
    """Mean tokens of a sequence under way: prompts log-normal, in all uniform up to 2,048 (the authors' script), the
    longer the more often seen."""
    random = np.random.default_rng(0)
    prompt = np.clip(18 * np.exp(0.8 * random.standard_normal(20_000)) - 1, 1, 2046)
    output = np.maximum(prompt + 2, random.uniform(0, 2048, 20_000)) - prompt
    return round(float((output * (prompt + output / 2)).sum() / output.sum()))


def step_s(name: str, batch: int, layer_s: float, launch_s: float) -> float:
    """Seconds of a decode step of the whole model, kernel by kernel as the host launches them: `layer_s` for those of a
    plain layer, `launch_s` for each more."""
    one, where = ENGINE[name], arrays(SYSTEM)
    square, up, down = (WIDTH, WIDTH), (WIDTH, INTER), (INTER, WIDTH)
    linears = [linear(one.fmt, batch, *shape) for shape in (square, square, square, square, up, up, down)]
    passes = [stream(2.0 * batch * WIDTH, 2.0 * batch * WIDTH)] * one.small
    attend = attention_s(MODEL, where, batch, context(), f"fp16:kv={one.kv}") / LAYER
    own, few = times(where, *linears), times(where, *passes)
    layer = [(few[0], False), *((s, one.waits) for s in own[:3]), (few[1], False), (attend, False), (own[3], one.waits)]
    layer += [(s, False) for s in few[2:-2]] + [(s, one.waits) for s in own[4:6]]
    layer += [(few[-2], False), (own[6], one.waits), (few[-1], False)]
    host_s = layer_s + (len(layer) - NUM_LAUNCH) * launch_s
    second, waits = zip(*(layer * LAYER), strict=True)
    head = seconds(where, product(batch, VOCAB, WIDTH))
    return eager_s(second, host_s / len(layer), waits) + head


def fitted(launch_s: float) -> float:
    """The host's seconds for a plain layer by which `FIT_AT` takes as long as published."""
    low, high = 0.0, 2e-3
    for _ in range(30):
        middle = (low + high) / 2
        short = step_s(FIT_AT, ENGINE[FIT_AT].batch, middle, launch_s) < 1e-3 * ENGINE[FIT_AT].ms
        low, high = (middle, high) if short else (low, middle)
    return high


def run(batches: tuple[int, int] = (8, 256)) -> pd.DataFrame:
    """Latency and throughput of each format at its published batch, ratios, and two kernels."""
    rows: list[dict[str, Any]] = []
    layer_s = [fitted(launch_s) for launch_s in LAUNCH_S]
    every = {
        name: [step_s(name, one.batch, *host) for host in zip(layer_s, LAUNCH_S, strict=True)]
        for name, one in ENGINE.items()
    }
    second = {name: each[1] for name, each in every.items()}
    where = arrays(SYSTEM)
    note = f"{', '.join(f'{1e3 * one:.2f}' for one in layer_s)} ms a layer, {context()} tokens in the mean; {NOTE}"
    for name, one in ENGINE.items():
        setup, ms = f"Llama-7B, batch {one.batch}", 1e3 * second[name]
        kind = "fitted" if name == FIT_AT else "number"
        rows.append(row(name, MS, setup, one.ms, ms, note, tag="approx", kind=kind,
                        spread=[1e3 * one for one in every[name]]))  # fmt: skip
        rows.append(point(name, RATE, setup, one.batch / ms, f"published {one.rate} thousand"))
    atom = "Atom W4A4"
    for name, published in (("FP16", 7.7), ("W4A16", 5.5), ("W8A8", 2.5)):
        gain = ENGINE[atom].batch / second[atom] / (ENGINE[name].batch / second[name])
        rows.append(point(atom, GAIN, name, gain, f"published {published}, as the steps' own rows have it"))
    least = seconds(where, linear("int4", ROWS, WIDTH, WIDTH))
    for name, published in GEMM.items():
        ratio = seconds(where, linear(ENGINE[name].fmt, ROWS, WIDTH, WIDTH)) / least
        rows.append(row(atom, KERNEL, f"product of {ROWS} rows, {name}", published, ratio, PRODUCTS, null=1.0))
    for name, (fmt, published) in ATTENTION.items():
        ratio = attention_s(MODEL, where, 128, 1024, fmt) / attention_s(MODEL, where, 128, 1024, "fp16:kv=int4")
        rows.append(row(atom, KERNEL, f"attention, batch 128, {name}", published, ratio, KERNELS, null=1.0))
    few, many = (
        {name: seconds(where, linear(ENGINE[name].fmt, batch, WIDTH, INTER)) for name in ("W4A16", "W8A8")}
        for batch in (batches[0], batches[-1])
    )
    crosses = few["W4A16"] < few["W8A8"] and many["W4A16"] > many["W8A8"]
    rows.append(order("W4A16", f"order: product faster than W8A8's at {batches[0]} rows, slower at {batches[-1]}",
                      "Llama-7B", crosses, NOTE))  # fmt: skip
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Latency, throughput, ratios and kernels, published beside simulated."""
    shown = [Panel(MS, "at the batch that fits", MS),
             Panel(GAIN, "Atom over others (published: 7.7, 5.5, 2.5)", "throughput, ratio"),
             Panel(KERNEL, "kernels", "time of others over Atom's")]  # fmt: skip
    return panels(table, shown, "Atom: Llama-7B on an RTX 4090")
