"""Which models does a card fine-tune with Adam's states in 8 bits and not in 32? (8-bit optimizers, ICLR 2022)"""

from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from sim.training.estimate import Estimate, estimate, known_site
from studies._gpt import gpt
from studies._panels import Panel, panels
from studies._verdict import frame, order, point, row
from workloads.models.spec import ModelSpec
from workloads.models.tensors import num_param
from workloads.training import TrainPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "8-bit optimizers (Dettmers et al. 2022): 75 % less memory of states, and RoBERTa-large where base was the most"
SMALL: dict[str, Any] = {}
SYSTEM, STACK, SEQ = "dgx_1", "megatron-2021", 512
BLOCK = 2048  # values that share a scale
MODELS = {
    "RoBERTa-base": gpt("RoBERTa-base", 768, 12, 12, vocab=50265, position_row=512),
    "RoBERTa-large": gpt("RoBERTa-large", 1024, 24, 16, vocab=50265, position_row=512),
    "GPT-2-medium": gpt("GPT-2-medium", 1280, 36, 20, vocab=50257, position_row=1024),
    "GPT-2-large": gpt("GPT-2-large", 1600, 48, 25, vocab=50257, position_row=1024),
}  # fmt: skip


class Card(NamedTuple):
    """Gigabytes; the largest model with states in 32 bits, and in 8 (names as the paper has them, batch of one)."""

    gb: int
    wide: str
    narrow: str


# the paper's first table as a public summary of it has it (MT5's two rows, on 11 and 24 GB, have no lowering here)
CARDS = (Card(6, "RoBERTa-base", "RoBERTa-large"), Card(24, "GPT-2-medium", "GPT-2-large"))
STATE = {"32-bit": 8.0, "8-bit": 2 * (1 + 4 / BLOCK)}  # bytes a value of two moments
SAVED, NEED, UPDATE = "memory of states saved, share", "GB of fine-tuning, batch 1", "update, ms"
NOTE = (
    "models by card as a summary of the paper's table has them; batch of one and 512 tokens (their number is not "
    "published); weights and gradients in 16 bits, master weights in 32; tables of the vocabulary in 8 bits too (the "
    "stable embedding's 32 are a choice); the driver's 0.5 to 1.5 GB"
)
DRIVER = (0.5e9, 1.5e9)


def step(name: str, bits: str, master: float = 4.0) -> Estimate:
    """One step with a master weight of 4 B a value (0: none) and two moments."""
    plan = TrainPlan(seq=SEQ, attention="unfused", dropout=True, grad_byte=2.0, optimizer_byte=master + STATE[bits])
    return estimate(MODELS[name], plan, known_site(SYSTEM, 1, STACK, "unfused", "fp16"))


def need_byte(name: str, bits: str, driver: float) -> float:
    """Bytes of a card, with so much of it the driver's."""
    found = step(name, bits)
    return found.peak_byte - float(known_site(SYSTEM, 1, STACK, "unfused", "fp16").stack["reserve_byte"]) + driver


def state_byte(model: ModelSpec, bits: str) -> float:
    return STATE[bits] * num_param(model)


def run() -> pd.DataFrame:
    """What fits which card, what is saved, and what an update takes."""
    rows: list[dict[str, Any]] = []
    for card in CARDS:
        for bits, fits in (("32-bit", card.wide), ("8-bit", card.narrow)):
            low, high = (need_byte(fits, bits, driver) for driver in DRIVER)
            rows.append(
                order(
                    bits,
                    f"memory: {fits} fits",
                    f"{card.gb} GB",
                    high <= card.gb * 1e9,
                    f"{low / 1e9:.1f} to {high / 1e9:.1f} GB; {NOTE}",
                )
            )
        low = need_byte(card.narrow, "32-bit", DRIVER[0])
        rows.append(
            order(
                "32-bit",
                f"memory: {card.narrow} does not fit",
                f"{card.gb} GB",
                low > card.gb * 1e9,
                f"{low / 1e9:.1f} GB; {NOTE}",
            )
        )
    for name in MODELS:
        both = {bits: step(name, bits) for bits in STATE}
        optimizer_s = {bits: float(one.part[7]) for bits, one in both.items()}
        rows += [point(bits, NEED, name, need_byte(name, bits, DRIVER[1]) / 1e9) for bits in STATE]
        rows += [point(bits, UPDATE, name, 1e3 * one) for bits, one in optimizer_s.items()]
    model = "GPT-2-large"
    held = [float(step(model, bits, 0.0).memory[2]) for bits in ("32-bit", "8-bit")]
    rows.append(row("8-bit", SAVED, model, 0.75, 1 - held[1] / held[0], "a scale a block of 2,048", null=0.0))
    quick = [float(step(model, bits).part[7]) for bits in ("32-bit", "8-bit")]
    rows.append(
        order(
            "8-bit",
            "order: a faster update",
            model,
            quick[1] < quick[0],
            f"{quick[0] / quick[1]:.2f} times: fewer bytes, one pass (PyTorch's own Adam of the time took many)",
        )
    )
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Memory by model, states saved, and updates."""
    shown = [Panel(NEED, "one sequence", NEED), Panel(UPDATE, "V100", UPDATE), Panel(SAVED, "states", SAVED)]
    return panels(table, shown, "8-bit optimizers: what fits a card", columns=3)
