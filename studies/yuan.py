"""What does a plan take that a model's shape was chosen for? (Yuan 1.0, Wu et al. 2021: 245B on 2,128 A100)"""

import functools
from typing import TYPE_CHECKING, Any

import pandas as pd

from sim.training.estimate import Estimate, estimate, known_site
from studies._gpt import gpt
from studies._panels import Panel, panels
from studies._verdict import frame, point, row
from workloads.training import TrainPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Yuan 1.0 (Wu et al. 2021): 245B parameters and 180B tokens in 16 days of 2,128 A100, at 45 % of their peak"
SMALL: dict[str, Any] = {"stages": (38, 19)}
# a public list of large models and their plans has them from the paper: 76 layers, width, batch in microbatches of one,
# 2,048 tokens, T=8, P=38, D=7 on 2,128 GPUs "of unknown type", which their operations a second make A100s
WIDTH, NUM_LAYER, NUM_HEAD, SEQ, BATCH, TOKENS = 16384, 76, 128, 2048, 3360, 180e9
MODEL = gpt("yuan-245b", WIDTH, NUM_LAYER, NUM_HEAD, vocab=53248, position_row=SEQ)
TP, PP, NUM_GPU = 8, 38, 2128
DAYS, SHARE, PEAK = 16.0, 0.45, 312e12
SYSTEM = "dgx_a100"
STACKS = ("megatron-2021", "megatron-2022")
TIME, USED, FITS = "days of 180B tokens", "share of the peak, recomputation counted", "GiB of the fullest GPU"
OPEN = (
    "shape and plan as a public list has them of the paper; which A100 and which network is not known: DGX with 80 GB, "
    "every layer recomputed (the paper's operations count it), plain stages; under the stack of Megatron's 2021 "
    "release, or of its 2022"
)


@functools.cache
def step(stack: str, pp: int = PP, tp: int = TP) -> Estimate:
    """One step on all GPUs that the plan fills."""
    dp = NUM_GPU // (tp * pp)
    plan = TrainPlan(tp, pp, dp, micro_batch=1, batch=BATCH // dp * dp, seq=SEQ, recompute="full",
                     attention="fused_softmax", dropout=True, fused_norm=True)  # fmt: skip
    return estimate(MODEL, plan, known_site(SYSTEM, NUM_GPU, stack, "fused_softmax"))


def days(stack: str, pp: int = PP, tp: int = TP) -> float:
    """Of all tokens, with steps of the batch that the plan's replicas share evenly."""
    dp = NUM_GPU // (tp * pp)
    return TOKENS / (BATCH // dp * dp * SEQ) * step(stack, pp, tp).step_s / 86400


def used(stack: str) -> float:
    """Operations of forward, backward and recomputed forward pass over the peak's, as Megatron-LM counts them."""
    flop = 96.0 * BATCH * SEQ * NUM_LAYER * WIDTH**2 * (1 + SEQ / (6 * WIDTH) + 53248 / (16 * NUM_LAYER * WIDTH))
    return flop / step(stack).step_s / (NUM_GPU * PEAK)


def run(stages: tuple[int, ...] = (2, 19, 38, 76)) -> pd.DataFrame:
    """Days and share of the peak of the published plan; days of others with as many GPUs."""
    found = {stack: (days(stack), used(stack)) for stack in STACKS}
    setup = "245B, 8 x 38 x 7"
    table: list[dict[str, Any]] = [
        row("Yuan 1.0", TIME, setup, DAYS, found[STACKS[0]][0], OPEN, tag="approx",
            spread=[one[0] for one in found.values()]),
        row("Yuan 1.0", USED, setup, SHARE, found[STACKS[0]][1], f"16 days of these tokens are 39 %, not 45; {OPEN}",
            tag="approx", spread=[one[1] for one in found.values()]),
    ]  # fmt: skip
    for pp in stages:
        if NUM_LAYER % pp == 0 and NUM_GPU % (TP * pp) == 0:
            one = step(STACKS[0], pp)
            table += [point("Yuan 1.0", TIME + " by plan", f"{pp} stages", days(STACKS[0], pp), OPEN),
                      point("Yuan 1.0", FITS, f"{pp} stages", one.peak_byte / 2**30, OPEN)]  # fmt: skip
    return frame(table)


def plot(table: pd.DataFrame) -> "Figure":
    """Days and share of the peak, and what other numbers of stages would take."""
    shown = [Panel(TIME, "the published plan", "days"), Panel(USED, "the published plan", "share of the peak"),
             Panel(TIME + " by plan", "other pipelines, 8-way tensor parallel", "days"),
             Panel(FITS, "memory", "GiB a GPU")]  # fmt: skip
    return panels(table, shown, "Yuan 1.0: 245B parameters on 2,128 A100")
