"""Can a prompt of ten million tokens be read and answered within 30 ms a token? (Mnemosyne, 2024, since Medha)"""

import functools
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hw_models import catalog, topology
from kernels.machine import LINK_OUT
from sim.run.scenario import Scenario
from sim.run.simulate import simulate
from studies._panels import Panel, panels
from studies._steps import arrays, step_s
from studies._verdict import frame, order, point, row
from workloads import models

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Mnemosyne (Agrawal et al. 2024): at most 30 ms between tokens at a context of ten million"
SYSTEM, TP, LIMIT_S = "dgx_h100", 8, 0.030
NAMES = ("llama-3.1-8b", "llama-3.1-70b")
CHUNKS = (32, 64, 128, 256, 512, 1024, 2048, 4096)
CONTEXTS, STAGES, SHARDS = (1_000_000, 4_000_000, 10_000_000), (1, 4, 16), (1, 2, 4, 8, 16)
TBT, BOUND, FIRST, GAIN = (
    "time between tokens, ms",
    "reading weights and KV alone, ms",
    "first token, s",
    ("first token, speedup of stages"),
)
CHUNKED = "first token beside decodes held to the limit, s"
OPEN = (
    "neither model nor hardware of the claim is published: Llama-3.1 on nodes of eight H100, tensor parallel inside; a "
    "chunk's KV is split over nodes by its sequence, queries and partial results cross the node's port; no host time"
)
SMALL = {"names": ("llama-3.1-8b",), "contexts": (1_000_000, 2_000_000), "stages": (1, 4), "shards": (1, 4)}


@functools.cache
def exchange_s(name: str, chunk: int, shards: int) -> float:
    """Seconds a step that KV parallelism adds: queries to all shards, their results back with a sum and a maximum a
    head (32 bits), a layer after another, each through the node's ports."""
    if shards == 1:
        return 0.0
    spec = models.load(name)
    part = spec.block[0].attention
    rate, latency_s = topology.link_rows(catalog.system(SYSTEM, TP * shards))[LINK_OUT][:2]
    width = part.num_head * part.head_dim / TP  # of a device
    byte = chunk * (2.0 * width + 4.0 * (width + 2 * part.num_head / TP)) * (shards - 1)
    return len(spec.layer) * (2 * float(latency_s) + byte / float(rate))


@functools.cache
def chunk_s(name: str, chunk: int, seen: int, shards: int) -> float:
    """Seconds of all layers of a chunk that ends at `seen` tokens, its KV over `shards` nodes."""
    keys = max(chunk, -(-seen // shards))
    own = step_s(name, arrays(SYSTEM, TP), [chunk], [keys], tp=TP, decode=chunk == 1, sampled=int(chunk == 1))
    return own + exchange_s(name, chunk, shards)


def bound_s(name: str, context: int, shards: int) -> float:
    """What no decode is below: weights once and a shard of the KV at the rate of the memory."""
    spec, device = models.load(name), catalog.system(SYSTEM, TP).device
    part = spec.block[0].attention
    kv = 2.0 * 2 * part.num_kv_head * part.head_dim * len(spec.layer) * context / shards
    dense = 2.0 * spec.hidden * (part.num_head + 2 * part.num_kv_head) * part.head_dim
    dense += 2.0 * part.num_head * part.head_dim * spec.hidden + 6.0 * spec.hidden * spec.block[0].ffn.inter
    return (dense * len(spec.layer) + kv) / TP / device.mem_byte_per_s


def prefill_s(name: str, context: int, stages: int, shards: int, limit_s: float, fixed: int = 0) -> tuple[float, float]:
    """Seconds to the first token, and of the longest chunk. Chunks go through the stages one behind another, each as
    large as `limit_s` allows at its place (or `fixed`): the next one enters when the first stage is free, for it needs
    only what the same stage has kept of those before."""
    begin, slowest, edges = 0.0, 0.0, np.linspace(0, context, 65).astype(int)
    for low, high in itertools.pairwise(edges):
        sizes = [fixed] if fixed else [c for c in CHUNKS if chunk_s(name, c, int(high), shards) <= limit_s] or [32]
        each = chunk_s(name, sizes[-1], int(high), shards)
        begin += (high - low) / sizes[-1] * each / stages
        slowest = max(slowest, each)
    return begin + (stages - 1) / stages * each, slowest


def run(
    names: tuple[str, ...] = NAMES, contexts: tuple[int, ...] = CONTEXTS, stages: tuple[int, ...] = STAGES,
    shards: tuple[int, ...] = SHARDS,
) -> pd.DataFrame:  # fmt: skip
    """Times between tokens by KV shards, first tokens by stages and chunks; the policy on the serving engine."""
    table: list[dict[str, Any]] = []
    longest = max(contexts)
    for name in names:
        found: dict[tuple[int, int], float] = {}
        for context in contexts:
            for k in shards:
                found[context, k] = chunk_s(name, 1, context, k)
                setup = f"{context / 1e6:.3g} M tokens, {k} nodes"
                table.append(point(name, TBT, setup, 1e3 * found[context, k], OPEN))
                table.append(point(name, BOUND, setup, 1e3 * bound_s(name, context, k), OPEN))
        most = max(shards)
        table.append(row(name, f"{TBT}, most nodes", f"{longest / 1e6:.3g} M tokens, {most} nodes", 30.0,
                         1e3 * found[longest, most], OPEN, said=True))  # fmt: skip
        falls = [found[longest, k] for k in shards]
        within = falls[-1] <= LIMIT_S
        table += [
            order(name, "order: within 30 ms at the longest context", f"{most} nodes", within, OPEN),
            order(
                name, "order: more nodes for the KV, less time between tokens", "longest", falls[0] > falls[-1], OPEN
            ),
        ]
        table += prompts(name, longest, stages, most)
    return frame(table + served())


def prompts(name: str, context: int, stages: tuple[int, ...], shards: int) -> list[dict[str, Any]]:
    """First tokens by stages, and adaptive chunks beside the fixed one that holds the limit at the end."""
    table: list[dict[str, Any]] = []
    label = f"{context / 1e6:.3g} M tokens"
    took = {p: prefill_s(name, context, p, shards, LIMIT_S) for p in stages}
    for p in stages:
        table.append(point(name, FIRST, f"{label}, {p} stages", took[p][0], OPEN))
        if p > 1:
            gain = took[stages[0]][0] / took[p][0]
            note = f"published as a law: about as many times sooner as there are stages; {OPEN}"
            table.append(row(name, GAIN, f"{label}, {p} stages", p / stages[0], gain, note, said=True))
    held = [c for c in CHUNKS if chunk_s(name, c, context, shards) <= LIMIT_S] or [CHUNKS[0]]
    fixed = prefill_s(name, context, 1, shards, LIMIT_S, held[-1])
    whole = prefill_s(name, context, 1, shards, LIMIT_S, CHUNKS[-1])
    adaptive = took[stages[0]] if stages[0] == 1 else prefill_s(name, context, 1, shards, LIMIT_S)
    for kind, (first, _) in (("adaptive", adaptive), ("fixed, held", fixed), (f"fixed {CHUNKS[-1]}", whole)):
        table.append(point(name, CHUNKED, f"{label}, {kind}", first, OPEN))
    return [
        *table,
        order(name, "order: adaptive chunks are sooner than the fixed one that holds the limit", label,
              adaptive[0] < fixed[0], OPEN),
        order(name, "order: the largest fixed chunk breaks the limit", label, whole[1] > LIMIT_S, OPEN),
    ]  # fmt: skip


def served() -> list[dict[str, Any]]:
    """The policy on the engine: a prompt of 96K beside short requests, chunks fixed and adaptive (one H100)."""
    load = "batch:n=2,prompt=96000,output=64"
    worst = {}
    for label, policy in (
        ("fixed 2048", "sarathi:max_token=2048"), ("adaptive", "mnemosyne:max_token=2048,pair_million=24"),
    ):  # fmt: skip
        done = simulate(Scenario(model="llama-3.1-8b", system="h100_sxm", policy=policy, requests=load))
        worst[label] = float(done.metrics["p99_itl_ms"])
    setup = "two prompts of 96,000, one H100"
    return [
        *(point(label, "P99 time between tokens on the engine, ms", setup, ms) for label, ms in worst.items()),
        order("engine", "order: adaptive chunks shorten the tail between tokens", setup,
              worst["adaptive"] < worst["fixed 2048"]),
    ]  # fmt: skip


def plot(table: pd.DataFrame) -> "Figure":
    """Time between tokens and its bound at the longest context, first tokens by stages and by chunks."""
    longest = table.loc[table["claim"] == TBT, "setup"].iloc[-1].rsplit(",", 1)[0]
    shown = [
        Panel(TBT, f"a token at {longest}", "ms", f"{longest}, ", curve=True),
        Panel(BOUND, f"its bound, {longest}", "ms", f"{longest}, ", curve=True),
        Panel(FIRST, "a prompt through stages", "seconds", f"{longest}, ", log=True),
        Panel(CHUNKED, "a prompt in chunks, one stage", "seconds", f"{longest}, ", log=True),
    ]
    return panels(table, shown, "Mnemosyne: contexts of millions on H100 nodes")
