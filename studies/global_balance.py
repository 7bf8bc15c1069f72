"""What does balancing experts over the whole batch cost, beside over a microbatch? (Demons in the Detail, 2025)"""

import functools
from typing import TYPE_CHECKING, Any

import pandas as pd

from sim.training.estimate import Estimate, estimate, known_site
from studies._panels import Panel, panels
from studies._verdict import frame, order, point
from workloads import models
from workloads.training import TrainPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "Global-batch balance (Qiu et al. 2025): experts balanced over all ranks' tokens for one small all-reduce a layer"
)
SMALL: dict[str, Any] = {"names": ("olmoe-1b-7b",), "counts": (8, 64)}
SYSTEM, STACK, SEQ, EP = "dgx_h100", "megatron-core", 4096, 8
NAMES, COUNTS, SKEWS = ("olmoe-1b-7b", "qwen3-30b-a3b"), (8, 64, 512), (0.0, 0.1, 0.2, 0.4)
OVER, UNEVEN = "step over one balanced in microbatches", "step over one of even loads"
NOTE = (
    "open models of that kind on H100, expert parallelism over a node, a microbatch of one sequence of 4,096 and eight "
    "of them a step; loads of experts follow a power law; what balance does to the loss is not simulated"
)


@functools.cache
def step(name: str, num_gpu: int, wide: bool, skew: float = 0.0) -> Estimate:
    """One step; `wide`: the loads are summed over the whole batch's ranks."""
    plan = TrainPlan(dp=num_gpu, ep=EP, micro_batch=1, batch=8 * num_gpu, seq=SEQ, zero=1, fused_norm=True,
                     global_balance=wide, skew=skew)  # fmt: skip
    return estimate(models.load(name), plan, known_site(SYSTEM, num_gpu, STACK, "flash2"))


def run(names: tuple[str, ...] = NAMES, counts: tuple[int, ...] = COUNTS) -> pd.DataFrame:
    """The price of the sum by GPUs, and what uneven loads within a microbatch cost."""
    rows: list[dict[str, Any]] = []
    over = {(name, n): step(name, n, True).step_s / step(name, n, False).step_s for name in names for n in counts}
    rows += [point(name, OVER, f"{n} H100", value) for (name, n), value in over.items()]
    most = max(over.values())
    rows.append(
        order(
            "global batch",
            "order: hardly slower (1 %)",
            f"{min(counts)} to {max(counts)} H100",
            most < 1.01,
            f"at most {most - 1:.2%}; {NOTE}",
        )
    )
    for name in names:
        uneven = [step(name, counts[0], True, skew).step_s / step(name, counts[0], True).step_s for skew in SKEWS]
        rows += [point(name, UNEVEN, f"exponent {skew:g}", one) for skew, one in zip(SKEWS, uneven, strict=True)]
        rows.append(
            order(
                "global batch",
                "order: loads that stay uneven in a microbatch cost more than the sum",
                name,
                uneven[1] > over[name, counts[0]],
                f"{uneven[1]:.3f} at an exponent of {SKEWS[1]:g}; {NOTE}",
            )
        )
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """The sum's price by GPUs, and that of uneven loads."""
    shown = [Panel(OVER, "loads summed over all ranks", OVER), Panel(UNEVEN, "loads by power law", UNEVEN, curve=True)]
    return panels(table, shown, "Global-batch load balance of experts")
