"""What does a context of 8K cost where every sequence is as long as its document? (Dataset Decomposition, 2024, 1B)"""

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sim.training.estimate import estimate, known_site
from studies._gpt import llama
from studies._panels import Panel, panels
from studies._verdict import frame, order, point, row
from workloads.training import TrainPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

CLAIM = "Dataset Decomposition (Pouransari et al. 2024): a 1B model with a context of 8K at the cost of one of 2K"
SMALL: dict[str, Any] = {"laws": ((600.0, 1.2),)}
SYSTEM, STACK, NUM_GPU, TOKEN = "dgx_h100", "pytorch-fsdp", 8, 2**20  # tokens of a step, whatever their bucket
MODEL = llama("1B", 2048, 24, 16, 16, 5632, 50432)
BUCKETS = tuple(2**power for power in range(8, 14))  # 256 to 8,192 tokens; what is shorter is dropped
LAWS = ((600.0, 1.2), (400.0, 1.0), (400.0, 1.4), (900.0, 1.2))  # median and log deviation of a web corpus's documents
COST, SHARE, TIME = "cost a token over 2K", "share of tokens", "us a token and GPU"
NOTE = (
    "1B Llama on eight H100 under FSDP, a million tokens a step; documents of log-normal lengths (medians 400 to 900, "
    "deviations 1 to 1.4: the corpus's are not published), cut into powers of two of 256 to 8,192 tokens"
)


@functools.cache
def token_s(seq: int) -> float:
    """Seconds a token and GPU of a step of sequences of one length."""
    micro = max(1, 8192 // seq)
    plan = TrainPlan(dp=NUM_GPU, micro_batch=micro, batch=TOKEN // seq, seq=seq, zero=3, fused_norm=True)
    return estimate(MODEL, plan, known_site(SYSTEM, NUM_GPU, STACK, "flash2")).step_s * NUM_GPU / TOKEN


def decompose(lengths: "NDArray[np.int64]") -> dict[int, float]:
    """Share of the tokens in every bucket: a document becomes as many of the largest as it fills, then each power of
    two of its rest once; what is shorter than the smallest bucket is dropped.

    >>> {seq: share for seq, share in decompose(np.array([8192 * 2 + 512 + 100])).items() if share}
    {512: 0.030303030303030304, 8192: 0.9696969696969697}
    """
    most = BUCKETS[-1]
    count = {seq: float(seq * ((lengths % most) // seq % 2).sum()) for seq in BUCKETS[:-1]}
    count[most] = float(most * (lengths // most).sum())
    whole = sum(count.values())
    return {seq: one / whole for seq, one in count.items()}


def documents(median: float, deviation: float, num: int = 50_000, seed: int = 0) -> "NDArray[np.int64]":
    """Lengths drawn from a log-normal law."""
    return np.random.default_rng(seed).lognormal(np.log(median), deviation, num).astype(np.int64)


def mixed_s(share: dict[int, float]) -> float:
    """Seconds a token and GPU over all buckets."""
    return sum(part * token_s(seq) for seq, part in share.items())


def run(laws: tuple[tuple[float, float], ...] = LAWS) -> pd.DataFrame:
    """The cost of the mixture beside fixed contexts, and how long its sequences are."""
    shares = [decompose(documents(*law)) for law in laws]
    over = [mixed_s(share) / token_s(2048) for share in shares]
    mean = sum(seq * part for seq, part in shares[0].items())
    fixed = token_s(8192) / token_s(2048)
    rows: list[dict[str, Any]] = [
        row("Decomposition, up to 8K", COST, "1B, 8 H100", 1.0, over[0],
            f"attention sees {mean:,.0f} tokens in the mean; 8K alone costs {fixed:.3f}; {NOTE}", spread=over),
        order("Decomposition, up to 8K", "order: cheaper than 8K alone", "1B, 8 H100", max(over) < fixed, NOTE),
    ]  # fmt: skip
    rows += [point("one length", TIME, str(seq), 1e6 * token_s(seq)) for seq in BUCKETS]
    for law, share in zip(laws, shares, strict=True):
        name = f"median {law[0]:g}, deviation {law[1]:g}"
        rows += [point(name, SHARE, str(seq), part) for seq, part in share.items()]
        rows.append(point(name, COST, "mixture", mixed_s(share) / token_s(2048)))
    rows.append(point("one length", COST, "8K alone", fixed))
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Cost of a token by length, tokens by bucket, and the mixture over 2K."""
    shown = [Panel(TIME, "sequences of one length", TIME, curve=True), Panel(SHARE, "buckets", SHARE),
             Panel(COST, "context of 8K", COST)]  # fmt: skip
    return panels(table, shown, "Dataset Decomposition: documents in buckets of powers of two", columns=3)
