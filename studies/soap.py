"""What do rotations and eigenbases add to a step of AdamW, and is it paid back? (SOAP, 2024, 360M and 660M models)"""

import itertools
from typing import TYPE_CHECKING, Any

import pandas as pd

from sim.training.estimate import estimate, known_site
from sim.training.price import Site
from studies._gpt import gpt
from studies._panels import Panel, panels
from studies._second_order import Product, matrices, products_s, stream_s
from studies._verdict import frame, order, point, row
from workloads.models.spec import ModelSpec
from workloads.training import TrainPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "SOAP (Vyas et al. 2024): 40 % fewer steps and 35 % less time than AdamW, a fifth less of either than Shampoo"
SMALL: dict[str, Any] = {"sizes": ("360M",)}
SYSTEM, NUM_GPU, SEQ, BATCH = "dgx_h100", 8, 1024, 2048  # two million tokens a step
SIZES = {"360M": gpt("360M", 1024, 24, 16, vocab=32128), "660M": gpt("660M", 1408, 24, 22, vocab=32128)}
FEWER_STEPS, LESS_TIME = 0.40, 0.35
REFRESH, EVERY = 10, (1, 5, 10, 50, 100)
# formats of the update's products, and share of a product's rate that a QR or an eigendecomposition reaches
FORMATS, SHARES = ("tf32", "fp32", "bf16"), (0.05, 0.02, 0.1)
QR, EIGH = 4 / 3, 9.0  # operations over d^3
SOAP, SHAMPOO = "SOAP", "Shampoo"
SAVED, OVER = "time saved over AdamW", "step over AdamW's"
NOTE = (
    "eight H100 (not published), 1,024 tokens, 2M tokens a step, every GPU updates all matrices, but Shampoo's are "
    "decomposed a share each; products in tf32, fp32 or bf16, decompositions at 2 to 10 % of their rate; bases "
    "refreshed every 10 steps"
)


def update_s(model: ModelSpec, where: Site, name: str, refresh: int, fmt: str, share: float) -> float:
    """Mean seconds that an update adds to AdamW's. Every step: both covariances of a gradient, and for SOAP into the
    eigenbasis and back, for Shampoo once through both roots. Every `refresh` steps: a product and a QR for each basis
    (SOAP), or an eigendecomposition and the root's product (Shampoo, whose public implementation shares decompositions
    out over the GPUs)."""
    turns = {SOAP: 2, SHAMPOO: 1}[name]
    every: list[Product] = []
    seldom: list[Product] = []
    value = 0.0
    for m, n, count in matrices(model):
        every += [Product(m, m, n, count), Product(n, n, m, count)]
        every += [Product(m, n, m, turns * count), Product(m, n, n, turns * count)]
        seldom += [Product(side, side, side, count) for side in (m, n)]
        value += count * (m * m + n * n)
    passes = stream_s(where, 4.0 * 2 * value)  # factors read and written
    basis = products_s(where, seldom, fmt)
    panels_s = products_s(where, seldom, "fp32") * (QR if name == SOAP else EIGH / NUM_GPU) / 2 / share
    return products_s(where, every, fmt) + passes + (basis + panels_s) / refresh


def adam_s(model: ModelSpec, where: Site) -> float:
    """A step of AdamW."""
    plan = TrainPlan(dp=NUM_GPU, micro_batch=32, batch=BATCH, seq=SEQ)
    return estimate(model, plan, where).step_s


def ratio(size: str, name: str, refresh: int, fmt: str, share: float) -> float:
    """A step over AdamW's."""
    where = known_site(SYSTEM, NUM_GPU, "pytorch-fsdp", "flash2")
    return 1 + update_s(SIZES[size], where, name, refresh, fmt, share) / adam_s(SIZES[size], where)


def run(sizes: tuple[str, ...] = tuple(SIZES)) -> pd.DataFrame:
    """Time saved with the published steps, beside Shampoo, and a step by how often bases are refreshed."""
    rows: list[dict[str, Any]] = []
    for size in sizes:
        ways = list(itertools.product(FORMATS, SHARES))
        found = {name: [ratio(size, name, REFRESH, *way) for way in ways] for name in (SOAP, SHAMPOO)}
        saved = [1 - (1 - FEWER_STEPS) * one for one in found[SOAP]]
        rows.append(
            row(
                SOAP,
                SAVED,
                size,
                LESS_TIME,
                saved[0],
                f"with the published 40 % fewer steps; {NOTE}",
                tag="approx",
                null=0.0,
                spread=saved,
            )
        )
        both = [a / b for a, b in zip(found[SOAP], found[SHAMPOO], strict=True)]
        rows.append(
            row(
                SOAP,
                "step over Shampoo's",
                size,
                1.0,
                both[0],
                f"published: a fifth fewer steps and a fifth less time; {NOTE}",
                bound=0.05,
                spread=both,
            )
        )
        rows.append(
            order(
                SOAP,
                "order: a step is dearer than AdamW's, less than the steps saved pay back",
                size,
                min(found[SOAP]) > 1 and max(found[SOAP]) < 1 / (1 - FEWER_STEPS),
                NOTE,
            )
        )
        for name, n in itertools.product((SOAP, SHAMPOO), EVERY):
            rows.append(point(name, OVER, f"{size}, {n}", ratio(size, name, n, *ways[0])))
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Time saved, and a step over AdamW's by steps between refreshes."""
    shown = [Panel(SAVED, "with 40 % fewer steps", "share of AdamW's time")]
    shown += [Panel(OVER, f"{size}, steps between refreshes", OVER, f"{size}, ", curve=True)
              for size in dict.fromkeys(table["setup"].str.split(", ").str[0])]  # fmt: skip
    return panels(table, shown, "SOAP: what an eigenbasis costs", columns=3)
