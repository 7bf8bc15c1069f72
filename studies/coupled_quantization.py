"""What do keys and values of one bit a channel bring to a batch? (Coupled Quantization, NeurIPS 2024, LLaMA-7B)"""

import functools
from typing import TYPE_CHECKING, Any

import pandas as pd

from hw_models.device import machine
from kernels.attention import MEM_EFF
from kernels.formats import FORMAT_CODE
from kernels.optable import ATTN_DECODE
from sim.run.scenario import Scenario
from sim.run.setup import prepare
from sim.run.simulate import simulate
from studies._panels import Panel, panels
from studies._verdict import frame, order, point, row
from workloads import models
from workloads.models.tensors import num_param

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "Coupled Quantization (Zhang et al. 2024): KV of 1 bit a channel brings LLaMA-7B 1.4 to 3.5 times the throughput"
)
SMALL: dict[str, Any] = {"lengths": ((512, 128),)}
SYSTEM, MODEL = "a100_sxm_40gb", "llama-2-7b"
FORMATS = {"fp16": "fp16", "CQ-4c8b (2 bits)": "int2", "CQ-8c8b (1 bit)": "int1"}
LENGTHS = ((512, 128), (512, 512), (1024, 1024))  # prompt and answer
MANY = 1024  # sequences that wait: batches are as large as memory lets them be
# centroids are 2^bits vectors of each group of coupled channels, for keys and values of every layer, in 16 bits: least
# and largest share of the weights as published, percent, over the models of the paper and codes of 8 and 10 bits
SHARE, SPECS, BITS = (0.23, 4.0), ("mistral-7b", "llama-2-7b", "llama-2-13b"), (8, 10)
RATE, GAIN, CENTROID = "tokens a second", "throughput over fp16", "centroids, % of weights"
LOOKUPS = (1.0, 0.5, 0.2)  # of the bandwidth that attention reaches on plain keys, what look-ups of centroids leave
OPEN = (
    "Llama-2-7B on an A100 40 GB; lengths, software and kernels of the figure are not known: no host time, 512 + 128 "
    "to 1,024 + 1,024 tokens, look-ups that leave all to a fifth of the bandwidth, as large batches as fit; prompts "
    "and decodes in vLLM's first policy"
)


@functools.cache
def rate(kv: str, prompt: int, output: int, lookup: float = 1.0) -> float:
    """Output tokens a second of an offline batch with KV of a format."""
    scenario = Scenario(
        model=MODEL, system=SYSTEM, weight_format="fp16", kv_format=kv, engine="none", prefix_cache=False,
        policy=f"vllm_v0:max_token={max(8192, prompt)},max_seq={MANY}",
        requests=f"batch:n={MANY},prompt={prompt},output={output}",
    )  # fmt: skip
    arrays = machine(prepare(scenario).system, "calibrated")
    fit = arrays.fit.copy()
    fit[ATTN_DECODE, FORMAT_CODE[kv], MEM_EFF] *= lookup
    done = simulate(scenario, machine=arrays._replace(fit=fit))
    return MANY * output / float(done.run.requests["finish_s"].max())


def centroid_percent(model: str, bit: int) -> float:
    """Bytes of all centroids over those of the weights."""
    spec = models.load(model)
    value = sum(
        2.0 * spec.block[kind].attention.num_kv_head * spec.block[kind].attention.head_dim for kind in spec.layer
    )
    return 100 * value * 2**bit / num_param(spec)


def run(lengths: tuple[tuple[int, int], ...] = LENGTHS, lookups: tuple[float, ...] = LOOKUPS) -> pd.DataFrame:
    """Room and rates by format and length, the gains, and what centroids take."""
    table: list[dict[str, Any]] = []
    gains: list[float] = []
    for prompt, output in lengths:
        setup = f"{prompt} + {output} tokens"
        plain = rate("fp16", prompt, output)
        for name, kv in FORMATS.items():
            table.append(point(name, RATE, setup, rate(kv, prompt, output), OPEN))
        for name, kv in list(FORMATS.items())[1:]:
            for lookup in lookups:
                gains.append(rate(kv, prompt, output, lookup) / plain)
                table.append(point(name, GAIN, f"{setup}, look-ups at {lookup:g}", gains[-1], OPEN))
    for claim, paper, found in (("least", 1.4, min(gains)), ("most", 3.5, max(gains))):
        table.append(row("CQ", f"{GAIN}, {claim}", "what is open", paper, found, OPEN, said=True, spread=gains))
    one, two = FORMATS["CQ-8c8b (1 bit)"], FORMATS["CQ-4c8b (2 bits)"]
    more = all(rate(one, *at) > rate(two, *at) > rate("fp16", *at) for at in lengths)
    table.append(order("CQ", "order: one bit serves more than two, two more than sixteen", "free look-ups", more, OPEN))
    longest, shortest = lengths[-1], lengths[0]
    if longest != shortest:
        grows = rate(one, *longest) / rate("fp16", *longest) > rate(one, *shortest) / rate("fp16", *shortest)
        table.append(
            order("CQ", "order: the more KV a token reads the more it gains", "shortest, longest", grows, OPEN)
        )
    note = "keys and values of every layer, 2^bits vectors a group of channels, 16 bits, over weights in 16 bits"
    share = [centroid_percent(model, bit) for model in SPECS for bit in BITS]
    for word, paper, value in zip(("least", "most"), SHARE, (min(share), max(share)), strict=True):
        table.append(row("CQ", f"{CENTROID}, {word}", f"{', '.join(SPECS)}; 8 and 10 bits", paper, value, note))
    table += [point("CQ", CENTROID, f"{model}, {bit}", centroid_percent(model, bit)) for model in SPECS for bit in BITS]
    return frame(table)


def plot(table: pd.DataFrame) -> "Figure":
    """Rates by format, gains by what look-ups leave of the bandwidth, centroids."""
    shown = [Panel(RATE, "Llama-2-7B on an A100 40 GB", RATE), Panel(CENTROID, "centroids", "% of weights"),
             Panel(GAIN, "by length and look-ups", GAIN, curve=True)]  # fmt: skip
    return panels(table, shown, "Coupled Quantization: KV of one and two bits a channel")
