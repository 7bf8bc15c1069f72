"""What do 16 bits, accumulation and more machines save of a translation model's training? (Ott et al., WMT 2018)"""

from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from sim.training.estimate import estimate, known_site
from studies._gpt import gpt
from studies._panels import Panel, panels
from studies._verdict import frame, order, point, row
from workloads.training import TrainPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Scaling neural machine translation (Ott et al. 2018): nearly 5 times faster on eight V100, 128 in 85 minutes"
SMALL = {"stacks": ("megatron-2021",)}
SYSTEM, SEQ, SENTENCES = "dgx_1", 32, 112  # 3,584 tokens a GPU, as in the released recipe
# Transformer-big: six layers each way, whose cross-attention weighs as much as two more of twelve; 213M parameters
MODEL = gpt("transformer-big", 1024, 14, 16, vocab=33712)
STACKS = ("megatron-2021", "llm-foundry", "pytorch-fsdp")
BASE, HALF, MANY, FAR = "fp32", "16 bits", "16 steps a batch", "16 machines"


class Way(NamedTuple):
    """Format, bytes a value, steps that a batch is gathered over, machines."""

    precision: str
    byte: float
    steps: int
    machines: int


WAYS = {BASE: Way("fp32", 4.0, 1, 1), HALF: Way("fp16", 2.0, 1, 1), MANY: Way("fp16", 2.0, 16, 1),
        FAR: Way("fp16", 2.0, 16, 16)}  # fmt: skip
SAVED = {HALF: (BASE, 0.65), MANY: (HALF, 0.40), FAR: (MANY, 0.90)}  # of the time of the way before it
LESS, FASTER, RATE = "time saved", "faster than fp32, one machine", "thousand tokens/s"
NOTE = (
    "eight V100 of a DGX-1, 3,584 tokens a GPU in sentences of 32, eager operators, dropout; kernels of a V100 as "
    "those of its nearest relative; three stacks of the time and later are the range; sentences of one length, so that "
    "what accumulation evens out between GPUs is not counted"
)


def tokens_per_s(way: Way, stack: str) -> float:
    """Of all GPUs together."""
    dp = 8 * way.machines
    plan = TrainPlan(
        dp=dp, micro_batch=SENTENCES, batch=SENTENCES * dp * way.steps, seq=SEQ, attention="unfused", dropout=True,
        weight_byte=way.byte, act_byte=way.byte, grad_byte=way.byte, optimizer_byte=8.0 if way.byte == 4 else 12.0,
    )  # fmt: skip
    return plan.token / estimate(MODEL, plan, known_site(SYSTEM, dp, stack, "unfused", way.precision)).step_s


def run(stacks: tuple[str, ...] = STACKS) -> pd.DataFrame:
    """What each step saves, and all that one machine gains; the first stack with the range over all."""
    rate = {stack: {name: tokens_per_s(way, stack) for name, way in WAYS.items()} for stack in stacks}
    rows: list[dict[str, Any]] = []
    for name, (before, published) in SAVED.items():
        saved = [1 - one[before] / one[name] for one in rate.values()]
        rows.append(row(name, LESS, f"over {before}", published, saved[0], NOTE, tag="approx", null=0.0, spread=saved))
    gain = [one[MANY] / one[BASE] for one in rate.values()]
    rows.append(row(MANY, FASTER, "eight V100", 5.0, gain[0], f"published: nearly 5; {NOTE}", tag="approx", null=1.0,
                    spread=gain))  # fmt: skip
    ranked = all(list(one.values()) == sorted(one.values()) for one in rate.values())
    rows.append(order("all", "order: each step is faster than the one before", "every stack", ranked, NOTE))
    rows += [point(name, RATE, "one machine" if name != FAR else "16 machines", value / 1e3, NOTE)
             for name, value in rate[stacks[0]].items()]  # fmt: skip
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """What each step saves, and all together."""
    return panels(table, [Panel(LESS, "each step", "share of the time"), Panel(FASTER, "one machine", "over fp32")],
                  "Training of Transformer-big on V100")  # fmt: skip
