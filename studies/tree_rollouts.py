"""What do trees of answers gain that share their trunks? (ETS 2025: pruned searches; TreePO 2025: segment rollouts)"""

import functools
from typing import TYPE_CHECKING, Any

import pandas as pd

from sim.cluster.simulate_programs import ProgramRun, simulate_programs
from sim.run.scenario import Scenario
from studies._panels import Panel, panels
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "ETS (Hooper et al. 2025): KV 1.8 times smaller, throughput 1.4 times; TreePO (Li et al. 2025): 22 to 43 % less"
WIDTHS, TEMPERATURES, SIZES = (16, 64, 256), (0.5, 2.0), ("llama-2-7b", "codellama-34b")
THREADS, PROMPT, ANSWER, STEPS = 8, 200, 1024, 4  # searches at once, tokens, four steps of 256
PARENTS = (0.5, 0.3, 0.2, 0.15, 0.1, 0.05)  # shares of leaves that go on, of which the one nearest to the published KV
KV, RATE = "KV of a search, REBASE over ETS", "throughput, ETS over REBASE"
LEAF, DEPTH, SEGMENT, FIRST = 16, 14, 512, (2, 8)  # TreePO: leaves, segments, tokens of one, first branches
STOPS = (0.1, 0.3, 0.5)  # probability that a segment is the last: long answers, short ones
HOURS, TOKEN = "time of all rollouts, less than chains, %", "tokens of all rollouts, less than chains, %"
ETS_OPEN = (
    "H100 NVL, 8 client threads, steps of 256 to 1,024 tokens as published; the authors' scripts name Llemma without "
    "its size: shapes of Code Llama's 7B or 34B, of which the larger leaves little memory and gains as published; "
    "SGLang's profile; scores are uniform draws, REBASE's temperature over them 0.5 to 2; ETS is the best share of "
    "leaves whose KV is nearest to 1.8 times less; 5 ms of a reward model a leaf"
)
TREE_OPEN = (
    "recipe as published (Qwen2.5-7B, 16 leaves, 14 segments of 512, 2 to 8 branches); GPUs are not: one H100 with "
    "prompts of its own; 64 of them, an eighth of a batch; answers end at 10 to 50 % of segments; sampling alone"
)
SMALL = {"widths": (16, 64), "temperatures": (2.0,), "sizes": SIZES[:1], "prompts": 8, "stops": (0.3,), "first": (2, 8)}


@functools.cache
def search(width: int, parent: float, temperature: float, model: str) -> ProgramRun:
    """Searches of all threads."""
    scenario = Scenario(
        model=model, system="h100_nvl", engine="sglang", max_num_seq=4096,
        requests=f"batch:n={THREADS},prompt={PROMPT},output={ANSWER}",
    )  # fmt: skip
    option = f"width={width},depth={STEPS},parent={parent},temperature={temperature},score_s=0.005"
    return simulate_programs(scenario, f"tree_search:{option}", outside={"reward": 1})


def held(done: ProgramRun) -> float:
    """Mean tokens of a search whose KV is held."""
    return float(done.programs["kv_token"].mean())


@functools.cache
def pruned(width: int, temperature: float, model: str) -> float:
    """The share of parents whose KV is nearest to 1.8 times less than REBASE's, found on the smallest width."""
    base = held(search(width, 1.0, temperature, model))
    return min(PARENTS, key=lambda share: abs(base / held(search(width, share, temperature, model)) - 1.8))


@functools.cache
def rollouts(branch: int, stop: float, prompts: int) -> ProgramRun:
    """Rollouts of `prompts` prompts, as trees of so many first branches or as chains (0)."""
    scenario = Scenario(
        model="qwen2.5-7b", system="h100_sxm", max_num_seq=1024,
        requests=f"batch:n={prompts},prompt=1024,output={DEPTH * SEGMENT}",
    )  # fmt: skip
    option = f"width={LEAF},depth={DEPTH},branch={branch},temperature=1000,stop={stop}"
    return simulate_programs(scenario, f"tree_search:{option}")


def run(
    widths: tuple[int, ...] = WIDTHS, temperatures: tuple[float, ...] = TEMPERATURES, prompts: int = 64,
    stops: tuple[float, ...] = STOPS, first: tuple[int, ...] = FIRST, sizes: tuple[str, ...] = SIZES,
) -> pd.DataFrame:  # fmt: skip
    """KV and throughput of pruned searches by width; tokens and time of trees of rollouts."""
    table: list[dict[str, Any]] = []
    small, fast = [], []
    each = [(temperature, model) for temperature in temperatures for model in sizes]
    for width in widths:
        for temperature, model in each:
            share = pruned(min(widths), temperature, model)
            plain, ets = search(width, 1.0, temperature, model), search(width, share, temperature, model)
            small.append(held(plain) / held(ets))
            fast.append(float(plain.programs["e2e_s"].max() / ets.programs["e2e_s"].max()))
            setup = f"width {width}, temperature {temperature:g}, {model}"
            table += [point("ETS", KV, setup, small[-1], ETS_OPEN), point("ETS", RATE, setup, fast[-1], ETS_OPEN)]
    wide = fast[-len(each) :]
    where = f"width {max(widths)}"
    table += [
        row("ETS", f"{KV}, widest", where, 1.8, small[-1], ETS_OPEN, kind="fitted", tag="approx", null=1.0,
            spread=small[-len(each) :]),
        row("ETS", f"{RATE}, widest", where, 1.4, max(wide), ETS_OPEN, tag="approx", null=1.0, spread=wide),
        order("ETS", "order: fewer trunks serve faster where KV is short", where, min(wide) > 1, ETS_OPEN),
    ]  # fmt: skip
    saved, fewer = [], []
    for stop in stops:
        chains = rollouts(0, stop, prompts)
        for branch in first:
            tree = rollouts(branch, stop, prompts)
            fewer.append(100 * (1 - float(tree.programs["token"].sum() / chains.programs["token"].sum())))
            saved.append(100 * (1 - float(tree.programs["e2e_s"].max() / chains.programs["e2e_s"].max())))
            setup = f"{branch} first branches, {stop:.0%} end"
            table += [point("TreePO", TOKEN, setup, fewer[-1], TREE_OPEN),
                      point("TreePO", HOURS, setup, saved[-1], TREE_OPEN)]  # fmt: skip
    for word, paper, value in (("least", 22.0, min(saved)), ("most", 43.0, max(saved))):
        table.append(row("TreePO", f"{HOURS[:-3]}, {word}", "branches and ends", paper, value, TREE_OPEN, said=True,
                         spread=saved))  # fmt: skip
    few = fewer[:: len(first)]  # of the fewest first branches
    for claim, true in (("trees of few first branches compute fewer tokens", min(few) > 0),
                        ("trees take less time", min(saved) > 0)):  # fmt: skip
        table.append(order("TreePO", f"order: {claim}", "branches and ends", true, TREE_OPEN))
    return frame(table)


def plot(table: pd.DataFrame) -> "Figure":
    """KV and throughput of searches by width; tokens and time of trees against chains."""
    shown = [Panel(KV, "ETS: KV", "times less"), Panel(RATE, "ETS: throughput", "over REBASE"),
             Panel(TOKEN, "TreePO: tokens", "% less"), Panel(HOURS, "TreePO: time", "% less")]  # fmt: skip
    return panels(table, shown, "Trees of answers: pruned searches and segment rollouts")
