"""What does a step of a second-order optimizer cost with rank-1 updates instead of inverses? (MKOR, NeurIPS 2023)"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from kernels.optable import ALL_GATHER, ALL_REDUCE
from sim.show.plot_style import PALETTE, new_figure, styled, suptitle
from sim.training.estimate import estimate, known_site
from sim.training.price import Site
from studies._gpt import gpt
from studies._panels import from_zero, log_places
from studies._second_order import Product, exchange_s, matrices, products_s, stream_s
from studies._verdict import frame, order, point, row
from workloads.models.spec import ModelSpec
from workloads.training import TrainPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "MKOR (Mozaffari et al. 2023): BERT-Large on 64 GPUs 2.57 times faster than LAMB, 1.85 times than KAISA"
SMALL: dict[str, Any] = {"systems": ("dgx_a100",), "widths": (1024, 4096)}
NUM_GPU, SEQ, BATCH = 64, 512, 32768  # phase 2 of pre-training
SYSTEMS = ("dgx_a100", "dgx_1")  # neither the cluster of these rows nor its network is certain
WIDTHS, REFRESH = (1024, 2048, 4096, 8192), (1, 5, 10, 50, 100)
# share of a product's rate that an eigendecomposition of a symmetric matrix reaches, and its operations over d^3
DECOMPOSE_SHARE, DECOMPOSE = (0.02, 0.1), 9.0
LAMB, KAISA, MKOR = "LAMB", "KAISA", "MKOR"
COST, GROWTH, FASTER = "step over LAMB's", "ms of refreshing one layer", "faster at an equal number of steps"
NOTE = (
    "BERT-Large, 512 tokens, batch 32,768 in microbatches of 8; factors of every weight matrix, eigendecompositions in "
    "32 bits at 2 to 10 % of the rate of products, spread over the GPUs; MKOR's factors in 16 bits and on every GPU; "
    "how often either refreshes is varied; steps to the loss are not counted"
)


class Refresh(NamedTuple):
    """Seconds of one refresh of the curvature of all matrices on the busiest GPU, by part."""

    factor_s: float
    inverse_s: float
    exchange_s: float

    @property
    def total_s(self) -> float:
        return sum(self)


def bert(width: int, num_layer: int = 24) -> ModelSpec:
    return gpt("bert", width, num_layer, width // 64, vocab=30522, position_row=SEQ)


def kaisa(
    model: ModelSpec, where: Site, share: float, token: int, num_gpu: int = NUM_GPU, single: str = "tf32"
) -> Refresh:
    """K-FAC: both covariances of every matrix from a microbatch, summed over all GPUs, decomposed each on one GPU, and
    the eigenvectors gathered."""
    sides = [(side, count) for rows, columns, count in matrices(model) for side in (rows, columns)]
    value = float(sum(side * side * count for side, count in sides))
    factor = products_s(where, [Product(side, side, token, count) for side, count in sides], single)
    whole = products_s(where, [Product(side, side, side, count) for side, count in sides], "fp32")
    inverse = whole * DECOMPOSE / 2 / share / num_gpu
    moved = exchange_s(where, ALL_REDUCE, 4 * value, num_gpu) + exchange_s(where, ALL_GATHER, 4 * value, num_gpu)
    return Refresh(factor, inverse, moved)


def mkor(model: ModelSpec, where: Site, token: int, num_gpu: int = NUM_GPU) -> Refresh:
    """Means of inputs and gradients over the tokens, summed over all GPUs, and a rank-1 update of either inverse: a
    product with a vector (reads it) and an outer product (reads and writes it)."""
    sides = [(side, count) for rows, columns, count in matrices(model) for side in (rows, columns)]
    value, length = (float(sum(side**power * count for side, count in sides)) for power in (2, 1))
    mean, update = stream_s(where, 2.0 * token * length), stream_s(where, 2.0 * 3 * value)
    return Refresh(mean, update, exchange_s(where, ALL_REDUCE, 2 * length, num_gpu))


def precondition_s(model: ModelSpec, where: Site, num_gpu: int, turns: int, fmt: str) -> float:
    """Products of a gradient with both inverses (`turns` 1), or into and out of both eigenbases (2), a step; shared out
    over the GPUs of `num_gpu`."""
    both = [Product(rows, columns, side, turns * count) for rows, columns, count in matrices(model)
            for side in (rows, columns)]  # fmt: skip
    return products_s(where, both, fmt) / num_gpu


def first_order_s(system: str) -> float:
    """A step of LAMB."""
    plan = TrainPlan(dp=NUM_GPU, micro_batch=8, batch=BATCH, seq=SEQ, attention="unfused", dropout=True)
    fmt = "fp16" if system == "dgx_1" else "bf16"
    return estimate(bert(1024), plan, known_site(system, NUM_GPU, "megatron-2021", "unfused", fmt)).step_s


def steps_s(system: str, refresh: int, share: float) -> dict[str, float]:
    """Mean seconds of a step of the three, curvature refreshed once in `refresh` steps."""
    fmt, single = ("fp16", "fp32") if system == "dgx_1" else ("bf16", "tf32")
    where, model = known_site(system, NUM_GPU, "megatron-2021", "unfused", fmt), bert(1024)
    plain, token = first_order_s(system), 8 * SEQ
    weight = float(sum(rows * columns * count for rows, columns, count in matrices(model)))
    gathered = exchange_s(where, ALL_GATHER, 4 * weight, NUM_GPU)  # of the gradients that each preconditioned
    old = precondition_s(model, where, NUM_GPU, 2, single) + gathered
    return {
        LAMB: plain, KAISA: plain + old + kaisa(model, where, share, token, NUM_GPU, single).total_s / refresh,
        MKOR: plain + precondition_s(model, where, 1, 1, fmt) + mkor(model, where, token).total_s / refresh,
    }  # fmt: skip


def run(systems: tuple[str, ...] = SYSTEMS, widths: tuple[int, ...] = WIDTHS) -> pd.DataFrame:
    """Steps by how often curvature is refreshed, how a refresh grows with the width, and what steps must save."""
    rows: list[dict[str, Any]] = []
    table = {(s, n, share): steps_s(s, n, share) for s in systems for n in REFRESH for share in DECOMPOSE_SHARE}
    usual = [one for (_, n, _), one in table.items() if n == 10]
    rare = [one for (_, n, _), one in table.items() if n == 100]
    for base, published in ((LAMB, 2.57), (KAISA, 1.85)):
        ratio = usual[0][base] / usual[0][MKOR]
        rows.append(row(MKOR, f"{FASTER} than {base}", "64 GPUs, refreshed every 10 steps", published, ratio,
                        f"the rest, {published / ratio:.2f}, is fewer steps; {NOTE}", said=True,
                        spread=[one[base] / one[MKOR] for one in usual]))  # fmt: skip
    more = all(one[KAISA] > one[MKOR] for (_, n, _), one in table.items() if n <= 10)
    often = all(one[MKOR] < other[KAISA] for one in usual for other in rare)
    rows += [
        order(MKOR, "order: a cheaper step than KAISA's at an equal interval", "64 GPUs, 1 to 10 steps", more, NOTE),
        order(MKOR, "order: refreshed every 10 steps cheaper than KAISA every 100", "64 GPUs", often,
              f"KAISA shares out its products with the inverses, MKOR repeats them on every GPU; {NOTE}"),
        order(MKOR, "order: a step of hardly more than LAMB's (under 5 %)", "64 GPUs, refreshed every 10 steps",
              all(one[MKOR] < 1.05 * one[LAMB] for one in usual), NOTE),
    ]  # fmt: skip
    for (system, n, share), one in table.items():
        if share == DECOMPOSE_SHARE[0]:
            rows += [point(name, COST, f"{system}; {n}", one[name] / one[LAMB]) for name in (KAISA, MKOR)]
    where = known_site("dgx_a100", NUM_GPU, "megatron-2021", "unfused", "bf16")
    parts = {width: (kaisa(bert(width, 1), where, DECOMPOSE_SHARE[0], 8 * SEQ),
                     mkor(bert(width, 1), where, 8 * SEQ)) for width in widths}  # fmt: skip
    for width, both in parts.items():
        rows += [point(name, GROWTH, str(width), 1e3 * one.total_s)
                 for name, one in zip((KAISA, MKOR), both, strict=True)]  # fmt: skip
    wide, narrow = parts[max(widths)], parts[min(widths)]
    times = np.log2(max(widths) / min(widths))
    slope = [float(np.log2(w.total_s / n.total_s) / times) for w, n in zip(wide, narrow, strict=True)]
    rows.append(order(MKOR, "order: a refresh grows less with the width than KAISA's", "one layer, A100",
                      slope[1] < slope[0], f"powers of {slope[1]:.2f} and {slope[0]:.2f}; {NOTE}"))  # fmt: skip
    return frame(rows)


@styled
def plot(table: pd.DataFrame) -> "Figure":
    """A step over LAMB's by how often curvature is refreshed, and a refresh by width."""
    part = table[table["claim"] == COST]
    systems = list(dict.fromkeys(part["setup"].str.split("; ").str[0]))
    figure, axes = new_figure(1, len(systems) + 1, (4.2 * (len(systems) + 1), 3.6))
    for axis, system in zip(axes, systems, strict=False):
        for name, colour in ((KAISA, PALETTE[1]), (MKOR, PALETTE[0])):
            own = part[(part["system"] == name) & part["setup"].str.startswith(f"{system};")]
            axis.plot(own["setup"].str.split("; ").str[1].astype(int), own["simulated"], "o-", color=colour, label=name)
        axis.axhline(1, color="black", lw=0.8)
        axis.set(xlabel="steps between refreshes", ylabel=COST, title=f"64 GPUs, {system}", xscale="log")
        from_zero(axis)
        axis.legend(fontsize=7, loc="lower right")
    for name, colour in ((KAISA, PALETTE[1]), (MKOR, PALETTE[0])):
        own = table[(table["claim"] == GROWTH) & (table["system"] == name)]
        axes[-1].plot(own["setup"].astype(int), own["simulated"], "o-", color=colour, label=name)
    axes[-1].set(xlabel="width", ylabel=GROWTH, yscale="log", title="one layer, A100")
    log_places(axes[-1], own["setup"].astype(int))
    axes[-1].legend(fontsize=7)
    suptitle(figure, "MKOR: curvature by rank-1 updates and by decompositions")
    return figure
