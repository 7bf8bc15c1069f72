"""What does a system prompt cost whose keys are read once for a whole batch? (RelayAttention, ACL 2024, on vLLM)"""

from typing import TYPE_CHECKING, Any

import pandas as pd

from hw_models.calibration.fit import half
from hw_models.calibration.measured_rows import kv_write
from hw_models.device import cost
from kernels import optable
from kernels.attention_work import CAUSAL, SPAN
from sim.run.scenario import Scenario
from sim.run.simulate import simulate
from sim.show.plot_style import BLUE, ORANGE, new_figure, styled, suptitle
from studies._gpt import llama
from studies._panels import from_zero, log_places
from studies._steps import arrays
from studies._verdict import frame, order, row
from workloads import placement
from workloads.formats import parse
from workloads.lowering import lower_attention

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "RelayAttention (Zhu et al. 2024): 1,000 requests behind a system prompt of 2,048, 3.47 -> 33.5 requests/s"

# Llama-2-7B on an A100 80 GB, vLLM 0.2.6 eager, 1,000 requests at once: requests a second of the authors' repository
# by (prompt, output) of each request and length of the system prompt, without and with a single read of its keys.
PREFIX = (64, 128, 256, 512, 1024, 2048)
MEASURED = {
    (64, 128): ((28.44, 23.87, 17.82, 10.82, 6.551, 3.468), (35.94, 35.42, 34.94, 35.57, 34.76, 33.48)),
    (128, 256): ((12.98, 11.35, 8.619, 6.063, 4.068, 2.340), (15.03, 14.73, 14.81, 14.86, 14.72, 14.35)),
    (256, 256): ((9.513, 8.636, 7.113, 5.414, 3.751, 2.246), (11.04, 10.94, 10.85, 10.74, 10.65, 10.53)),
    (256, 512): ((4.541, 4.200, 3.643, 3.014, 2.099, 1.314), (4.989, 5.055, 4.997, 4.947, 4.884, 4.828)),
}
OPEN = (
    "engine vllm_0.2_a100, whose host time was fitted on half of the rows of requests alone: these, and a speedup over "
    "one of them, count as fitted; the first request computes the prefix, prompts attend to it each for itself"
)
ALONE = "requests a second, alone"
SERVED, SPEEDUP = "requests a second, prefix read once", "speedup over each request alone"
MODES = {"alone": ("paged", False), "cached": ("paged", True), "once": ("relay", True)}

# the same of 1,000 conversations of ShareGPT by system prompt: alone, read once, cached; mean lengths by the published
# tokens a second, spread as the public file's (its standard deviation is 1.1 and 1.07 of its means), cut as vLLM's
# benchmark of throughput cuts it (prompts of 1,024, 2,048 in all)
SHAREGPT = {64: (8.49, 9.08, 8.43), 512: (5.40, 9.05, 6.74), 1024: (3.68, 8.94, 5.30), 2048: (2.26, 8.81, 3.75)}
LENGTHS = "prompt=lognormal:mean=233:sigma=0.9:min=4:max=1024,output=lognormal:mean=245:sigma=0.87:min=4:max=2044"
TALK, TALK_MODES = "requests a second, ShareGPT", ("alone", "once", "cached")

# one attention operator on an A40, 32 sequences of 128 tokens: us by prefix, each alone and the prefix read once; its
# bytes fit 52 heads of 128 (Llama-30B)
KERNEL = {1024: (1466.0, 240.0), 16384: (20917.0, 868.0)}
KERNEL_US, HEADS, KERNEL_BATCH, OWN = "us of one attention operator", 52, 32, 128
KERNEL_OPEN = (
    "heads derived from the bytes; decodes on an A40 as fitted on half of the authors' kernel times (rows of that half "
    "count as fitted); the shared span by the same kernel with its keys cut into parts, and the merge of both counted"
)

SMALL = {"shapes": ((64, 128),), "prefixes": (128, 2048), "talks": (1024,)}


def served(lengths: str, prefix: int, mode: str, requests: int) -> float:
    """Requests a second of a batch behind one system prompt."""
    attention, cache = MODES[mode]
    load = f"batch:n={requests},{lengths},num_system_prompt=1,system_prompt_len={prefix}"
    scenario = Scenario(
        model="llama-2-7b", system="a100_sxm_80gb", policy="vllm_v0:max_token=4096,max_seq=256",
        engine="vllm_0.2_a100", requests=load, prefix_cache=cache, attention=attention,
    )  # fmt: skip
    return float(simulate(scenario).metrics["request_throughput"])


def operator_us(prefix: int, once: bool) -> float:
    """Decode attention of a batch on an A40: each over its whole context, or all over the prefix and each its own; with
    the write of the new keys, which the published time holds."""
    kernels = [(KERNEL_BATCH, 1, prefix + OWN, CAUSAL)]
    if once:  # a kernel each
        kernels = [(1, KERNEL_BATCH, prefix, SPAN), (KERNEL_BATCH, 1, OWN, CAUSAL)]
    spec = llama("llama-30b", HEADS * 128, 1, HEADS, HEADS, 17920, 32000)
    total_ps = 0
    for kernel in kernels:
        _, work = optable.empty(0, 1)
        work[0]["count"], work[0]["query_len"], work[0]["kv_len"], work[0]["causal"] = kernel
        ops = lower_attention(spec, parse("fp16"), placement.make(spec), 0, work, "decode")
        total_ps += int(cost(ops, work, arrays("a40"))["time_ps"].sum())
    written = kv_write(ops, work)  # the new tokens' keys: of the last kernel's rows
    return (total_ps + int(cost(written, work, arrays("a40"))["time_ps"].sum())) * 1e-6


def talk_rows(prefixes: tuple[int, ...], requests: int) -> list[dict[str, Any]]:
    """Requests a second of conversations, each way."""
    names = {"alone": "vLLM", "once": "RelayAttention", "cached": "vLLM, prefix cached"}
    return [
        row(names[mode], TALK, f"prefix {prefix}", published, served(LENGTHS, prefix, mode, requests), OPEN)
        for prefix in prefixes for mode, published in zip(TALK_MODES, SHAREGPT[prefix], strict=True)
    ]  # fmt: skip


def operator_rows() -> list[dict[str, Any]]:
    """Microseconds of the operator by prefix."""
    rows = []
    for prefix, pair in KERNEL.items():
        for name, published in zip(("vLLM", "RelayAttention"), pair, strict=True):
            fitted = name == "vLLM" and half([KERNEL_BATCH], [prefix + OWN])[0]
            where = f"A40, batch {KERNEL_BATCH}, {OWN} tokens behind {prefix}"
            found = operator_us(prefix, name == "RelayAttention")
            kind = "fitted" if fitted else "number"
            rows.append(row(name, KERNEL_US, where, published, found, KERNEL_OPEN, kind=kind))
    return rows


def run(
    shapes: tuple[tuple[int, int], ...] = tuple(MEASURED), prefixes: tuple[int, ...] = PREFIX,
    talks: tuple[int, ...] = tuple(SHAREGPT), requests: int = 1000,
) -> pd.DataFrame:  # fmt: skip
    """Three rows a published pair, the largest speedup, conversations and orders; `requests` are those of a batch."""
    table: list[dict[str, Any]] = []
    rates: dict[str, list[float]] = {mode: [] for mode in MODES}
    best = 0.0
    for shape in shapes:
        for prefix in prefixes:
            alone, once = (MEASURED[shape][k][PREFIX.index(prefix)] for k in (0, 1))
            lengths = f"prompt={shape[0]},output={shape[1]}"
            ours = {mode: served(lengths, prefix, mode, requests) for mode in MODES}
            setup = f"prompt {shape[0]}, output {shape[1]}, prefix {prefix}"
            speedup = ours["once"] / ours["alone"]
            best = max(best, speedup)
            table.append(row("RelayAttention", SERVED, setup, once, ours["once"], OPEN))
            kind = "fitted" if half(*([value] for value in (*shape, prefix)))[0] else "number"
            table.append(row("RelayAttention", SPEEDUP, setup, once / alone, speedup, OPEN, null=1.0, kind=kind))
            table.append(row("vLLM", ALONE, setup, alone, ours["alone"], OPEN, kind=kind))
            for mode, value in ours.items():
                rates[mode].append(value)
    pairs = [(a / b) for s in shapes for a, b in zip(MEASURED[s][1], MEASURED[s][0], strict=True)]
    table.append(row("RelayAttention", "largest speedup", "all rows", max(pairs), best, OPEN))
    longest = [rates["once"][len(prefixes) * i + len(prefixes) - 1] for i in range(len(shapes))]
    shortest = [rates["once"][len(prefixes) * i] for i in range(len(shapes))]
    kept = all(long > 0.9 * short for long, short in zip(longest, shortest, strict=True))
    table.append(order("RelayAttention", "a prefix of 2,048 costs less than 10 % of the throughput", "once", kept))
    more = all(a < b < c for a, b, c in zip(rates["alone"], rates["cached"], rates["once"], strict=True))
    table.append(order("RelayAttention", "a cached prefix helps, a single read of it more", "every set-up", more))
    return frame([*table, *talk_rows(talks, requests), *operator_rows()])


@styled
def plot(table: pd.DataFrame) -> "Figure":
    """Requests a second against the prefix, an axis a shape of request; published as marks."""
    part = table[table["setup"].str.startswith("prompt")].copy()
    part["shape"] = part["setup"].str.rsplit(", prefix ", n=1).str[0]
    part["prefix"] = part["setup"].str.rsplit(" ", n=1).str[1].astype(int)
    shapes = list(dict.fromkeys(part["shape"]))
    figure, axes = new_figure(1, len(shapes), (max(5.0, 3.2 * len(shapes)), 3.4))
    for axis, shape in zip([axes] if len(shapes) == 1 else axes, shapes, strict=True):
        own = part[part["shape"] == shape]
        once, alone = own[own["claim"] == SERVED], own[own["claim"] == ALONE]
        ratio = own[own["claim"] == SPEEDUP]
        axis.plot(once["prefix"], once["simulated"], "-", color=BLUE, label="read once")
        axis.plot(alone["prefix"], alone["simulated"], "-", color=ORANGE, label="alone")
        axis.plot(once["prefix"], once["paper"], "o", color=BLUE, mfc="white", label="published")
        axis.plot(once["prefix"], once["paper"].to_numpy() / ratio["paper"].to_numpy(), "o", color=ORANGE, mfc="white")
        axis.set(title=shape, xlabel="system prompt (tokens)", ylabel="requests/s")
        log_places(axis, once["prefix"])
        from_zero(axis)
    (axes if len(shapes) == 1 else axes[0]).legend(loc="lower left")
    suptitle(figure, "RelayAttention: Llama-2-7B, 1,000 requests on an A100")
    return figure
