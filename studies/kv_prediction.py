"""How much sooner is the first token if a small model's KV stands for a large one's? (KV Prediction, Apple 2024)"""

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hw_models.device import cost
from kernels import optable
from kernels.formats import FORMAT_CODE
from studies._panels import Panel, panels
from studies._steps import arrays, decode_s
from studies._verdict import frame, order, point
from workloads import placement
from workloads.formats import parse
from workloads.lowering import Plan, lower_step
from workloads.models.spec import Attention, Block, FeedForward, ModelSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "KV Prediction (Horton et al. 2024): FLOPs that an auxiliary OpenELM saves become time to first token on a CPU"
SMALL: dict[str, Any] = {"prompts": (1024,), "systems": ("cpu_x1",)}
SIZES = {"270M": (1280, 16, 64), "450M": (1536, 20, 64), "1.1B": (2048, 28, 64), "3B": (3072, 36, 128)}
PARAMETER = {"270M": 271.5e6, "450M": 457.2e6, "1.1B": 1079.9e6, "3B": 3036.6e6}  # as the models' authors give them
PAIRS = (("1.1B", "270M"), ("1.1B", "450M"), ("3B", "270M"), ("3B", "450M"), ("3B", "1.1B"))
PROMPTS, SYSTEMS, CPU = (128, 1024, 2048), ("cpu_x1", "a100_sxm_80gb"), "cpu_x1"
FLOP, TIME = "FLOPs to the first token, base over prediction", "time to the first token, base over prediction"
OPEN = (
    "no figure of FLOPs or seconds is published in what was found, an M2 Pro is not catalogued: a server's CPU and an "
    "A100; one prompt; each base layer's keys and values are a linear map of the nearest auxiliary layer's; then "
    "the base model computes the last token; no host time"
)


def divisible(value: float, by: int) -> int:
    """The nearest multiple, not more than a tenth below."""
    near = max(by, int(value + by / 2) // by * by)
    return near if near >= 0.9 * value else near + by


@functools.cache
def openelm(size: str) -> ModelSpec:
    """OpenELM: heads and widths grow in a line from the first layer to the last, four query heads a key head."""
    hidden, num_layer, dim = SIZES[size]
    block = []
    for heads, width in zip(np.linspace(0.5, 1.0, num_layer), np.linspace(0.5, 4.0, num_layer), strict=True):
        query = divisible(hidden * round(heads, 2), 4 * dim) // dim
        inner = divisible(hidden * round(width, 2), 256)
        block.append(Block(Attention(query, query // 4, dim, dim), FeedForward(inner, True)))
    return ModelSpec(
        f"openelm-{size}", "llama", hidden, 32000, 0, tuple(block), tuple(range(num_layer)), tied=True
    )  # fmt: skip


def kv_width(spec: ModelSpec, layer: int) -> int:
    """Values of a token's key in a layer."""
    part = spec.block[spec.layer[layer]].attention
    return part.num_kv_head * part.head_dim


def predictor(base: ModelSpec, aux: ModelSpec, token: int) -> "optable.OpTable":
    """A product for keys and one for values of each base layer, from the auxiliary layer at the same relative depth."""
    ops, _ = optable.empty(base.num_layer)
    at = [i * aux.num_layer // base.num_layer for i in range(base.num_layer)]
    ops["kind"], ops["fmt"], ops["count"], ops["m"] = optable.GEMM, FORMAT_CODE["bf16"], 2, token
    ops["k"] = [kv_width(aux, i) for i in at]
    ops["n"] = [kv_width(base, i) for i in range(base.num_layer)]
    ops["flop"] = 2.0 * token * ops["k"] * ops["n"]
    ops["weight_byte"], ops["act_byte"] = 2.0 * ops["k"] * ops["n"], 2.0 * token * ops["k"]
    ops["write_byte"] = 2.0 * token * ops["n"]
    return ops


def prompt(spec: ModelSpec, token: int, system: str, sampled: int = 1) -> tuple[float, float]:
    """FLOPs and seconds of a prompt; its last token through the head or not."""
    one = np.array([token])
    plan = Plan(one, one, np.zeros(1, bool), np.array([sampled]))
    ops, work = lower_step(spec, parse("bf16"), placement.make(spec), 0, plan)
    return float((ops["flop"] * ops["count"]).sum()), float(cost(ops, work, arrays(system))["time_ps"].sum()) * 1e-12


def predicted(base: ModelSpec, aux: ModelSpec, token: int, system: str) -> tuple[float, float]:
    """The auxiliary model's prompt, the map, and the base model's step for the last token."""
    flop, second = prompt(aux, token, system, 0)
    ops = predictor(base, aux, token)
    _, no_work = optable.empty(0)
    mapped_s = float(cost(ops, no_work, arrays(system))["time_ps"].sum()) * 1e-12
    last = prompt(base, 1, system)[0]
    return flop + float((ops["flop"] * ops["count"]).sum()) + last, second + mapped_s + decode_s(
        base, arrays(system), 1, token, fmt="bf16"
    )


def run(prompts: tuple[int, ...] = PROMPTS, systems: tuple[str, ...] = SYSTEMS) -> pd.DataFrame:
    """FLOPs and seconds to the first token of the base model over those of prediction."""
    table: list[dict[str, Any]] = []
    for system in systems:
        gain: dict[tuple[str, str, int], tuple[float, float]] = {}
        for base, aux in PAIRS:
            for token in prompts:
                plain = prompt(openelm(base), token, system)
                other = predicted(openelm(base), openelm(aux), token, system)
                flop, time = gain[base, aux, token] = plain[0] / other[0], plain[1] / other[1]
                pair, setup = f"{base} by {aux}", f"{system}, {token} tokens"
                table += [point(pair, FLOP, setup, flop, OPEN), point(pair, TIME, setup, time, OPEN)]
        if system != CPU:
            continue  # the paper has no other machine
        ranked = all(
            sorted(PAIRS, key=lambda one: gain[*one, t][0]) == sorted(PAIRS, key=lambda one: gain[*one, t][1])
            for t in prompts
        )
        for claim, true in (
            ("saved FLOPs bring the first token sooner", all(time > 1 for _, time in gain.values())),
            ("of two pairs the one that saves more FLOPs saves more time", ranked),
        ):
            table.append(order("KV Prediction", f"order: {claim}", f"{system}, every pair and prompt", true, OPEN))
    return frame(table)


def plot(table: pd.DataFrame) -> "Figure":
    """Both ratios of every pair and prompt."""
    names = dict.fromkeys(table[table["claim"] == FLOP]["setup"].str.split(", ").str[0])
    shown = [Panel(claim, f"{claim.split(' to')[0]}, {name}", "base over prediction", f"{name}, ", curve=True)
             for name in names for claim in (FLOP, TIME)]  # fmt: skip
    return panels(table, shown, "KV Prediction: OpenELM with an auxiliary model's keys and values")
