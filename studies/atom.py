"""What do 4-bit weights, activations and keys bring a serving engine on a small card? (Atom, MLSys 2024)"""

from typing import TYPE_CHECKING, Any

import pandas as pd

from hw_models.device import cost
from kernels import optable
from kernels.formats import FORMAT_CODE
from studies._panels import Panel, panels
from studies._steps import arrays, decode_s
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Atom (Zhao et al. 2023): W4A4 serves Llama-7B on an RTX 4090 at 7.7 times the throughput of FP16, 2.5 of W8A8"
SMALL = {"contexts": (640,)}
SYSTEM, MODEL = "rtx_4090", "llama-2-7b"  # Llama-7B: the same shapes
# format of ours, published batch in 24 GB, ms a token, thousand tokens/s (read off the figure)
ENGINE: dict[str, tuple[str, int, float, float]] = {
    "FP16": ("fp16", 8, 20.0, 0.39), "W4A16": ("w4a16", 16, 28.0, 0.55), "W8A8": ("int8:kv=int8", 32, 26.0, 1.2),
    "Atom W4A4": ("int4:kv=int4", 64, 21.0, 3.05),
}  # fmt: skip
CONTEXTS = (320, 480, 640)  # tokens of a sequence under way: ShareGPT's are not published beside the figure
OUTLIER = 128  # channels that stay in 8 bits
WIDTH, ROWS = 4096, 256
GEMM = {"FP16": ("fp16", 3.4), "W8A8": ("int8", 1.9)}  # Atom's product over these, 256 rows
ATTENTION = {"FP16": ("fp16", 3.5), "W8A8": ("fp16:kv=int8", 1.8)}  # its decode attention, batch 128, 1,024 tokens
MS, RATE, GAIN, KERNEL = "ms a token", "thousand tokens/s", "throughput over others", "kernel: Atom over others"
NOTE = (
    "kernels of an RTX 4090 as those of an L40S; no host time (Punica's is not published, and its 8-bit and "
    "weight-only kernels were slower than its FP16 ones at twice and four times their batch); contexts of 320 to 640 "
    "tokens; batches as published; 128 outlier channels in 8 bits beside the 4-bit product"
)
KERNELS = "group scales and outliers are read, their adding up in the kernel is not priced"


def product_s(fmt: str, rows: int = ROWS, width: int = WIDTH) -> float:
    """A product of `rows` by a square matrix; of 4 bits with the outlier channels beside it."""
    ops, work = optable.empty(2 if fmt == "int4" else 1)
    parts = [(fmt, width - OUTLIER), ("int8", OUTLIER)] if fmt == "int4" else [(fmt, width)]
    for one, (name, depth) in zip(ops, parts, strict=True):
        byte = {"fp16": 2.0, "int8": 1.0, "int4": 0.5}[name]
        one["kind"], one["fmt"], one["m"], one["n"], one["k"] = optable.GEMM, FORMAT_CODE[name], rows, width, depth
        one["flop"], one["weight_byte"], one["act_byte"] = (
            2.0 * rows * width * depth,
            byte * width * depth,
            byte * rows * depth,
        )
        one["write_byte"] = 2.0 * rows * width if depth > OUTLIER else 0.0  # one sum for both
    return float(cost(ops, work, arrays(SYSTEM))["time_ps"].sum()) * 1e-12


def attention_s(fmt: str, batch: int = 128, kv_len: int = 1024) -> float:
    """Decode attention of a layer: what a longer context adds to a step."""
    where = arrays(SYSTEM)
    long_s, short_s = (decode_s(MODEL, where, batch, n, fmt=fmt) for n in (kv_len, kv_len // 2))
    return 2 * (long_s - short_s) / 32


def run(contexts: tuple[int, ...] = CONTEXTS) -> pd.DataFrame:
    """Latency and throughput of each format at its published batch, ratios, and two kernels."""
    rows: list[dict[str, Any]] = []
    middle = len(contexts) // 2
    second: dict[str, list[float]] = {}
    for name, (fmt, batch, ms, rate) in ENGINE.items():
        second[name] = [decode_s(MODEL, arrays(SYSTEM), batch, kv_len, fmt=fmt) for kv_len in contexts]
        setup, each = f"Llama-7B, batch {batch}", second[name]
        rows.append(row(name, MS, setup, ms, 1e3 * each[middle], NOTE, tag="approx", spread=[1e3 * s for s in each]))
        rows.append(point(name, RATE, setup, batch / each[middle] / 1e3, f"published {rate} thousand"))
    atom = ENGINE["Atom W4A4"][1]
    for name, published in (("FP16", 7.7), ("W4A16", 5.5), ("W8A8", 2.5)):
        ratio = [atom / a / (ENGINE[name][1] / b) for a, b in zip(second["Atom W4A4"], second[name], strict=True)]
        rows.append(row("Atom W4A4", GAIN, name, published, ratio[middle], NOTE, tag="approx", null=1.0, spread=ratio))
    for name, (fmt, published) in GEMM.items():
        ratio_ = product_s(fmt) / product_s("int4")
        rows.append(row("Atom W4A4", KERNEL, f"product of {ROWS} rows, {name}", published, ratio_, KERNELS, null=1.0))
    for name, (fmt, published) in ATTENTION.items():
        ratio_ = attention_s(fmt) / attention_s("fp16:kv=int4")
        rows.append(row("Atom W4A4", KERNEL, f"attention, batch 128, {name}", published, ratio_, KERNELS, null=1.0))
    few, many = (decode_s(MODEL, arrays(SYSTEM), b, contexts[middle], fmt="w4a16") for b in (8, 256))
    other = [decode_s(MODEL, arrays(SYSTEM), b, contexts[middle], fmt="int8:kv=int8") for b in (8, 256)]
    crosses = few < other[0] and many > other[1]
    rows.append(order("W4A16", "order: faster than W8A8 at batch 8, slower at 256", "Llama-7B", crosses, NOTE))
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Latency, throughput, ratios and kernels, published beside simulated."""
    shown = [Panel(MS, "at the batch that fits", MS), Panel(GAIN, "Atom over others", "throughput, ratio"),
             Panel(KERNEL, "kernels", "time of others over Atom's")]  # fmt: skip
    return panels(table, shown, "Atom: Llama-7B on an RTX 4090")
