"""Which layout trains a Llama fastest on A100 nodes, and which do not fit? (Efficient Parallelization Layouts, 2023)"""

import functools
import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from sim.training.estimate import Estimate, estimate, known_site
from sim.training.stack import load_stack
from studies._gpt import llama
from studies._panels import Panel, panels
from studies._verdict import frame, order, point, row
from workloads.training import TrainPlan
from workloads.training_flop import model_flop

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Efficient layouts (Hagemann et al. 2023): Llama-13B at 70.6 % MFU on 64 A100, neither split nor recomputed"
SMALL: dict[str, Any] = {"degrees": (1, 2), "micros": (1, 2)}
SYSTEM, STACK, PEAK = "dgx_a100", "scaling-2023", 312e12
VOCAB, TOKEN = 128_000, 2048 * 2048  # as the sheets' MFU back-solves
MODELS = {"13B": llama("13B", 5120, 40, 40, 40, 13824, VOCAB), "65B": llama("65B", 8192, 80, 64, 64, 22016, VOCAB)}


class Layout(NamedTuple):
    model: str
    num_gpu: int
    seq: int
    tp: int
    pp: int
    micro_batch: int
    sequence_parallel: bool
    mfu: float  # percent; the best rows of each sheet


BEST = (
    Layout("13B", 64, 2048, 1, 1, 1, False, 70.57), Layout("13B", 64, 2048, 2, 1, 2, False, 63.05),
    Layout("13B", 64, 2048, 1, 2, 1, False, 60.26), Layout("13B", 64, 2048, 2, 1, 1, False, 59.82),
    Layout("13B", 128, 8192, 2, 2, 1, False, 59.41), Layout("65B", 128, 2048, 2, 4, 1, False, 55.26),
)  # fmt: skip
MFU, FOUND = "MFU, %", "MFU, % of the grid"
FITTED = "the stack's three factors were fitted on 301 runs of this study"
RECOMPUTES = ("none", "full")


@functools.cache
def step(model: str, num_gpu: int, seq: int, tp: int, pp: int, micro: int, split: bool, recompute: str) -> Estimate:
    """One step of 4.2M tokens, states split over the replicas (ZeRO-1), fused kernels."""
    plan = plan_of(num_gpu, seq, tp, pp, micro, split, recompute)
    return estimate(MODELS[model], plan, known_site(SYSTEM, num_gpu, STACK, "flash2"))


def plan_of(num_gpu: int, seq: int, tp: int, pp: int, micro: int, split: bool, recompute: str) -> TrainPlan:
    """As the stack does what nobody else decides: gradients in 16 bits, logits gathered and held."""
    own: dict[str, Any] = {
        "tp": tp, "pp": pp, "dp": num_gpu // (tp * pp), "micro_batch": micro, "batch": TOKEN // seq, "seq": seq,
        "attention": "flash2", "fused_norm": True, "recompute": recompute, "sequence_parallel": split and tp > 1,
    }  # fmt: skip
    return TrainPlan(**load_stack(STACK).usual() | own)


def mfu(
    model: str, num_gpu: int, seq: int, tp: int, pp: int, micro: int, split: bool, recompute: str = "none"
) -> float:
    """Percent of the datasheet's peak."""
    flop = model_flop(MODELS[model], plan_of(num_gpu, seq, tp, pp, micro, split, recompute))
    seconds = step(model, num_gpu, seq, tp, pp, micro, split, recompute).step_s
    return 100 * flop / seconds / num_gpu / PEAK


def run(degrees: tuple[int, ...] = (1, 2, 4), micros: tuple[int, ...] = (1, 2, 4)) -> pd.DataFrame:
    """MFU of the published rows, and what a search of the grid finds for 13B on 64 GPUs."""
    rows: list[dict[str, Any]] = []
    for one in BEST:
        setup = f"{one.model}, {one.seq // 1024}K, {one.num_gpu}: tp {one.tp}, pp {one.pp}, mb {one.micro_batch}"
        rows.append(row("scaling-2023", MFU, setup, one.mfu, mfu(*one[:-1]), FITTED, kind="fitted"))
    grid = list(itertools.product(degrees, degrees, micros, RECOMPUTES))
    fits = {g: step("13B", 64, 2048, *g[:3], False, g[3]).fits for g in grid}
    rate = {g: mfu("13B", 64, 2048, *g[:3], False, g[3]) for g in grid if fits[g]}
    best = max(rate, key=lambda g: rate[g])
    same = [(g, rate.get((*g[:3], "none"))) for g in rate if g[3] == "full"]
    setup = f"13B, 2K, 64 A100, {len(grid)} layouts"
    rows += [
        order(
            "search",
            "order: the best layout is neither split nor recomputed, a sequence a microbatch",
            setup,
            best == (1, 1, 1, "none"),
            f"found tp {best[0]}, pp {best[1]}, microbatch {best[2]}, {best[3]} recomputed",
        ),
        order(
            "search",
            "order: recomputing is slower wherever both fit",
            setup,
            all(kept > rate[g] for g, kept in same if kept),
            "of the same layout",
        ),
        order(
            "search",
            "memory: two sequences a microbatch do not fit unless split or recomputed",
            setup,
            not fits[1, 1, 2, "none"] and fits[1, 1, 1, "none"],
            "as the sheet's rows of that kind run out of memory",
        ),
    ]
    for g, value in sorted(rate.items(), key=lambda item: -item[1])[:8]:
        rows.append(point("search", FOUND, f"tp {g[0]}, pp {g[1]}, mb {g[2]}, {g[3]}", value))
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """MFU of the published best rows, and the best of the grid."""
    shown = [Panel(MFU, "best rows of the sheets", MFU), Panel(FOUND, "13B, 2K, 64 A100", MFU)]
    return panels(table, shown, "Layouts of Llama on A100")
