"""What does knowing the experts before the layers are there gain over a cache that waits? (ExpertFlow, 2024)"""

import functools
import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from hw_models import catalog
from hw_models.device import cost
from kernels import optable
from kernels.formats import FORMAT_CODE
from sim.offload.expert_cache import hits
from sim.offload.expert_replay import Offloaded, Replayed, replay, ring
from sim.serving import engine_profile
from studies._panels import Panel, panels
from studies._steps import arrays
from studies._verdict import frame, order, point, row
from workloads.expert_routing import draw, expert_rows, predicted, regrouped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "ExpertFlow (He et al. 2024): Switch-128 5.86 times faster than SE-MoE, Mixtral 1.99 times than an LRU cache"


class Experts(NamedTuple):
    """A model's layers with experts, by its published configuration; 16-bit weights."""

    num_layer: int
    num_expert: int
    topk: int
    hidden: int
    inter: int
    num_matrix: int  # of an expert
    query: int  # width of the heads
    key_value: int  # width of keys and values
    shared: int  # width of the expert that every token takes
    num_plain: int  # layers without experts, and cross attentions, for each with them

    @property
    def expert_byte(self) -> float:
        return 2.0 * self.num_matrix * self.hidden * self.inter


MODELS = {
    "Switch-128": Experts(12, 128, 1, 768, 3072, 2, 768, 768, 0, 1),
    "Mixtral 8x7B": Experts(32, 8, 2, 4096, 14336, 3, 4096, 1024, 0, 0),
    "Qwen1.5-MoE": Experts(24, 60, 4, 2048, 1408, 3, 2048, 2048, 5632, 0),
    "DeepSeek-MoE": Experts(27, 64, 6, 2048, 1408, 3, 2048, 2048, 2816, 0),
}
CACHED = {"Mixtral 8x7B": 1.99, "Qwen1.5-MoE": 2.12, "DeepSeek-MoE": 1.94}  # over Cache-MoE
RINGED = {16: 5.86, 4: 9.99}  # Switch-128, batch 32, over SE-MoE, by places a layer
HITS = {"LRU": {4: 0.7661, 16: 0.5837}, "ExpertFlow": {4: 0.9190, 16: 0.8591}}  # Switch-128, 16 places, by batch
SWITCH = {"decodes of 32": 32, "prompts of 4,096 tokens": 4096}
WHOLE_GB, OTHER = 15.26, 222.9e6 - 12 * 2 * 768 * 3072  # memory with every expert; parameters of T5-base that stay
ACCURACY = (0.90, 0.95)  # "above 90 %" in the domain
# not said of the three others, nor how much of a run prompts are: tokens of a pass, share of experts in the cache
PASSES, SHARES = {"decodes of 4": 4, "decodes of 16": 16, "prompts of 2,048 tokens": 2048}, (1 / 8, 1 / 4, 1 / 2)
HIT, RATIO, MEMORY, LOAD = "hits of the cache", "speedup over", "memory with every expert, GB", "experts loaded a step"
BOUND = (
    "decodes are bound by the link under either rule: a predictor hides at most what is computed, and what it names "
    "wrongly moves too;"
)
OPEN = (
    "no routing trace is published: popularity by a power law whose exponent is fitted on one hit rate (LRU, batch 4), "
    "for tokens that choose anew and for such that keep half of their experts from step to step; eager layers of "
    "0.55 ms; A40, PCIe 4 x16 at its rate or at half of it, as from memory that is not pinned; Cache-MoE computes and "
    "copies in turn; hits of 60 steps from an empty cache (of 12, LRU's at batch 16 are 0.78, of 200 0.65 to 0.69)"
)
# steps over which hits are counted: caches begin empty, and loads of the first few steps would be most of the misses
HIT_STEPS = 60
STAY, PINNED = (0.0, 0.5), (1.0, 0.5)  # chance that a sequence keeps its experts; share of the link's rate
SMALL = {"steps": 6, "hit_steps": 12, "models": ("Mixtral 8x7B",)}


@functools.cache
def product_s(m: int, n: int, k: int) -> float:
    """Seconds of a product on an A40."""
    ops, work = optable.empty(1)
    ops["kind"], ops["fmt"], ops["count"], ops["batch"] = optable.GEMM, FORMAT_CODE["fp16"], 1, 1
    ops["m"], ops["n"], ops["k"], ops["flop"] = m, n, k, 2.0 * m * n * k
    ops["weight_byte"], ops["act_byte"], ops["write_byte"] = 2.0 * n * k, 2.0 * m * k, 2.0 * m * n
    return float(cost(ops, work, arrays("a40_x8"))["time_ps"][0]) * 1e-12


def offloaded(one: Experts, batch: int, pinned: float = 1.0) -> Offloaded:
    """Times of a layer for a batch of decodes: products as calibrated, never less than an eager layer's launches."""
    dispatch_s = engine_profile.load("vllm_0.2_a100").dispatch_layer_s
    link = catalog.system("a40_x8").node.host_link
    assert link is not None
    attention = product_s(batch, one.query + 2 * one.key_value, one.hidden) + product_s(batch, one.hidden, one.query)
    other = 3 * product_s(batch, one.shared, one.hidden) if one.shared else 0.0
    dense_s = (1 + one.num_plain) * max(dispatch_s, attention + other)

    def expert_s(rows: int) -> float:
        return one.num_matrix * product_s(rows, one.inter, one.hidden)

    return Offloaded(dense_s, expert_s, one.expert_byte, pinned * link.byte_per_s)


def steps_of(one: Experts, batch: int, skew: float, stay: float, steps: int, seed: int = 0) -> np.ndarray:
    """Rows of a batch's steps by layer and expert."""
    return expert_rows(draw(steps, one.num_layer, one.num_expert, one.topk, batch, skew=skew, stay=stay, seed=seed),
                       one.num_expert)  # fmt: skip


def lru_hit(one: Experts, batch: int, skew: float, stay: float, room: int, steps: int) -> float:
    """Hits of an LRU cache of `room` experts a layer."""
    rows = steps_of(one, batch, skew, stay, steps)
    found = [hits(np.nonzero(rows[:, j])[1].tolist(), room, "lru") for j in range(one.num_layer)]
    return float(np.concatenate(found).mean())


@functools.cache
def fitted_skew(steps: int, stay: float) -> float:
    """The exponent at which the LRU cache hits as often as published for batch 4; bisection."""
    low, high = 0.0, 4.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (
            (middle, high)
            if lru_hit(MODELS["Switch-128"], 4, middle, stay, 16, steps) < HITS["LRU"][4]
            else (low, middle)
        )
    return (low + high) / 2


def both(
    one: Experts, batch: int, room: int, skew: float, stay: float, pinned: float, steps: int, accuracy: float
) -> tuple[Replayed, Replayed]:
    """Two batches one after the other: by an LRU cache as they come, and regrouped with a predictor."""
    choices = draw(steps, one.num_layer, one.num_expert, one.topk, 2 * batch, skew=skew, stay=stay)
    model = offloaded(one, batch, pinned)

    def halves(order: np.ndarray) -> np.ndarray:
        parts = [expert_rows(choices[:, :, order[k : k + batch]], one.num_expert) for k in (0, batch)]
        return np.stack(parts, axis=1).reshape(2 * steps, one.num_layer, one.num_expert)

    plain, grouped = halves(np.arange(2 * batch)), halves(regrouped(choices, one.num_expert))
    said = predicted(grouped, accuracy)
    return replay(plain, model, room, "in_turn"), replay(grouped, model, room, "predict", said=said)


def ringed(one: Experts, token: int, room: int, skew: float, stay: float, pinned: float, steps: int) -> float:
    """A ring's seconds over those of a predictor."""
    rows = steps_of(one, token, skew, stay, passes(token, steps))
    model = offloaded(one, token, pinned)
    said = predicted(rows, ACCURACY[0])
    return ring(rows, model, room).second / replay(rows, model, room, "predict", said=said).second


def passes(token: int, steps: int) -> int:
    """Passes to replay: prompts are few."""
    return steps if token < 1000 else max(2, steps // 8)


def switch_rows(steps: int, hit_steps: int, skews: dict[float, float]) -> list[dict[str, Any]]:
    """Hits, memory and speed-ups of Switch-128; `skews` by the chance to stay."""
    one = MODELS["Switch-128"]
    table: list[dict[str, Any]] = []
    for batch in (4, 16):
        setup = f"Switch-128, 16 places, batch {batch}"
        lru = [lru_hit(one, batch, skew, stay, 16, hit_steps) for stay, skew in skews.items()]
        found = [
            both(one, batch, 16, skew, stay, 1.0, hit_steps, accuracy)[1].hit
            for (stay, skew), accuracy in itertools.product(skews.items(), ACCURACY)
        ]
        kind = "fitted" if batch == 4 else "number"
        table.append(row("LRU", HIT, setup, HITS["LRU"][batch], lru[0], OPEN, kind=kind, spread=lru))
        table.append(row("ExpertFlow", HIT, setup, HITS["ExpertFlow"][batch], found[0], OPEN, spread=found))
        more = min(found) > max(lru)
        table.append(order("ExpertFlow", "order: a predictor hits more often than LRU", setup, more, OPEN))
    for room, paper in RINGED.items():
        setup = f"Switch-128, {room} places"
        each: list[float] = []
        for name, token in SWITCH.items():
            some = [
                ringed(one, token, room, skew, stay, pinned, steps)
                for (stay, skew), pinned in itertools.product(skews.items(), PINNED)
            ]
            each += some
            table.append(point("ExpertFlow", f"{RATIO} SE-MoE by pass", f"{setup}, {name}", some[0], OPEN))
        note = f"how much of a run is prompts is not said; {OPEN}"
        table.append(row("ExpertFlow", f"{RATIO} SE-MoE", f"{setup}, batch 32", paper, float(np.mean(each)), note,
                         tag="approx", null=1.0, spread=each))  # fmt: skip
    whole = (one.num_layer * one.num_expert * one.expert_byte + 2 * OTHER) / 1e9
    table.append(row("Switch-128", MEMORY, "16-bit weights", WHOLE_GB, whole, "parameters alone"))
    return table


def run(models: tuple[str, ...] = tuple(MODELS), steps: int = 12, hit_steps: int = HIT_STEPS) -> pd.DataFrame:
    """Hits and speed-ups; of models whose batch and cache are not said, the range over both."""
    skews = {stay: fitted_skew(hit_steps, stay) for stay in STAY}
    table = switch_rows(steps, hit_steps, skews) if "Switch-128" in models else []
    for name in models:
        if name not in CACHED:
            continue
        one, ratios = MODELS[name], []
        for label, token in PASSES.items():
            for share in SHARES:
                room = max(1, round(share * one.num_expert))
                some = []
                for (stay, skew), pinned in itertools.product(skews.items(), PINNED):
                    lru, flow = both(one, token, room, skew, stay, pinned, passes(token, steps), ACCURACY[0])
                    some.append(lru.second / flow.second)
                ratios += some
                setup = f"{label}, {share:.0%} cached"
                table.append(point(name, f"{RATIO} Cache-MoE by place and pass", setup, some[0], OPEN))
        note = f"{BOUND} batch, cache and share of prompts are not said; {OPEN}"
        table.append(row("ExpertFlow", f"{RATIO} Cache-MoE", name, CACHED[name], float(np.mean(ratios)), note,
                         tag="approx", null=1.0, spread=ratios))  # fmt: skip
        table.append(
            order(
                "ExpertFlow", "order: faster than an LRU cache at most points", name, float(np.median(ratios)) > 1, note
            )
        )
    return frame(table)


def plot(table: pd.DataFrame) -> "Figure":
    """Hits, speed-ups over the ring and over the LRU cache."""
    shown = [
        Panel(HIT, "Switch-128, 16 places a layer", "share of accesses", "Switch-128, 16 places,"),
        Panel(f"{RATIO} SE-MoE", "over a ring", "speedup", "Switch-128, "),
        Panel(f"{RATIO} Cache-MoE", "over an LRU cache", "speedup"),
        *(Panel(f"{RATIO} Cache-MoE by place and pass", f"over an LRU cache, {name}", "speedup", f"{name}, ")
          for name in PASSES),
    ]  # fmt: skip
    return panels(table, shown, "ExpertFlow: experts on the host of an A40", columns=3)
