"""What does a batch gain that verifies its likeliest drafted tokens? (TETRIS, ACL 2025: Vicuna-33B with 68M drafts)"""

import functools
from typing import TYPE_CHECKING, Any

import pandas as pd

from studies._gpt import llama
from studies._panels import Panel, panels
from studies._speculate import Decoded, decode
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "TETRIS (Wu et al. 2025): 3.5 to 5.2 % over the best fixed drafts in vLLM, 6.7 to 7.5 % over standard ones"
MODEL = llama("vicuna-33b", 6656, 60, 52, 52, 17920, 32000)
DRAFT = llama("vicuna-68m", 768, 2, 12, 12, 3072, 32000)
SYSTEM, PROMPT, OUTPUT = "a100_sxm_80gb", 256, 128
LENGTHS, EXTRAS, STANDARD = (1, 2, 3, 4, 5), (1, 3), 3  # drafted tokens, more of them that TETRIS chooses among
ACCEPTS, SPREADS, BATCHES = (0.5, 0.65, 0.8), (0.2, 0.4), (16, 64)
BEST, COMMON, FOUND = "gain over the best fixed length, %", "gain over three drafted tokens, %", "tokens a verification"
OPEN = (
    "acceptance and batches are not published: a token's own probability lies evenly within 0.2 or 0.4 of 0.5 to 0.8 "
    "and is known to the draft model exactly, as a bound; 16 and 64 sequences of 256 + 128 on one A100 80 GB; no host "
    "time (the paper's choice takes less than 0.3 ms)"
)
SMALL: dict[str, Any] = {"accepts": (0.65,), "spreads": (0.4,), "batches": (16,), "lengths": (1, 3)}


@functools.cache
def one(batch: int, accept: float, spread: float, k: int, extra: int = -1) -> Decoded:
    """A batch that verifies `k` tokens a sequence; `extra` below 0: the first of each."""
    select = f"extra={extra}" if extra >= 0 else "select=0"
    progress = f"tetris:k={k},accept={accept},spread={spread},{select}"
    return decode(MODEL, SYSTEM, "bf16", batch, PROMPT, OUTPUT, progress=progress, draft=DRAFT)


def run(
    accepts: tuple[float, ...] = ACCEPTS, spreads: tuple[float, ...] = SPREADS, batches: tuple[int, ...] = BATCHES,
    lengths: tuple[int, ...] = LENGTHS,
) -> pd.DataFrame:  # fmt: skip
    """Gains of the best choice over the best fixed length and over a common one, over acceptance and batches."""
    table: list[dict[str, Any]] = []
    best, common, wide = [], [], []
    for batch in batches:
        for accept in accepts:
            for spread in spreads:
                fixed = {k: one(batch, accept, spread, k) for k in lengths}
                chosen = {(k, x): one(batch, accept, spread, k, x) for k in lengths for x in EXTRAS}
                fast = min(chosen.values(), key=lambda each: each.token_s)
                best.append(100 * (min(each.token_s for each in fixed.values()) / fast.token_s - 1))
                at_same = min(chosen[STANDARD, x].token_s for x in EXTRAS)
                common.append(100 * (fixed[STANDARD].token_s / at_same - 1))
                setup = f"batch {batch}, {accept:g} +- {spread:g}"
                table += [
                    point("TETRIS", BEST, setup, best[-1], OPEN),
                    point("TETRIS", COMMON, setup, common[-1], OPEN),
                ]
                for name, found in (("fixed", fixed[STANDARD]), ("TETRIS", chosen[STANDARD, max(EXTRAS)])):
                    table.append(point(name, FOUND, setup, found.verified, OPEN))
                wide.append(chosen[STANDARD, max(EXTRAS)].verified > fixed[STANDARD].verified)
    where = "acceptance, spread and batches"
    for claim, papers, gain in ((BEST, (3.50, 5.25), best), (COMMON, (6.70, 7.47), common)):
        for word, paper, value in zip(("least", "most"), papers, (min(gain), max(gain)), strict=True):
            table.append(row("TETRIS", f"{claim[:-3]}, {word}", where, paper, value, OPEN, said=True, spread=gain))
    for text, true in (
        ("as many verified tokens, chosen, hold more", all(wide)),
        ("it beats the best fixed length", min(best) > 0),
    ):
        table.append(order("TETRIS", f"order: {text}", where, true, OPEN))
    return frame(table)


def plot(table: pd.DataFrame) -> "Figure":
    """Gains over both baselines, and tokens that a verification commits."""
    shown = [Panel(BEST, "over the best fixed length", "%"), Panel(COMMON, "over three drafted", "%"),
             Panel(FOUND, "three verified a sequence", FOUND)]  # fmt: skip
    return panels(table, shown, "TETRIS: Vicuna-33B with drafts of 68M on an A100")
