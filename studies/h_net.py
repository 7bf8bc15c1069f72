"""What does a byte cost a model that learns its own chunks? (H-Net, Hwang et al. 2025, dynamic chunking)"""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from studies._panels import Panel, panels
from studies._steps import arrays, decode_s
from studies._verdict import frame, order, point, row
from workloads import placement
from workloads.formats import Formats
from workloads.lowering import Plan, lower_step
from workloads.models.layers.mamba import Mamba2
from workloads.models.spec import NO_ATTENTION, NO_FFN, Attention, Block, FeedForward, ModelSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "H-Net (Hwang et al. 2025): matched to a Transformer over tokens in FLOPs a byte; outer stages run every byte"
SMALL = {"chunks": (1.0, 4.6, 8.0)}
SYSTEM, CONTEXT_BYTE, BATCH = "h100_sxm", 8192, 16
BYTE, VOCAB = 256, 50257
TOKEN_BYTE = 4.6  # of English text in a token of GPT-2
CHUNKS = (1.0, 2.0, 4.6, 6.0, 8.0)  # bytes of a chunk
# widths, layers: four Mamba-2 layers before and after each inner net, which is a Transformer (released configurations)
OUTER, INNER, DEPTH, WINDOW = (1024, 1536), 2048, {1: 24, 2: 27}, 1023
FLOP, TIME, STATE = "GFLOP a byte", "us a byte, decoding", "share of the FLOPs in the inner net"
NOTE = (
    "XL: 4 Mamba-2 layers of 1,024 on both sides of 24 Transformer layers of 2,048 a chunk (two stages: 1,536 between, "
    "one Transformer layer there, 27 inside); the Transformer over tokens has the same 24 layers at 4.6 bytes a token; "
    "the router and the copies between widths are not priced"
)


def mamba(hidden: int, num_layer: int, vocab: int = 1) -> ModelSpec:
    """Mamba-2 layers of twice the width, heads of 64 and a state of 128, nothing else."""
    block = Block(NO_ATTENTION, NO_FFN, num_norm=1, mixer=Mamba2(2 * hidden // 64, 64, 128, 1, 4))
    return ModelSpec(f"mamba-{hidden}", "mamba", hidden, vocab, 0, (block,), (0,) * num_layer, position="none")


def transformer(hidden: int, num_layer: int, vocab: int = 1, window: int = 0) -> ModelSpec:
    """Gated Transformer layers of heads of 128; a feed-forward part of eight thirds of the width (5,504 at 2,048), as
    the released L configuration has (4,096 at 1,536) and XL is taken to have."""
    head, inter = hidden // 128, hidden * 43 // 16
    block = Block(Attention(head, head, 128, 128, window), FeedForward(inter))
    return ModelSpec(f"gpt-{hidden}", "llama", hidden, vocab, 0, (block,), (0,) * num_layer)


def stages(num_stage: int) -> list[ModelSpec]:
    """Nets of a byte, of a chunk (and of a chunk of chunks); the first one reads and predicts bytes."""
    nets = [mamba(OUTER[0], 8, BYTE)]
    if num_stage == 2:
        nets.append(mamba(OUTER[1], 8))
    return [*nets, transformer(INNER, DEPTH[num_stage])]


def flop(model: ModelSpec, num: int) -> float:
    """FLOPs of a sequence of so many, all of them predicted."""
    one = np.array([num], np.int64)
    ops, _ = lower_step(model, Formats(), placement.make(model), 0, Plan(one, one, np.zeros(1, bool), one))
    return float((ops["flop"] * ops["count"]).sum())


def per_byte(nets: list[ModelSpec], size: list[float]) -> list[float]:
    """FLOPs a byte of each net, of which one item holds so many bytes."""
    return [flop(net, round(CONTEXT_BYTE / byte)) / CONTEXT_BYTE for net, byte in zip(nets, size, strict=True)]


def time_us(nets: list[ModelSpec], size: list[float], batch: int = BATCH) -> float:
    """Microseconds a byte of `batch` sequences that decode: every net's step, as often as its items come."""
    where = arrays(SYSTEM)
    return sum(1e6 * decode_s(net, where, batch, round(CONTEXT_BYTE / byte)) / byte / batch
               for net, byte in zip(nets, size, strict=True))  # fmt: skip


def sizes(num_stage: int, chunk: float) -> list[float]:
    """Bytes of an item by stage; two stages share the chunk evenly."""
    return [1.0, chunk] if num_stage == 1 else [1.0, chunk**0.5, chunk]


def run(chunks: tuple[float, ...] = CHUNKS) -> pd.DataFrame:
    """FLOPs and time a byte by bytes of a chunk, beside the Transformer over tokens."""
    token = [transformer(INNER, DEPTH[1], VOCAB)]
    plain, plain_us = per_byte(token, [TOKEN_BYTE])[0], time_us(token, [TOKEN_BYTE])
    rows: list[dict[str, Any]] = []
    for num in (1, 2):
        name, nets = f"H-Net, {num} stage{'s' * (num > 1)}", stages(num)
        each = [per_byte(nets, sizes(num, chunk)) for chunk in chunks]
        total = [sum(one) for one in each]
        us = [time_us(nets, sizes(num, chunk)) for chunk in chunks]
        for chunk, one, second in zip(chunks, each, us, strict=True):
            setup = f"{chunk:g} bytes a chunk"
            rows += [point(name, FLOP, setup, sum(one) / 1e9, NOTE), point(name, TIME, setup, second, NOTE),
                     point(name, STATE, setup, one[-1] / sum(one), NOTE)]  # fmt: skip
        where = f"{chunks[0]:g} to {chunks[-1]:g} bytes a chunk"
        rows.append(order(name, "order: longer chunks cost a byte less, and never less than its outer stage", where,
                          total == sorted(total, reverse=True) and total[-1] > each[-1][0], NOTE))  # fmt: skip
        rows.append(order(name, "order: on single bytes it costs more than twice the tokens' model", where,
                          total[0] > 2 * plain, f"{plain / 1e9:.2f} GFLOP a byte; {NOTE}"))  # fmt: skip
    for chunk in chunks:
        setup = f"{chunk:g} bytes a chunk"
        rows += [point("Transformer, tokens", FLOP, setup, plain / 1e9, NOTE),
                 point("Transformer, tokens", TIME, setup, plain_us, NOTE)]  # fmt: skip
    match = [sum(per_byte(stages(1), sizes(1, chunk))) / plain for chunk in (4.6, 6.0)]
    rows.append(row("H-Net, 1 stage", "FLOPs a byte, of the tokens' Transformer", "XL, 4.6 to 6 bytes a chunk", 1.0,
                    match[0], f"published: matched in FLOPs a byte; {NOTE}", tag="approx", spread=match))  # fmt: skip
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """FLOPs, time, and where they are spent, by bytes of a chunk."""
    return panels(table, [Panel(FLOP, "compute", FLOP, curve=True),
                          Panel(TIME, "16 sequences on an H100", TIME, curve=True),
                          Panel(STATE, "inner net", STATE, curve=True)],
                  "H-Net: the price of a byte", columns=3)  # fmt: skip
