"""How many 32 GB cards does fine-tuning take with most layers frozen at every step? (SlimFit, 2023, ViT and BERT)"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from sim.training.estimate import estimate, known_site
from studies._gpt import gpt
from studies._panels import Panel, panels
from studies._verdict import frame, order, point, row
from studies._vit import vit
from workloads.kept_activations import kept_tensors
from workloads.models.spec import ModelSpec
from workloads.training import TrainPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "SlimFit (Ardakani et al. 2023): up to 3.1 times less memory, ViT's batch of 128 on one card instead of three"
SMALL: dict[str, Any] = {"shares": (0.95,)}
SYSTEM, STACK, BATCH = "dgx_1", "megatron-2021", 128
CARD = 32e9


class Case(NamedTuple):
    model: ModelSpec
    token: int
    cards: int  # of 32 GB that plain fine-tuning takes
    dropout: bool


CASES = {
    "ViT-B, ImageNet": Case(vit("ViT-B", 768, 12, 12), 577, 3, False),
    "BERT-base, SQuAD": Case(gpt("BERT-base", 768, 12, 12, vocab=30522, position_row=512), 384, 2, True),
}
# a frozen layer needs none of these, which its weight gradients alone would read; norms, GELU, softmax and attention's
# products need the others whatever is frozen
DYNAMIC = ("input of query, key and value", "result of attention", "input of the up projections",
           "input of the down projection")  # fmt: skip
NORMS = ("wide copies of the first norm", "wide copies of the second norm")
SHARES = (0.95, 0.9, 0.8)  # of the layers, frozen
BITS = (8, 4)  # of what is kept of static activations
MOST, MEMORY, RATIO = 3.1, "GB of fine-tuning", "memory of plain over it, up to"
PLAIN = "plain"
NOTE = (
    "batch 128 in 32 bits with Adam, eager operators; 384 pixels (224 fit one card as they are) and 384 tokens; the "
    "head of one token; a share of layers frozen at every step, static activations in 8 or 4 bits"
)
CODE = (
    "the authors' code has GELU in 4 bits, a tenth of a frozen norm with 32-bit places, products' factors in 8, and a "
    "softmax in 32 bits beside them: some 2.0 (ViT) and 2.5 times (BERT), but ViT then needs 37 GB, not one card"
)


def plan(case: Case, frozen: float, bit: float) -> TrainPlan:
    """The plan with this share of layers frozen and static activations in so many bits (0 and 32: plain)."""
    own = TrainPlan(micro_batch=BATCH, batch=BATCH, seq=case.token, attention="fused_softmax", weight_byte=4.0,
                    act_byte=4.0, grad_byte=4.0, optimizer_byte=8.0, dropout=case.dropout,
                    logit_chunk=case.token)  # fmt: skip
    policy = []
    for one in kept_tensors(case.model.hidden, case.model.block[0], own, "fp32"):
        share = 1 - frozen if one.name in DYNAMIC else bit / 32
        if "mask" in one.name:  # of dropout: a byte already
            share = 1.0
        if one.name in NORMS:  # PyTorch's norm in 32 bits keeps its input, which is counted
            share = 0.0
        policy.append((one.name, "shrink", share))
    return replace(own, policy=tuple(policy))


def need_byte(case: Case, frozen: float = 0.0, bit: float = 32) -> float:
    """Bytes of one card that holds the whole batch."""
    return estimate(
        case.model, plan(case, frozen, bit), known_site(SYSTEM, 1, STACK, "fused_softmax", "fp32")
    ).peak_byte


def run(shares: tuple[float, ...] = SHARES) -> pd.DataFrame:
    """Bytes and cards of either way, and the largest saving."""
    rows: list[dict[str, Any]] = []
    ways = [(frozen, bit) for frozen in shares for bit in BITS]
    ratio: dict[tuple[float, int], list[float]] = {way: [] for way in ways}
    for name, case in CASES.items():
        whole = need_byte(case)
        rows.append(
            order(
                PLAIN,
                f"memory: needs {case.cards} cards of 32 GB",
                name,
                (case.cards - 1) * CARD < whole <= case.cards * CARD,
                f"{whole / 1e9:.0f} GB; {NOTE}",
            )
        )
        slim = {way: need_byte(case, *way) for way in ways}
        rows.append(
            order(
                "SlimFit",
                "memory: fits one card of 32 GB",
                name,
                max(slim.values()) < CARD,
                f"{min(slim.values()) / 1e9:.0f} to {max(slim.values()) / 1e9:.0f} GB; {NOTE}",
            )
        )
        rows.append(point(PLAIN, MEMORY, name, whole / 1e9))
        for (frozen, bit), byte in slim.items():
            rows.append(point(f"{frozen:.0%} frozen, {bit} bits", MEMORY, name, byte / 1e9))
            ratio[frozen, bit].append(whole / byte)
    most = [max(one) for one in ratio.values()]
    rows.append(
        row(
            "SlimFit",
            RATIO,
            "both",
            MOST,
            most[0],
            f"95 % frozen and 8 bits; the driver's 1.5 GB and the states counted; {CODE}; {NOTE}",
            null=1.0,
            spread=most,
        )
    )
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Memory by what is frozen and in how many bits, and the largest saving."""
    return panels(table, [Panel(MEMORY, "batch 128", MEMORY), Panel(RATIO, "saved", "ratio")],
                  "SlimFit: fine-tuning with most layers frozen")  # fmt: skip
