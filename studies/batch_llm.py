"""What does an offline batch gain that knows all its prefixes beforehand? (BatchLLM, Zheng et al. 2024, over vLLM)"""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sim.run.scenario import Scenario
from sim.run.simulate import Simulation, simulate
from studies._panels import Panel, panels
from studies._verdict import frame, order, point, row
from workloads.prefixes import system_prompts
from workloads.requests import Requests, build

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "BatchLLM (Zheng et al. 2024): 1.1 to 2 times vLLM's throughput; its LRU cache saves 35.8 % of 58.1 % of tokens"
SAVED, RATE, GAIN = "prompt tokens saved, %", "requests a second", "throughput over vLLM"
UNIT = 16
# a prefix of 1,264 before 776 own tokens, 16 requests a prefix: 58.1 % of all prompt tokens need not be computed
PREFIX, OWN, MEMBER = 79 * UNIT, 776, 16
CHUNK = "max_token=2048,max_seq=256"  # vLLM's limits of a step; memory alone closes one of BatchLLM's
WIDE = "max_token=8192,max_seq=4096"
STEPS = {  # what is added from left to right: order, limits of a step, attention, share of KV kept free at admission
    "vLLM": ("shuffled", CHUNK, "paged", -1.0),
    "groups": ("grouped", CHUNK, "paged", -1.0),
    "decode-heavy first": ("ranked", CHUNK, "paged", -1.0),
    "memory closes a step": ("ranked", WIDE, "paged", 0.1),
    "prefix read once": ("ranked", WIDE, "hydragen", 0.1),
}
OUTPUTS = (32, 128, 384)  # mean tokens of an answer
OPEN = (
    "neither GPU, models, lengths nor trees are known: Llama-3-8B on an A100 80 GB, one level of prefixes whose "
    "achievable saving is the published 58.1 %, all requests there at once, order of the batch random; spread over "
    "answers of 32 to 384 tokens; groups are submitted in their order to the same policy, which keeps them together"
)
SMALL = {"groups": 160, "outputs": (128,)}


def batch(how: str, groups: int, output: int, seed: int = 0) -> Requests:
    """All requests at once: `shuffled`, `grouped` by prefix, or `ranked`: groups by output over prompt, falling."""
    random = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), MEMBER)
    scale = random.lognormal(-0.32, 0.8, groups)  # of a group's answers: tasks differ
    token = np.maximum(1, np.rint(output * scale[group] * random.uniform(0.5, 1.5, len(group)))).astype(np.int64)
    mean = np.bincount(group, token) / MEMBER
    place = {"shuffled": random.random(len(group)), "grouped": group, "ranked": -mean[group]}[how]
    at = np.argsort(place, kind="stable")
    units = system_prompts(group[at], groups, PREFIX, UNIT)
    prompt = np.full(len(at), PREFIX + OWN)
    return build(
        np.zeros(len(at), np.int64), prompt, token[at], unit_start=units.start, unit_stop=units.stop,
        unit_id=units.unit_id, unit_token=UNIT,
    )  # fmt: skip


def serve(name: str, groups: int, output: int) -> Simulation:
    """One way through one batch."""
    how, limit, attention, free = STEPS[name]
    scenario = Scenario(
        model="llama-3-8b", system="a100_sxm_80gb", policy=f"vllm_v1:{limit}", attention=attention, watermark=free
    )
    return simulate(scenario, requests=batch(how, groups, output))


def saved(done: Simulation) -> float:
    """Percent of prompt tokens that were found."""
    columns = done.run.requests
    return 100 * float(columns["cached_token"].sum() / columns["prompt_token"].sum())


def achievable(groups: int) -> float:
    """Percent of prompt tokens that one computation of each prefix leaves out."""
    return 100 * groups * (MEMBER - 1) * PREFIX / (groups * MEMBER * (PREFIX + OWN))


def above(more: list[float], less: list[float]) -> bool:
    """Whether each is more."""
    return all(a > b for a, b in zip(more, less, strict=True))


def run(groups: int = 256, outputs: tuple[int, ...] = OUTPUTS) -> pd.DataFrame:
    """Saved tokens and rates as each part is added, over lengths of answers."""
    table: list[dict[str, Any]] = []
    share: dict[str, list[float]] = {name: [] for name in STEPS}
    rate: dict[str, list[float]] = {name: [] for name in STEPS}
    for output in outputs:
        setup = f"answers of {output}"
        for name in STEPS:
            done = serve(name, groups, output)
            share[name].append(saved(done))
            rate[name].append(len(done.run.requests) / float(done.run.requests["finish_s"].max()))
            table.append(point(name, SAVED, setup, share[name][-1], OPEN))
            table.append(point(name, RATE, setup, rate[name][-1], OPEN))
            table.append(point(name, GAIN, setup, rate[name][-1] / rate["vLLM"][-1], OPEN))
    where = f"{groups} prefixes of {MEMBER} requests, answers of {', '.join(map(str, outputs))}"
    best = [a / b for a, b in zip(rate["prefix read once"], rate["vLLM"], strict=True)]
    table.append(row("vLLM", f"{SAVED}, of 58.1", where, 35.8, share["vLLM"][0], OPEN, said=True, spread=share["vLLM"]))
    for claim, paper, found in (("least", 1.1, min(best)), ("most", 2.0, max(best))):
        table.append(row("BatchLLM", f"{GAIN}, {claim}", where, paper, found, OPEN, said=True, spread=best))
    for claim, true in (
        ("an LRU cache saves less than groups do", max(share["vLLM"]) < min(share["groups"])),
        ("groups save what can be saved, to a point", min(share["groups"]) > achievable(groups) - 1),
        ("all together beats vLLM", min(best) > 1),
        ("decode-heavy groups first beat any order of groups",
         above(rate["decode-heavy first"], rate["groups"])),
        ("steps that memory closes beat a limit of sequences",
         above(rate["memory closes a step"], rate["decode-heavy first"])),
    ):  # fmt: skip
        table.append(order("BatchLLM", f"order: {claim}", where, true, OPEN))
    return frame(table)


def plot(table: pd.DataFrame) -> "Figure":
    """Saved tokens and throughput as each part is added."""
    shown = [
        Panel(SAVED, "found in the cache", "% of prompt tokens", "answers"),
        Panel(GAIN, "throughput", "over vLLM", "answers"),
    ]
    return panels(table, shown, "BatchLLM: part by part, Llama-3-8B on an A100 80 GB")
