"""Does logic under the DRAM stack double the throughput of mixture-of-experts serving? (Duplex, MICRO 2024)

The decode steps of its published simulator, its closed-loop throughput and energy against a GPU and Bank-PIM.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from hw_models import catalog
from hw_models.spec import System
from sim.coprocess import POLICIES, Step, step
from studies._claims import bars, frame, holds, row
from workloads import models
from workloads.lowering import Plan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Duplex (Yun et al. 2024): 2.07x the throughput of GPUs on average, 2.67x at most, 28 % less energy"
GRID = tuple((length, batch) for length in (256, 1024, 2048, 4096) for batch in (32, 64, 128))
TWINS: dict[str, tuple[str, str]] = {
    "GPU": ("h100_sxm", "gpu"),
    "Bank-PIM": ("bank_pim", "pim"),
    "Duplex": ("duplex", "pim"),
    "Duplex+PE": ("duplex", "pim+pe"),
    "Duplex+PE+ET": ("duplex", "pim+pe+et"),
}
"""Device and policy of each machine that is compared."""


class Setup(NamedTuple):
    """Model and placement of the paper's Table I: tensor parallel in a node, data parallel over nodes."""

    model: str
    tp: int
    dp: int = 1


MOE = (Setup("mixtral-8x7b", 4), Setup("glam-143b", 8), Setup("grok-1", 8, 2))
DENSE = (Setup("llama-3-70b", 4), Setup("opt-66b", 4))

STEPS = {  # batch, input -> ms of GPU, Bank-PIM, Duplex, +PE, +PE+ET: the published simulator, Mixtral on 4 devices
    (32, 256): (7.460, 4.758, 2.771, 2.771, 2.527),
    (32, 2048): (8.038, 4.898, 2.911, 2.911, 2.667),
    (64, 2048): (8.837, 7.744, 4.993, 4.913, 3.592),
}


def system(device: str) -> System:
    """A box of eight such devices on the paper's links."""
    return System(device, catalog.node("duplex_x8", with_device=catalog.device(device)))


def plan(num_decode: int, kv_len: int, num_prefill: int = 0, prompt: int = 1) -> Plan:
    """Decodes at `kv_len` tokens and prompts of `prompt` tokens in one iteration."""
    query = np.concatenate([np.full(num_prefill, prompt), np.ones(num_decode)]).astype(np.int64)
    kv = np.concatenate([np.full(num_prefill, prompt), np.full(num_decode, kv_len)]).astype(np.int64)
    decode = np.arange(len(query)) >= num_prefill
    return Plan(query, kv, decode, np.ones(len(query), bool))


def one(name: str, setup: Setup, iteration: Plan) -> Step:
    """An iteration on one of `TWINS`."""
    device, policy = TWINS[name]
    return step(models.load(setup.model), system(device), POLICIES[policy], iteration, tp=setup.tp, dp=setup.dp)


class Loop(NamedTuple):
    """A closed loop in its steady state."""

    step_s: float  # mean iteration
    decode_s: float  # an iteration without a prompt
    token_j: float
    mixed: float  # share of iterations with a prompt


def closed_loop(name: str, setup: Setup, prompt: int, output: int, batch: int) -> Loop:
    """`batch` sequences always running: one that ends (once in `output` iterations) is replaced by a new prompt,
    which is prefilled whole in one iteration beside the decodes, as in continuous batching."""
    group = max(1, batch // setup.dp)
    kv_len = prompt + output // 2
    pure = one(name, setup, plan(group, kv_len))
    mean = batch / output  # prompts an iteration
    mixed = 1 - (1 - 1 / output) ** batch
    arrive = max(1, round(mean / mixed / setup.dp))
    both = one(name, setup, plan(max(1, group - arrive), kv_len, arrive, prompt))
    mean_s = (1 - mixed) * pure.time_s + mixed * both.time_s
    energy = (1 - mixed) * pure.energy_j + mixed * both.energy_j
    return Loop(mean_s, pure.time_s, energy / batch, mixed)


def run() -> pd.DataFrame:
    """Every claim, a row each."""
    rows = [*_steps(), *_throughput(), *_latency()]
    return frame(rows)


def _steps() -> list[dict[str, Any]]:
    rows = []
    note = "operator roofline on the operators of any GPU, uniform random routing, links of 0.8 us"
    reason = {
        "Duplex+PE": "; the split is decided by a look-up that counts on 75 % of the bandwidths, as published",
        "Duplex+PE+ET": "; the same look-up; one more all-reduce a layer, of the experts' partial sums, as published",
    }
    for (batch, length), published in STEPS.items():
        for name, value in zip(TWINS, published, strict=True):
            time = one(name, MOE[0], plan(batch, length)).time_s * 1e3
            label = f"batch {batch}, {length} in"
            rows.append(row(name, "decode step, ms", label, value, time, 0.05, note + reason.get(name, "")))
    return rows


def _throughput() -> list[dict[str, Any]]:
    rows, gain, saving, against_bank = [], {}, {}, []
    for setup in MOE:
        for length, batch in GRID:
            base, full = (closed_loop(name, setup, length, length, batch) for name in ("GPU", "Duplex+PE+ET"))
            gain[setup.model, length, batch] = base.step_s / full.step_s
            saving[setup.model, length, batch] = 1 - full.token_j / base.token_j
            if setup == MOE[0]:
                bank = closed_loop("Bank-PIM", setup, length, length, batch)
                plain = closed_loop("Duplex", setup, length, length, batch)
                against_bank.append((length, batch, base.step_s, bank.step_s, plain.step_s))
    grid = "3 MoE models, 256 to 4096, batch 32 to 128"
    note = "closed loop in its mean: kv at half the output, whole prompts beside decodes, peak rates"
    rows.append(row("Duplex", "throughput over GPU, mean", grid, 2.07, float(np.mean(list(gain.values()))), 0.10, note))
    rows.append(row("Duplex", "throughput over GPU, most", grid, 2.67, max(gain.values()), 0.10, note))
    energy = "bytes at 3.48 pJ/bit or the units' own, 0.46 pJ a multiply-accumulate, no static power"
    saved = float(np.mean(list(saving.values())))
    rows.append(row("Duplex", "energy saved, mean", grid, 0.2819, saved, 0.04, energy, points=True))
    ratio = {(length, batch): (base / bank, base / plain) for length, batch, base, bank, plain in against_bank}
    rows.append(row("Bank-PIM", "throughput over GPU, Mixtral", "4096, batch 32", 2.17, ratio[4096, 32][0], 0.10, note))
    rows.append(row("Bank-PIM", "throughput over GPU, Mixtral", "256, batch 64", 1.18, ratio[256, 64][0], 0.10, note))
    rows.append(row("Duplex", "throughput over GPU, Mixtral", "256, batch 64", 2.05, ratio[256, 64][1], 0.10, note))
    mean = float(np.mean([bank / plain for *_, bank, plain in against_bank]))
    rows.append(row("Duplex", "throughput over Bank-PIM, mean", "Mixtral, the grid", 1.49, mean, 0.10, note))
    rows.append(holds("Duplex", "order: above GPU everywhere", grid, min(gain.values()) > 1))
    for setup, winner in zip(DENSE, ("Duplex", "Bank-PIM"), strict=True):
        slow_bank, slow_plain = (closed_loop(name, setup, 2048, 2048, 64).step_s for name in ("Bank-PIM", "Duplex"))
        first = slow_plain <= slow_bank if winner == "Duplex" else slow_bank < slow_plain
        rows.append(holds(winner, "order: faster of Duplex and Bank-PIM", f"{setup.model}, 2048, batch 64", first))
    return rows


def _latency() -> list[dict[str, Any]]:
    rows, tbt, e2e = [], [], []
    for length in (512, 1024, 2048):
        base, full = (closed_loop(name, MOE[1], length, length, 64) for name in ("GPU", "Duplex+PE+ET"))
        tbt.append(1 - full.decode_s / base.decode_s)
        e2e.append(1 - full.step_s / base.step_s)
    note = "mean of 512, 1024, 2048 in and out; the median gap is an iteration without a prompt"
    rows.append(
        row("Duplex", "median TBT saved", "GLaM, batch 64", 0.583, float(np.mean(tbt)), 0.06, note, points=True)
    )
    rows.append(
        row("Duplex", "E2E latency saved", "GLaM, batch 64", 0.602, float(np.mean(e2e)), 0.06, note, points=True)
    )
    for name, published in (("GPU", 9.0), ("Duplex+PE+ET", 14.0)):
        loop = closed_loop(name, MOE[0], 4096, 512, 128)
        saturate = 128 / (512 * loop.step_s)
        rows.append(row(name, "saturation, requests/s", "Mixtral, 4096 in, 512 out", published, saturate, 0.10,
                              "throughput of the full batch"))  # fmt: skip
    return rows


def plot(rows: pd.DataFrame) -> "Figure":
    """Decode steps, ratios and savings, published beside simulated."""
    panels = [
        ("decode step", "ms a decode step"),
        ("throughput over", "throughput ratio"),
        ("saturation", "requests/s"),
    ]
    return bars(rows, panels, "Duplex: published and simulated")
