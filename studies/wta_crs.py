"""What do sampled activations save, and what does the larger batch give back? (WTA-CRS, NeurIPS 2023, T5 on an A100)"""

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from kernels.train_plan import M_RESERVE
from sim.training.estimate import estimate, known_site
from sim.training.price import layer_seconds
from studies._kernels import LAUNCH_S
from studies._panels import Panel, panels
from studies._verdict import frame, order, row
from workloads.kept_activations import EAGER_NORM_BYTE
from workloads.models.spec import Attention, Block, FeedForward, ModelSpec
from workloads.training import TrainPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "WTA-CRS (Liu et al. 2023): fine-tuning T5 with 30 % of its activations takes 2.1 times less memory than all"
SMALL: dict[str, Any] = {}
# eager operators of PyTorch, as this stack has them
SYSTEM, STACK, SEQ = "dgx_a100", "llm-foundry", 128
_BLOCK = Block(Attention(16, 16, 64, 64), FeedForward(4096, False))
ENCODER = ModelSpec("t5-large", "t5", 1024, 32128, 512, (_BLOCK,), (0,) * 24)
DECODER_PARAM = 24 * 16 * 1024**2  # two attentions and a feed-forward part a layer, which see a label of a few tokens
STATE_BYTE = 16.0  # weight, gradient, two moments in 32 bits
LABEL_TOKEN = 2  # of the decoder, whose head alone has logits
# What the authors' code keeps of a layer (zirui-ray-liu/WTACRS: modeling_t5.py, its configurations). In 32 bits an
# eager norm keeps its input and what its weight multiplies, 4 B each, not the casts of 16-bit ones; and dropout follows
# the activation function, with a mask of a byte a value
NORMS = tuple((f"wide copies of the {which} norm", "shrink", 4 / EAGER_NORM_BYTE) for which in ("first", "second"))
FFN_MASK_BYTE = 4096.0
# Sampled: a norm keeps its result alone, masks and the sign of the ReLU are bits, of scores the softmax stays whole and
# the product's copy is sampled, as queries, keys and values are
BIT = 1 / 8
NO_NORMS = tuple((f"wide copies of the {which} norm", "skip", 1.0) for which in ("first", "second"))
MASKS = tuple((f"mask after {which}", "shrink", BIT) for which in ("attention", "the feed-forward part"))
INPUTS = ("result of attention", "input of the up projections", "input of the down projection")
# GB of T5-Large by what is trained and the share of rows kept (1: all); and where the throughput curve ends
PEAK: dict[tuple[int, float], float] = {(0, 1.0): 45.85, (32, 1.0): 36.83, (0, 0.3): 21.58, (0, 0.1): 18.46,
                                        (32, 0.3): 17.44, (32, 0.1): 14.64}  # fmt: skip
MOST = {1.0: 230, 0.3: 550, 0.1: 750}
RATE: dict[float, dict[int, float]] = {
    1.0: {50: 45.8, 100: 51.7, 140: 53.2, 180: 53.7}, 0.3: {100: 44.6, 200: 50.8, 300: 52.9, 450: 54.0},
    0.1: {100: 46.2, 200: 53.4, 300: 55.9, 500: 57.0},
}  # fmt: skip
BATCH = 100  # sentences, as the configurations have it
# Kernels that sampling adds to a linear map and to a product of attention, both ways: norms, probabilities, the choice
# of how many rows are certain, sorting, drawing, gathering (functional.py); with a synchronisation in each choice
# nothing runs beside them
DRAWN_LINEAR, DRAWN_PRODUCT = 57, 110
DECODER_KERNEL = 150  # of a layer both ways, on few tokens: bound by the host
SAVED, LARGEST, SPEED = "peak memory of full training over it", "largest batch", "sentences/s"
NOTE = (
    "T5-Large in 32 bits with Adam, 128 tokens, batch 100, A100 80 GB; the decoder's states, its keys and values of "
    "all tokens, its launches; GLUE's labels; eager operators, softmax in memory, dropout; sampled as the authors' "
    "configuration has it: products of attention, its output and the feed-forward part, norms from their results, "
    "masks in bits"
)
DRAWING = "a launch of 12 us (5 to 25) for each kernel of choosing, sorting and gathering"
ENDS = (
    "where the published curve ends: its own peak at a batch of 100 grows to 66 GB there, so that 14 GB are of what "
    "comes and goes (gathered gradients, fragments), which is not modelled"
)
LORA = (
    "weights other than the adapters' frozen; published 36.8 GB are 34 of activations, which is more than all rows of "
    "frozen layers keep in their code"
)


def policy(share: float, lora: int) -> tuple[tuple[str, str, float], ...]:
    """What becomes of kept tensors: rows sampled to `share` (1: none), adapters of rank `lora` (0: all is trained)."""
    frozen = tuple((name, "skip", 1.0) for name in INPUTS) if lora else ()
    if share == 1:
        return (*NORMS, *frozen)
    rows = () if lora else tuple((name, "sample", share) for name in INPUTS)
    whole, mask, copy = 4.0, 1.0, 4.0  # bytes of a score: softmax, mask, what the product reads
    scores = (whole + BIT * mask + share * copy) / (whole + mask + copy)
    return (
        *NO_NORMS, *MASKS, *rows, *frozen, ("scores", "shrink", scores),
        *((name, "shrink", share) for name in ("query", "key", "value")),
        ("input of the first norm", "skip", 1.0),  # its result is what the projections read; the second's is as wide
        ("results of the up projections", "shrink", BIT / 4),
    )  # fmt: skip


def beside_byte(share: float, lora: int) -> float:
    """Bytes a token and layer that the layer's tensors do not hold: the mask of its feed-forward part, and what the
    decoder's attention to it keeps: keys and values; of adapters the mask and the copy that each of the five reads."""
    keys = 2 * 4.0 * ENCODER.hidden * share
    adapters = 5 * ENCODER.hidden * (1 + 4 * share) if lora else 0.0
    return FFN_MASK_BYTE * (1.0 if share == 1 else BIT) + keys + adapters


def launches(share: float) -> int:
    """Kernels that run one by one: the decoder's, and those that sampling adds in both."""
    own = ENCODER.num_layer * DECODER_KERNEL
    if share == 1:
        return own
    encoder, decoder = 3 * DRAWN_LINEAR + 2 * DRAWN_PRODUCT, 4 * DRAWN_LINEAR + 4 * DRAWN_PRODUCT
    return own + ENCODER.num_layer * (encoder + decoder)


class Step(NamedTuple):
    """Seconds by the time of a launch, bytes allocated, and those that the process holds besides."""

    step_s: tuple[float, ...]
    peak_byte: float
    reserve_byte: float


@functools.cache
def step(share: float, batch: int, lora: int = 0) -> Step:
    """One training step with this share of the rows kept, adapters of rank `lora` or all weights trained."""
    plan = TrainPlan(
        micro_batch=batch, batch=batch, seq=SEQ, attention="fused_softmax", weight_byte=4.0, act_byte=4.0,
        grad_byte=4.0, optimizer_byte=8.0, dropout=True, policy=policy(share, lora), lora_rank=lora,
        logit_chunk=SEQ // LABEL_TOKEN,
    )  # fmt: skip
    where = known_site(SYSTEM, 1, STACK, "fused_softmax", "fp32")
    found = estimate(ENCODER, plan, where)
    low, seconds = layer_seconds(ENCODER, _BLOCK, plan, where)
    keys_s = 2 / 3 * float(seconds[low.ops["name"] == b"qkv"].sum()) * ENCODER.num_layer
    decoder = DECODER_PARAM * (4.0 if lora else STATE_BYTE)
    beside = beside_byte(share, lora) * batch * SEQ * ENCODER.num_layer
    reserve = float(found.memory[M_RESERVE])
    once = found.step_s + keys_s
    return Step(tuple(once + launches(share) * host for host in LAUNCH_S),
                found.peak_byte - reserve + decoder + beside, reserve)  # fmt: skip


def largest(share: float, room: float = 79.15 * 2**30) -> int:
    """Sentences that fit, from the bytes of two batches (they grow evenly)."""
    few, many = (sum(step(share, batch)[1:]) for batch in (32, 64))
    return int(32 + (room - few) / (many - few) * 32)


def run(shares: tuple[float, ...] = (0.3, 0.1), batches: tuple[int, ...] = ()) -> pd.DataFrame:
    """Memory over that of full training, the largest batches, and sentences a second; `batches` of the curves alone."""
    rows: list[dict[str, Any]] = []
    for (lora, share), peak in PEAK.items():
        if (lora, share) == (0, 1.0) or (share < 1 and share not in shares):
            continue
        name = ("LoRA + " if lora else "") + (f"WTA-CRS {share:.0%}" if share < 1 else "")
        ratio = step(1.0, BATCH).peak_byte / step(share, BATCH, lora).peak_byte
        rows.append(row(name.removesuffix(" + "), SAVED, "T5-Large", PEAK[0, 1.0] / peak, ratio,
                        f"{LORA}; {NOTE}" if lora else NOTE, tag="approx", null=1.0))  # fmt: skip
    for share in (1.0, *shares):
        name = "all rows" if share == 1 else f"WTA-CRS {share:.0%}"
        note = f"{ENDS}; {NOTE}" if share < 1 else NOTE
        rows.append(row(name, LARGEST, "T5-Large, 80 GB", MOST[share], largest(share), note, tag="approx"))  # fmt: skip
        for batch, rate in RATE[share].items():
            if not batches or batch in batches:
                least, usual, most = (batch / second for second in step(share, batch).step_s[::-1])
                rows.append(row(name, SPEED, f"T5-Large, batch {batch}", rate, usual, f"{DRAWING}; {NOTE}",
                                tag="approx", spread=(least, most)))  # fmt: skip
    slower = step(shares[0], 100).step_s[0] > step(1.0, 100).step_s[0]
    rows.append(order("WTA-CRS", "order: slower at an equal batch", "T5-Large, batch 100", slower,
                      f"at launches 5 us apart; at 12 and more it is; {DRAWING}"))  # fmt: skip
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Memory saved, largest batches, and sentences a second by batch."""
    shown = [Panel(SAVED, "memory", "full training over it, ratio"), Panel(LARGEST, "80 GB", LARGEST),
             Panel(SPEED, "128 tokens", SPEED, "T5-Large, ")]  # fmt: skip
    return panels(table, shown, "WTA-CRS: T5-Large on an A100", columns=3)
