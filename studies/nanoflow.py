"""What do products, decode attention and collectives gain side by side on one device? (NanoFlow, Zhu et al., 2024)"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from hw_models.device import cost
from kernels.optable import ATTN_PREFILL, GEMM, MOE
from studies._panels import Panel, panels
from studies._steps import arrays
from studies._verdict import frame, order, point, row
from workloads import models, placement
from workloads.formats import parse
from workloads.lowering import Plan, lower_step

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "NanoFlow (Zhu et al. 2024): 1,286 tokens/s a GPU on Llama-2-70B, 1.91x TensorRT-LLM and 4.18x vLLM on traces"
BATCH = 2048  # tokens of a step, as published
# tokens a second and GPU of Llama-2-70B on 8 A100: prompt, output (means of traces): TensorRT-LLM, vLLM, NanoFlow
LOADS: dict[str, tuple[int, int, float, float, float]] = {
    "512 in, 512 out": (512, 512, 735, 494, 1286),
    "1024 in, 512 out": (1024, 512, 817, 552, 1263),
    "Splitwise": (1155, 211, 831, 484, 1259),
    "ShareGPT": (299, 324, 639, 255, 1272),
}
OTHERS = {"llama-3-70b": (8, 1306), "mixtral-8x7b": (8, 6564), "llama-3-8b": (1, 12756)}  # 1,024 in, 512 out
TOTAL, MODEL = "tokens/s a GPU, Llama-2-70B", "tokens/s a GPU, 1024 in, 512 out"
LOST, GAIN, RATIO = "lost to smaller batches", "gain of overlap alone", "over engines that do not overlap, on traces"
OPEN = (
    "steady state: prompts and decodes of a step in the load's proportion, decodes half done; two nano-batches; "
    "kernels side by side slow each other by nothing here, on the real device they share its cores; no host time"
)
ENGINE = "both published engines also run smaller batches and their hosts' work, which the mechanism leaves out; "
SMALL = {"loads": ("512 in, 512 out", "ShareGPT"), "others": ("llama-3-8b",)}


class Demand(NamedTuple):
    """Seconds that a step's operators take of each engine, one kind after another."""

    compute: float
    memory: float
    network: float

    @property
    def in_turn(self) -> float:
        return sum(self)

    @property
    def beside(self) -> float:
        """The busiest engine alone, the others under it."""
        return max(self)


def demand(model: str, num: int, prompt: int, output: int, token: int, parts: int = 1) -> Demand:
    """Demands of a step of `token` tokens in `parts` nano-batches."""
    spec, size = models.load(model), token // parts
    decodes = round(size * output / (prompt + output))
    prompts, left = divmod(size - decodes, prompt)
    query = [prompt] * prompts + [left] * (left > 0) + [1] * decodes
    keys = [prompt] * prompts + [left] * (left > 0) + [prompt + output // 2] * decodes
    decode = np.arange(len(query)) >= len(query) - decodes
    plan = Plan(np.array(query, np.int64), np.array(keys, np.int64), decode, np.ones(len(query), np.int64))
    ops, work = lower_step(spec, parse("fp16"), placement.make(spec, tp=num), 0, plan)
    second = parts * cost(ops, work, arrays("dgx_a100", num))["time_ps"] * 1e-12
    network = ops["link_byte"] > 0
    compute = ~network & np.isin(ops["kind"], (GEMM, MOE, ATTN_PREFILL))
    memory = ~network & ~compute  # decode attention, element-wise operators
    return Demand(*(float(second[mask].sum()) for mask in (compute, memory, network)))


def rates(model: str, num: int, prompt: int, output: int) -> tuple[float, float, float]:
    """Tokens a second and GPU: side by side in nano-batches and in whole ones, and in turn."""
    whole, halves = (demand(model, num, prompt, output, BATCH, parts) for parts in (1, 2))
    return BATCH / num / halves.beside, BATCH / num / whole.beside, BATCH / num / whole.in_turn


def run(loads: tuple[str, ...] = tuple(LOADS), others: tuple[str, ...] = tuple(OTHERS)) -> pd.DataFrame:
    """Rows of both tables, the parts of the gain, and the ratios over engines that run one kind after another."""
    table: list[dict[str, Any]] = []
    over: list[float] = []
    for name in loads:
        prompt, output, *_, paper = LOADS[name]
        nano, whole, turn = rates("llama-2-70b", 8, prompt, output)
        over.append(nano / turn)
        table.append(row("NanoFlow", TOTAL, name, paper, nano, OPEN, spread=(nano, whole)))
        table.append(point("in turn", TOTAL, name, turn, OPEN))
        table.append(order("NanoFlow", "order: side by side is faster than in turn", name, nano > turn, OPEN))
    for model in others:
        num, paper = OTHERS[model]
        nano, whole, turn = rates(model, num, 1024, 512)
        table.append(row("NanoFlow", MODEL, model, paper, nano, OPEN, spread=(nano, whole)))
        table.append(point("in turn", MODEL, model, turn, OPEN))
    one, two = (demand("llama-2-70b", 8, 512, 512, BATCH, parts) for parts in (1, 2))
    table.append(row("NanoFlow", LOST, "512 in, 512 out", 0.132, 1 - one.in_turn / two.in_turn, OPEN))
    for setup, prompt, output, paper in (("prompts alone", 512, 0, 1.07), ("decode-heavy", 512, 1024, 1.17)):
        halves = demand("llama-2-70b", 8, prompt, output, BATCH, 2)
        note = f"the lengths are ours; {OPEN}"
        table.append(row("NanoFlow", GAIN, setup, paper, halves.in_turn / halves.beside, note, null=1.0))
    for engine, paper in (("TensorRT-LLM", 1.91), ("vLLM", 4.18)):
        table.append(row("NanoFlow", RATIO, engine, paper, max(over), ENGINE + OPEN, null=1.0, spread=over))
    return frame(table)


def plot(table: pd.DataFrame) -> "Figure":
    """Tokens a second by load and by model, the gain of overlap alone, and the ratios."""
    shown = [
        Panel(TOTAL, "Llama-2-70B, 8 A100", "tokens/s a GPU"), Panel(MODEL, "1024 in, 512 out", "tokens/s a GPU"),
        Panel(GAIN, "nano-batches side by side over in turn", "speedup"), Panel(RATIO, "on traces", "speedup over"),
    ]  # fmt: skip
    return panels(table, shown, "NanoFlow: engines of a device side by side")
