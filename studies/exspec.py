"""What does it cost to align a batch again whose drafts hold unequally? (EQSPEC and EXSPEC 2025: Vicuna-7B with 68M)"""

import functools
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from hw_models import catalog
from studies._gpt import llama
from studies._panels import Panel, panels
from studies._steps import arrays, decode_s
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "EXSPEC (2025): groups of equal length spare alignment, 40 % of the time; batch 8 serves up to 3 times batch 1"
MODEL, DRAFT = "llama-2-7b", llama("vicuna-68m", 768, 2, 12, 12, 3072, 32000)  # Vicuna-7B has Llama-2-7B's shapes
NUM, OUTPUT, LENGTH, DRAFTED, WINDOW = 480, 128, 400, 5, 48
BATCHES, SYSTEM = (1, 2, 4, 8, 16, 32), "a100_sxm_80gb"
# a log of the authors' at batch 4: 1,469 rounds, seconds of drafts, verifications and alignment; tokens a second; share
# of drafted tokens that held
LOG_BATCH, ROUNDS, DRAFT_S, VERIFY_S, ALIGN_S, RATE_LOG, HELD = 4, 1469, 22.4, 36.6, 22.5, 95.6, 0.228
RATE, SHARE = "tokens a second", "alignment, % of the time"
OPEN = (
    "which pair and GPU the log and the claims are of is not said, in no script either: Vicuna-7B with 68M on an A100 "
    "is taken; host time of a draft pass, a verification and an aligned sequence are fitted on the log's stages, all "
    "else follows; drafts hold by one probability a prompt, spread by 0 to 0.3 around the log's mean; prompts padded "
    "to 400 tokens"
)
MOST = "one of the three pairs is above their most already, and a round of eight costs the host what one of one does"
SPREADS = (0.0, 0.3)
SMALL: dict[str, Any] = {"batches": (1, 4, 8), "num": 96, "spreads": (0.3,)}


def chain_accept(share: float) -> float:
    """The probability of a token behind those before it by which this share of five drafted tokens holds."""
    low, high = 0.0, 1.0
    for _ in range(50):
        accept = (low + high) / 2
        below = sum(accept**n for n in range(1, DRAFTED + 1)) / DRAFTED < share
        low, high = (accept, high) if below else (low, accept)
    return accept


class Stages(NamedTuple):
    """Seconds of a round of so many sequences: drafts, verification, alignment where it is needed."""

    draft_s: float
    verify_s: float
    align_s: float


@functools.cache
def device(batch: int) -> Stages:
    """What the device takes: alignment reads and writes the KV of both models."""
    kv = [2.0 * 2 * num_layer * width * (LENGTH + OUTPUT // 2) for num_layer, width in ((32, 4096), (2, 768))]
    rate = catalog.system(SYSTEM).device.mem_byte_per_s
    keys = LENGTH + OUTPUT // 2
    return Stages(
        DRAFTED * decode_s(DRAFT, arrays(SYSTEM), batch, keys, fmt="fp16"),
        decode_s(MODEL, arrays(SYSTEM), batch, keys, query=DRAFTED + 1, fmt="fp16"), 2 * batch * sum(kv) / rate,
    )  # fmt: skip


def stages(batch: int) -> Stages:
    """With the host: a constant a draft pass, a verification, and an aligned sequence, each from the log."""
    own, log = device(batch), device(LOG_BATCH)
    align = own.align_s + (ALIGN_S / ROUNDS - log.align_s) * batch / LOG_BATCH
    return Stages(own.draft_s + DRAFT_S / ROUNDS - log.draft_s, own.verify_s + VERIFY_S / ROUNDS - log.verify_s, align)


class Served(NamedTuple):
    """A run: tokens a second, share of the time in alignment."""

    token_per_s: float
    align: float


@functools.cache
def serve(how: str, batch: int, spread: float, num: int = NUM, seed: int = 0) -> Served:
    """`all`: batches as they come, computed and aligned whole in every round until the last of each has ended. `pool`:
    of a window of 48 those of the most common length, if half a batch is, else those furthest behind, aligned."""
    random = np.random.default_rng(seed)
    mean = chain_accept(HELD)
    accept = np.clip(random.uniform(mean - spread, mean + spread, num), 0.0, 0.98)
    left, done = list(range(num)), np.zeros(num, int)
    pool: list[int] = []
    time = align = 0.0
    while left or pool:
        if how == "pool" or not pool:
            room = (WINDOW if how == "pool" and batch > 1 else batch) - len(pool)
            pool, left = pool + left[:room], left[room:]
            began = len(pool)
        chosen = pool
        if how == "pool":
            length, count = Counter(int(done[i]) for i in pool).most_common(1)[0]
            same = [i for i in pool if done[i] == length]
            chosen = (same if 2 * count >= min(batch, len(pool)) else sorted(pool, key=lambda i: done[i]))[:batch]
        one = stages(len(chosen) if how == "pool" else began)
        ragged = len({int(done[i]) for i in chosen}) > 1 if how == "pool" else batch > 1
        time += one.draft_s + one.verify_s + ragged * one.align_s
        align += ragged * one.align_s
        for i in chosen:
            held = int(np.argmin(np.append(random.random(DRAFTED) < accept[i], False)))
            done[i] = min(OUTPUT, done[i] + 1 + held)
        pool = [i for i in pool if done[i] < OUTPUT]
    return Served(num * OUTPUT / time, 100 * align / time)


def run(batches: tuple[int, ...] = BATCHES, spreads: tuple[float, ...] = SPREADS, num: int = NUM) -> pd.DataFrame:
    """Rates and alignment of both by batch, and the log's figures."""
    table: list[dict[str, Any]] = []
    last = spreads[-1]
    for batch in batches:
        for name, how in (("EQSPEC", "all"), ("EXSPEC", "pool")):
            found = serve(how, batch, last, num)
            table += [point(name, RATE, f"batch {batch}", found.token_per_s, OPEN),
                      point(name, SHARE, f"batch {batch}", found.align, OPEN)]  # fmt: skip
    log = [serve("all", LOG_BATCH, s, num) for s in spreads]
    share = 100 * ALIGN_S / (DRAFT_S + VERIFY_S + ALIGN_S)
    gain = [max(serve("pool", 8, s, num).token_per_s / serve("pool", 1, s, num).token_per_s, 0.0) for s in spreads]
    wide = [serve("all", b, s, num).align for b in batches if b > LOG_BATCH for s in spreads]
    table += [
        row("EQSPEC", f"{SHARE[:-15]}, share of a batch of 4, %", "the log", share, log[-1].align, OPEN, kind="fitted",
            spread=[one.align for one in log]),
        row("EQSPEC", f"{RATE}, the log", "batch 4", RATE_LOG, log[-1].token_per_s, OPEN, kind="fitted",
            spread=[one.token_per_s for one in log]),
        row("EQSPEC", "alignment, most of a larger batch, %", "batches above 4", 40.0, min(wide), OPEN, said=True,
            spread=wide),
        row("EXSPEC", "throughput of batch 8 over batch 1", "most of three pairs", 3.0, gain[-1], f"{MOST}; {OPEN}",
            tag="approx", null=1.0, spread=gain),
    ]  # fmt: skip
    ahead = all(serve("pool", b, last, num).token_per_s > serve("all", b, last, num).token_per_s
                for b in batches if b > 1)  # fmt: skip
    table.append(order("EXSPEC", "order: a pool of equal lengths serves more", "every batch above 1", ahead, OPEN))
    less = all(serve("pool", b, last, num).align < serve("all", b, last, num).align for b in batches if b > 1)
    table.append(order("EXSPEC", "order: it aligns less", "every batch above 1", less, OPEN))
    return frame(table)


def plot(table: pd.DataFrame) -> "Figure":
    """Rates and alignment by batch."""
    shown = [Panel(RATE, "throughput", RATE, "batch", curve=True), Panel(SHARE, "alignment", "% of the time", "batch")]
    return panels(table, shown, "EQSPEC and EXSPEC: Vicuna-7B with drafts of 68M")
