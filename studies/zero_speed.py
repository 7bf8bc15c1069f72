"""How fast is a model whose states are split, where tensor parallelism would leave its node? (ZeRO, SC 2020, V100)"""

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from sim.training.estimate import Estimate, estimate, known_site
from studies._gpt import gpt
from studies._panels import Panel, panels
from studies._verdict import frame, order, point, row
from workloads.models.spec import ModelSpec
from workloads.training import TrainPlan
from workloads.training_flop import model_flop

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "ZeRO (Rajbhandari et al. 2020): 100B parameters at 38 TFLOP/s a GPU on 400 V100, up to 10 times Megatron"
SMALL: dict[str, Any] = {"counts": (64, 384), "sizes": ("40B", "100B")}
SYSTEM, STACK, SEQ = "dgx_2", "megatron-2021", 1024


class Size(NamedTuple):
    """Width, layers, heads; tensor parallelism under ZeRO, and that Megatron alone needs to fit."""

    width: int
    layer: int
    head: int
    tp: int
    alone: int


SIZES = {"8B": Size(3072, 72, 24, 4, 8), "40B": Size(4096, 200, 32, 4, 32), "60B": Size(8192, 75, 64, 16, 64),
         "100B": Size(8192, 125, 64, 16, 64)}  # fmt: skip
NUM_GPU, BATCHES = 400, (1, 2, 4, 8, 16, 32, 64)  # sequences a replica
COUNTS = (64, 128, 192, 256, 384)  # of the 60B run that grows faster than its GPUs
FAST, MOST = 38.0, 10.0
RATE, GROW = "TFLOP/s a GPU", "TFLOP/s a GPU, 60B"
ZERO, MEGATRON = "ZeRO-2 in nodes", "Megatron"
# ZeRO-R: what recomputation starts from is split over the tensor-parallel group, not on each of its GPUs
INPUT = "input of the first norm"
NOTE = (
    "25 DGX-2; shapes as the paper's table has them, from memory; 1,024 tokens, fused norms, everything recomputed "
    "and its FLOPs counted (whether the paper does is the range), its inputs split over the group under ZeRO, the "
    "largest batch that fits; kernels of a V100 as those of its nearest relative"
)


def spec(size: str) -> ModelSpec:
    one = SIZES[size]
    return gpt(size, one.width, one.layer, one.head, vocab=50304, position_row=SEQ)


@functools.cache
def best(size: str, num_gpu: int, tp: int, zero: int) -> tuple[float, int, Estimate | None]:
    """(TFLOP/s a GPU, sequences a replica, the step) of the largest batch that fits; 0 where none does."""
    dp, model = num_gpu // tp, spec(size)
    where = known_site(SYSTEM, dp * tp, STACK, "fused_softmax", "fp16")
    found: tuple[float, int, Estimate | None] = (0.0, 0, None)
    for batch in BATCHES:
        plan = TrainPlan(
            tp=tp,
            dp=dp,
            micro_batch=batch,
            batch=batch * dp,
            seq=SEQ,
            zero=zero if dp > 1 else 0,
            recompute="full",
            attention="fused_softmax",
            dropout=True,
            grad_byte=2.0 if zero and dp > 1 else 4.0,
            dp_traffic="scheduled",
            fused_norm=True,
            fused_loss=False,
            policy=((INPUT, "shrink", 1 / tp),) if zero and dp > 1 else (),
        )
        one = estimate(model, plan, where)
        if not one.fits:
            break
        found = model_flop(model, plan) * 4 / 3 / one.step_s / num_gpu / 1e12, batch, one
    return found


def run(counts: tuple[int, ...] = COUNTS, sizes: tuple[str, ...] = tuple(SIZES)) -> pd.DataFrame:
    """Speed by size beside Megatron's, and of one size by the number of GPUs."""
    rows: list[dict[str, Any]] = []
    split = {size: best(size, NUM_GPU, SIZES[size].tp, 2) for size in sizes}
    # whole nodes of groups that Megatron's degree divides
    alone = {size: best(size, NUM_GPU // SIZES[size].alone * SIZES[size].alone, SIZES[size].alone, 0) for size in sizes}
    for size in sizes:
        rows += [point(ZERO, RATE, size, split[size][0]), point(MEGATRON, RATE, size, alone[size][0])]
    rate, batch, _ = split["100B"]
    rows.append(
        row(
            ZERO,
            RATE,
            "100B, 400 V100",
            FAST,
            rate,
            f"{batch} sequences a replica, of the hardware; {NOTE}",
            spread=[rate, rate * 3 / 4],
        )
    )
    ratio = {size: split[size][0] / alone[size][0] for size in sizes if alone[size][0]}
    top = max(ratio, key=lambda size: ratio[size])
    rows.append(
        row(ZERO, "over Megatron, up to", "400 V100", MOST, ratio[top], f"at {top}; {NOTE}", tag="approx", null=1.0)
    )
    leaves = [size for size in sizes if SIZES[size].alone > 16]  # GPUs of a node
    rows.append(
        order(
            MEGATRON,
            "order: slower where its group leaves the node",
            ", ".join(leaves),
            all(ratio.get(size, 2.0) > 1 for size in leaves),
            NOTE,
        )
    )
    grown = [best("60B", count, SIZES["60B"].tp, 2) for count in counts]
    rows += [point(ZERO, GROW, str(count), one[0]) for count, one in zip(counts, grown, strict=True)]
    rows.append(
        order(
            ZERO,
            "order: faster than in proportion to the GPUs",
            f"60B, {counts[0]} to {counts[-1]} V100",
            grown[-1][0] > grown[0][0] > 0,
            f"{grown[0][1]} and {grown[-1][1]} sequences a replica: split states leave room; {NOTE}",
        )
    )
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Speed by size, and of 60B by GPUs."""
    shown = [Panel(RATE, "400 V100", RATE), Panel(GROW, "60B, by GPUs", RATE, curve=True)]
    return panels(table, shown, "ZeRO: speed by size and by scale")
