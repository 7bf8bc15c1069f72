"""What is left of tokens committed a pass when every head adds to it? (Blockwise parallel decoding, 2018)"""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from studies._panels import Panel, panels
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Blockwise parallel decoding (Stern et al. 2018): 4.95 tokens a pass of ten heads, 3.31 times faster with eight"
SMALL = {"sentences": 200}
HEADS = (2, 4, 6, 8, 10)
# distilled and fine-tuned translation (newstest2014): mean accepted block, wall-clock speedup
BLOCK = {2: 1.88, 4: 3.27, 6: 4.18, 8: 4.69, 10: 4.95}
WALL = {2: 1.72, 4: 2.69, 6: 3.10, 8: 3.31, 10: 3.04}
RESOLVE_HEAD, RESOLVE_BLOCK, RESOLVE_WALL, PIXELS = 6, 5.25, 4.0, 1024  # super-resolution to 32 x 32
FITTED = 6  # heads whose row gives what one costs
TOKENS = 27  # of a translated sentence, in the mean; 15 to 60 change no speedup of translation by more than 2 %
SPEED, PASSES, SENTENCE = "wall-clock speedup", "tokens a pass", "newstest2014"
NOTE = (
    "mean accepted blocks as published, acceptance of a position fitted on each; a pass of k heads takes 1 + c (k - 1) "
    "greedy ones (heads of a vocabulary each, k of them on k positions), c fitted on six heads of translation; the "
    "last block is cut by the sentence's end"
)


def accept_of(heads: int, block: float) -> float:
    """The probability a position holds at which a pass of `heads` commits `block` tokens: 1 + a + ... + a^(k-1)."""
    low, high = 0.0, 1.0
    for _ in range(60):
        a = (low + high) / 2
        low, high = (a, high) if sum(a**n for n in range(heads)) < block else (low, a)
    return (low + high) / 2


def passes(heads: int, accept: float, tokens: int, count: int, seed: int = 0) -> float:
    """Mean passes of sentences: each commits its first token and as many more as hold, never beyond the end."""
    rng = np.random.default_rng(seed)
    left, total = np.full(count, tokens), np.zeros(count)
    while (left > 0).any():
        holds = (rng.random((count, heads - 1)) < accept).cumprod(axis=1).sum(axis=1)
        total += left > 0
        left -= 1 + holds
    return float(total.mean())


def greedy_share(heads: int, block: float, tokens: int, count: int) -> float:
    """Passes over greedy decoding's."""
    return passes(heads, accept_of(heads, block), tokens, count) / tokens


def run(sentences: int = 2000, tokens: int = TOKENS) -> pd.DataFrame:
    """Speedups by heads, of translation and of super-resolution, with one cost of a head."""
    share = {k: greedy_share(k, BLOCK[k], tokens, sentences) for k in HEADS}
    cost = (1 / (WALL[FITTED] * share[FITTED]) - 1) / (FITTED - 1)
    note = f"c = {cost:.3f}; {NOTE}"
    rows: list[dict[str, Any]] = []
    speed = {k: 1 / (share[k] * (1 + cost * (k - 1))) for k in HEADS}
    for k in HEADS:
        rows.append(row("blockwise", SPEED, f"{SENTENCE}, {k} heads", WALL[k], speed[k], note, null=1.0,
                        kind="fitted" if k == FITTED else "number"))  # fmt: skip
        rows.append(point("blockwise", PASSES, f"{SENTENCE}, {k} heads", 1 / share[k], f"published block {BLOCK[k]}"))
    pixels = greedy_share(RESOLVE_HEAD, RESOLVE_BLOCK, PIXELS, min(sentences, 64))
    rows.append(row("blockwise", SPEED, f"super-resolution, {RESOLVE_HEAD} heads", RESOLVE_WALL,
                    1 / (pixels * (1 + cost * (RESOLVE_HEAD - 1))), note, null=1.0))  # fmt: skip
    best = max(speed, key=speed.__getitem__)
    rows.append(order("blockwise", "order: eight heads are fastest, ten commit most", SENTENCE,
                      best == 8 and max(BLOCK, key=BLOCK.__getitem__) == 10, f"{best} here; {note}"))  # fmt: skip
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Wall-clock speedups and tokens a pass by heads."""
    return panels(table, [Panel(SPEED, "translation", "over greedy", f"{SENTENCE}, "),
                          Panel(PASSES, "translation", PASSES, f"{SENTENCE}, ")],
                  "Blockwise parallel decoding")  # fmt: skip
