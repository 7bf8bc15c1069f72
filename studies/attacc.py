"""How long does a token take when attention and feed-forward run in the banks of the memory? (AttAcc, ASPLOS 2024)

GPT-3 175B on eight A100 with HBM3, one sequence of 2,048 tokens that writes 128 more.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hw_models import catalog
from hw_models.spec import Device
from kernels import optable as op
from kernels.coprocess import roof_s
from studies._panels import bars
from studies._verdict import frame, order, row
from workloads import models, placement
from workloads.formats import parse
from workloads.lowering import Plan, lower_step

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "AttAcc (Park et al. 2024): GPT-3 175B at 17.08 ms a token where GPUs take 31.03 ms"
MEM_SHARE = 0.85  # of the pins' bandwidth that kernels reach: AttAcc's published configuration
NORM_S, ACT_S = 6.87e-6, 8.29e-6  # launch-bound kernels measured on A100: the same configuration
HOP_S, LINK_S_PER_BYTE = 6.06e-6, 9e-12  # a hop of an all-reduce on NVLink 3, the same configuration
NUM_DEVICE, PROMPT, OUTPUT = 8, 2048, 128


def token_s(device: Device, *, with_units: bool) -> dict[str, float]:
    """Seconds a token by part, at the mean length of the output.

    A batch of one gives attention on the GPU one thread block a head, a share heads/SMs of the bandwidth. With units,
    attention runs in the banks, and the two matrices of the feed-forward are split between GPU and banks so that
    both end together.
    """
    card = models.load("gpt3-175b")
    kv_len = np.array([PROMPT + OUTPUT // 2])
    plan = Plan(np.ones(1, np.int64), kv_len, np.ones(1, bool), np.ones(1, bool))
    ops, _ = lower_step(card, parse("fp16"), placement.make(card, tp=NUM_DEVICE), 0, plan)
    rate = device.mem_byte_per_s * MEM_SHARE
    part = dict.fromkeys(("projection", "feed-forward", "attention", "element-wise", "all-reduce"), 0.0)
    for one, byte in zip(ops, op.mem_byte(ops), strict=True):
        kind, count, name = int(one["kind"]), float(one["count"]), one["name"].decode()
        if kind == op.GEMM and name.startswith("mlp"):
            part["feed-forward"] += count * shared_s(float(byte), float(one["flop"]), device, rate, with_units)
        elif kind == op.GEMM:
            part["projection"] += count * float(byte) / rate
        elif kind == op.ATTN_DECODE:
            part["attention"] += count * attention_s(
                float(byte), int(one["num_head"]), float(one["flop"]), device, rate, with_units
            )
        elif kind == op.NORM and count > 1:
            part["element-wise"] += count * NORM_S
        elif kind == op.ACT:
            part["element-wise"] += count * ACT_S
        elif kind == op.ALL_REDUCE:
            hop = HOP_S + LINK_S_PER_BYTE * float(one["link_byte"]) / NUM_DEVICE
            part["all-reduce"] += count * hop * (NUM_DEVICE - 1)
    return part


def shared_s(byte: float, flop: float, device: Device, rate: float, with_units: bool) -> float:
    """Feed-forward matrices read by the GPU, or by GPU and banks in proportion to their speed."""
    alone = byte / rate
    if not with_units or device.pim is None:
        return alone
    units = roof_s(flop, byte, device.pim.flop_per_s, device.pim.byte_per_s)
    return 1.0 / (1.0 / alone + 1.0 / units)


def attention_s(byte: float, num_head: int, flop: float, device: Device, rate: float, with_units: bool) -> float:
    """Decode attention of one sequence."""
    if with_units and device.pim is not None:
        return roof_s(flop, byte, device.pim.flop_per_s, device.pim.byte_per_s)
    blocks = num_head
    return byte / (rate * blocks / (np.ceil(blocks / device.num_core) * device.num_core))


def run() -> pd.DataFrame:
    """Every claim, a row each."""
    rows: list[dict[str, Any]] = []
    setup = "GPT-3 175B, 8 devices, 2,048 in, 128 out, batch 1"
    note = "85 % of bandwidth, kernel floors and hops of the published configuration"
    base = sum(token_s(catalog.device("attacc_gpu"), with_units=False).values()) * 1e3
    bank = sum(token_s(catalog.device("attacc"), with_units=True).values()) * 1e3
    group = sum(token_s(catalog.device("attacc_bankgroup"), with_units=True).values()) * 1e3
    split = note + "; feed-forward split between GPU and banks"
    rows.append(row("DGX, HBM3", "ms a token", setup, 31.03, base, note))
    rows.append(row("AttAcc, bank", "ms a token", setup, 17.08, bank, split))
    rows.append(row("AttAcc, bank", "speed-up", setup, 31.03 / 17.08, base / bank, split, null=1.0))
    rows.append(order("AttAcc", "order: bank not slower than bank group", setup, bank <= group))
    return frame(rows)


def plot(rows: pd.DataFrame) -> "Figure":
    """Latencies and speed-up, published beside simulated."""
    return bars(rows, [("ms a token", "ms a token"), ("speed-up", "speed-up")], "AttAcc: published and simulated")
