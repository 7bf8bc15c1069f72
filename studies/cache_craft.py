"""What do caches of chunks save that may stand anywhere in a prompt? (Cache-Craft, SIGMOD 2025, over prefix caching)"""

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sim.run.scenario import Scenario
from sim.run.simulate import Simulation, simulate
from studies._panels import Panel, panels
from studies._verdict import frame, order, point, row
from workloads.requests import Requests, build

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Cache-Craft (Agarwal et al. 2025): computes 51 % less than prefix caching, 75 % less than all; 1.6x throughput"
UNIT, CHUNK, NUM_CHUNK = 16, 32, 5  # tokens of a unit, units of a chunk, chunks that a question retrieves
POOL, QUESTION, ANSWER, TOPIC = 8, 128, 64, 40  # chunks that a topic can retrieve, tokens, topics
BUSY = 0.8  # of the load that saturates prefix caching, where latencies are compared
FULL, PREFIX, CRAFT = "full recompute", "prefix cache", "Cache-Craft"
MODELS = {"llama-3-8b": ("a100_sxm_80gb", 1), "llama-3-70b": ("dgx_a100", 4)}
SHARES = (0.1, 0.2, 0.3)  # of a found chunk's tokens that are computed again; the middle one is shown
COMPUTED, RATE, E2E = "prompt tokens computed, % of all", "requests a second, saturated", "end to end, s"
LESS = 100 * 0.25 / 0.49  # what prefix caching computes if 75 % and 51 % hold at once
OPEN = (
    "neither GPUs, chunks, popularity nor the share that is computed again are known: 5 chunks of 512, questions of "
    "128, answers of 64; 40 topics by Zipf's law, of 8 chunks each, in an order by noise that is fitted to what "
    "prefix caching computes; 10 to 30 % of a found chunk computed again; chunks on the device alone, popular first, "
    "a missed one hides those behind it"
)
SMALL = {"num": 150, "models": ("llama-3-8b",), "shares": (0.2,)}


@functools.cache
def retrieved(num: int, noise: float, seed: int = 0) -> np.ndarray:
    """Chunks of each question by falling score: its topic's by rank with `noise` added."""
    random = np.random.default_rng(seed)
    weight = 1.0 / np.arange(1, TOPIC + 1)
    topic = random.choice(TOPIC, num, p=weight / weight.sum())
    score = np.arange(POOL) + noise * random.standard_normal((num, POOL))
    return topic[:, None] * POOL + np.argsort(score, axis=1, kind="stable")[:, :NUM_CHUNK]


def load(how: str, num: int, noise: float, share: float = 0.0, rate: float = 0.0) -> Requests:
    """Requests whose prompts name what a cache may know: nothing, every chunk behind all before it, or each chunk by
    itself but for `share` of its tokens, which are computed again. `rate` a second, or all at once."""
    chunks = retrieved(num, noise)
    known: dict[tuple[int, ...], int] = {}
    often = np.bincount(chunks.ravel(), minlength=TOPIC * POOL)
    ids: list[int] = []
    start, stop = [], []
    for one in chunks.tolist():
        start.append(len(ids))
        if how == PREFIX:
            for k in range(NUM_CHUNK):
                at = known.setdefault(tuple(one[: k + 1]), len(known))
                ids += range(at * CHUNK, (at + 1) * CHUNK)
        elif how == CRAFT:
            for chunk in sorted(one, key=lambda c: (-often[c], c)):
                ids += range(chunk * CHUNK, chunk * CHUNK + round((1 - share) * CHUNK))
        stop.append(len(ids))
    random = np.random.default_rng(1)
    arrival = np.cumsum(random.exponential(1e12 / rate, num)) if rate else np.zeros(num)
    prompt = NUM_CHUNK * CHUNK * UNIT + QUESTION
    return build(
        arrival.astype(np.int64), np.full(num, prompt), np.full(num, ANSWER), unit_start=start, unit_stop=stop,
        unit_id=ids, unit_token=UNIT,
    )  # fmt: skip


def serve(model: str, requests: Requests) -> Simulation:
    """All of them on one replica."""
    system, tp = MODELS[model]
    return simulate(Scenario(model=model, system=system, tp=tp), requests=requests)


def computed(done: Simulation) -> float:
    """Percent of prompt tokens that were not found."""
    columns = done.run.requests
    return 100 * float(1 - columns["cached_token"].sum() / columns["prompt_token"].sum())


def fitted(num: int) -> float:
    """Noise of the order of chunks at which prefix caching computes `LESS` percent."""
    low, high = 0.0, 8.0
    for _ in range(12):
        noise = (low + high) / 2
        less = computed(serve("llama-3-8b", load(PREFIX, num, noise))) < LESS
        low, high = (noise, high) if less else (low, noise)
    return noise


def run(num: int = 1200, models: tuple[str, ...] = tuple(MODELS), shares: tuple[float, ...] = SHARES) -> pd.DataFrame:
    """Tokens computed, saturated rates, and latencies at a rate that prefix caching can serve."""
    noise = fitted(num)
    note = f"noise {noise:.2f} places; {OPEN}"
    table: list[dict[str, Any]] = []
    for model in models:
        ways = [(FULL, 0.0), (PREFIX, 0.0), *((CRAFT, share) for share in shares)]
        label = {way: way[0] if way[0] != CRAFT else f"{CRAFT}, {way[1]:.0%} again" for way in ways}
        burst = {way: serve(model, load(way[0], num, noise, way[1])) for way in ways}
        rate = {way: num / float(done.run.requests["finish_s"].max()) for way, done in burst.items()}
        calm = {way: serve(model, load(way[0], num, noise, way[1], BUSY * rate[PREFIX, 0.0])) for way in ways}
        e2e = {way: float(done.run.requests["e2e_s"].mean()) for way, done in calm.items()}
        for way in ways:
            table += [
                point(label[way], COMPUTED, model, computed(burst[way]), note),
                point(label[way], RATE, model, rate[way], note), point(label[way], E2E, model, e2e[way], note),
            ]  # fmt: skip
        middle, before = ways[2 + len(shares) // 2], ways[1]
        for claim, paper, found in (
            ("computed, share of full recompute", 0.25, {w: computed(burst[w]) / 100 for w in ways}),
            ("computed, share of prefix caching", 0.49,
             {w: computed(burst[w]) / computed(burst[before]) for w in ways}),
            ("throughput over prefix caching", 1.6, {w: rate[w] / rate[before] for w in ways}),
            ("end to end at four fifths of prefix caching's most, times less", 2.0,
             {w: e2e[before] / e2e[w] for w in ways}),
        ):  # fmt: skip
            each = [found[way] for way in ways[2:]]
            table.append(row("Cache-Craft", claim, model, paper, found[middle], note, said=True, spread=each))
        ranked = rate[FULL, 0.0] < rate[PREFIX, 0.0] < min(rate[way] for way in ways[2:])
        table.append(
            order("Cache-Craft", "order: chunks serve more than prefixes, these more than none", model, ranked)
        )
        falls = [rate[way] for way in ways[2:]]
        table.append(order("Cache-Craft", "order: what is computed again costs throughput", model,
                           falls == sorted(falls, reverse=True)))  # fmt: skip
    return frame(table)


def plot(table: pd.DataFrame) -> "Figure":
    """Computed tokens, rates and latencies of full recompute, prefix caching and chunk caches."""
    shown = [Panel(COMPUTED, "computation", "% of prompt tokens"), Panel(RATE, "throughput", "requests/s"),
             Panel(E2E, "latency at 80 % of prefix caching's most", "seconds")]  # fmt: skip
    return panels(table, shown, "Cache-Craft: chunks that may stand anywhere")
