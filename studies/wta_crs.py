"""What do sampled activations save, and what does the larger batch give back? (WTA-CRS, NeurIPS 2023, T5 on an A100)"""

import functools
from typing import TYPE_CHECKING, Any

import pandas as pd

from sim.training.estimate import Estimate, estimate, known_site
from studies._panels import Panel, panels
from studies._verdict import frame, order, row
from workloads.kept_activations import EAGER_NORM_BYTE
from workloads.models.spec import Attention, Block, FeedForward, ModelSpec
from workloads.training import TrainPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "WTA-CRS (Liu et al. 2023): fine-tuning T5 with 30 % of its activations takes 2.1 times less memory than all"
SMALL = {"shares": (0.3,), "batches": (100,)}
SYSTEM, STACK, SEQ = "dgx_a100", "pytorch-fsdp", 128
_BLOCK = Block(Attention(16, 16, 64, 64), FeedForward(4096, False))
ENCODER = ModelSpec("t5-large", "t5", 1024, 32128, 512, (_BLOCK,), (0,) * 24)
DECODER_PARAM = 24 * 16 * 1024**2  # two attentions and a feed-forward part a layer, which see a label of a few tokens
STATE_BYTE = 16.0  # weight, gradient, two moments in 32 bits
LABEL_TOKEN = 2  # of the decoder, whose head alone has logits
INPUTS = ("input of query, key and value", "result of attention", "input of the up projections",
          "input of the down projection")  # fmt: skip
# in 32 bits an eager norm keeps its input and what its weight multiplies, 4 B each, not the casts of 16-bit ones
NORMS = tuple((f"wide copies of the {which} norm", "shrink", 4 / EAGER_NORM_BYTE) for which in ("first", "second"))
# GB of T5-Large by what is trained and the share of rows kept (1: all); and where the throughput curve ends
PEAK: dict[tuple[int, float], float] = {(0, 1.0): 45.85, (32, 1.0): 36.83, (0, 0.3): 21.58, (0, 0.1): 18.46,
                                        (32, 0.3): 17.44, (32, 0.1): 14.64}  # fmt: skip
MOST = {1.0: 230, 0.3: 550, 0.1: 750}
RATE: dict[float, dict[int, float]] = {
    1.0: {50: 45.8, 100: 51.7, 140: 53.2, 180: 53.7}, 0.3: {100: 44.6, 200: 50.8, 300: 52.9, 450: 54.0},
    0.1: {100: 46.2, 200: 53.4, 300: 55.9, 500: 57.0},
}  # fmt: skip
TABLE_BATCHES = (64, 100, 128)
SAVED, LARGEST, SPEED = "peak memory of full training over it", "largest batch", "sentences/s"
NOTE = (
    "T5-Large in 32 bits with Adam, 128 tokens, A100 80 GB; the decoder's states without its few tokens; GLUE's "
    "labels; eager norms, softmax in memory, dropout; inputs of all linear maps are sampled"
)
BATCH = "batch of the table not published: 64 to 128"
DRAWING = "choosing and gathering rows is priced as their bytes; sorting them and the norms it sorts by are not"
OTHER = (
    "the published 30 % and 10 % differ by 3.1 GB, so that 15.6 of the 34 GB of activations are sampled and 13 of the "
    "others are gone in the authors' code too, by what is not published"
)


@functools.cache
def step(share: float, batch: int, lora: int = 0) -> Estimate:
    """One training step with this share of the rows of linear maps' inputs kept, adapters of rank `lora` or all."""
    policy = NORMS + (tuple((name, "sample", share) for name in INPUTS) if share < 1 else ())
    plan = TrainPlan(
        micro_batch=batch, batch=batch, seq=SEQ, attention="fused_softmax", weight_byte=4.0, act_byte=4.0,
        grad_byte=4.0, optimizer_byte=8.0, dropout=True, policy=policy, lora_rank=lora, logit_chunk=SEQ // LABEL_TOKEN,
    )  # fmt: skip
    found = estimate(ENCODER, plan, known_site(SYSTEM, 1, STACK, "fused_softmax", "fp32"))
    decoder = DECODER_PARAM * (4.0 if lora else STATE_BYTE)
    return found._replace(peak_byte=found.peak_byte + decoder)


def largest(share: float, room: float = 79.15 * 2**30) -> int:
    """Sentences that fit, from the bytes of two batches (they grow evenly)."""
    few, many = step(share, 32).peak_byte, step(share, 64).peak_byte
    return int(32 + (room - few) / (many - few) * 32)


def run(shares: tuple[float, ...] = (0.3, 0.1), batches: tuple[int, ...] = ()) -> pd.DataFrame:
    """Memory over that of full training, the largest batches, and sentences a second; `batches` of the curves alone."""
    rows: list[dict[str, Any]] = []
    for (lora, share), peak in PEAK.items():
        if (lora, share) == (0, 1.0) or (share < 1 and share not in shares):
            continue
        name = ("LoRA + " if lora else "") + (f"WTA-CRS {share:.0%}" if share < 1 else "")
        spread = [step(1.0, b).peak_byte / step(share, b, lora).peak_byte for b in TABLE_BATCHES]
        rows.append(row(name.removesuffix(" + "), SAVED, "T5-Large", PEAK[0, 1.0] / peak, spread[1],
                        f"{OTHER if share < 1 else BATCH}; {BATCH}; {NOTE}", tag="approx", null=1.0,
                        spread=spread))  # fmt: skip
    for share in (1.0, *shares):
        name = "all rows" if share == 1 else f"WTA-CRS {share:.0%}"
        note = f"{OTHER}; {NOTE}" if share < 1 else NOTE
        rows.append(row(name, LARGEST, "T5-Large, 80 GB", MOST[share], largest(share), note, tag="approx"))  # fmt: skip
        for batch, rate in RATE[share].items():
            if not batches or batch in batches:
                rows.append(row(name, SPEED, f"T5-Large, batch {batch}", rate, batch / step(share, batch).step_s,
                                f"{DRAWING}; {NOTE}", tag="approx"))  # fmt: skip
    slower = step(shares[0], 100).step_s > step(1.0, 100).step_s
    rows.append(order("WTA-CRS", "order: slower at an equal batch", "T5-Large, batch 100", slower, DRAWING))
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Memory saved, largest batches, and sentences a second by batch."""
    shown = [Panel(SAVED, "memory", "full training over it, ratio"), Panel(LARGEST, "80 GB", LARGEST),
             Panel(SPEED, "128 tokens", SPEED, "T5-Large, ")]  # fmt: skip
    return panels(table, shown, "WTA-CRS: T5-Large on an A100", columns=3)
