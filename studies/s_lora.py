"""How many adapters can one GPU serve together? (S-LoRA, MLSys 2024, on LightLLM)"""

import functools
import pathlib
import tempfile
import tomllib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from hw_models import catalog
from kernels.errors import InputError
from sim.record.write import write_files
from sim.run.scenario import Scenario
from sim.run.setup import prepare
from sim.run.simulate import simulate
from sim.serving.engine_profile import FOLDER
from sim.show.plot_style import BLUE, ORANGE, new_figure, styled, suptitle
from studies._verdict import frame, order, row
from workloads import models

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "S-LoRA (Sheng et al. 2024): 2,000 adapters on an A100 at 7.6 requests/s, where five had 8.05 and packing ends"

# The table suite of the authors, A100 80 GB: requests a second by number of adapters; Poisson at 10 a second for 120 s,
# prompts and outputs uniform on 8 to 511, adapters alike; base model, ranks that adapters have in turn.
SETTINGS = {"S1": ("llama-2-7b", "8"), "S2": ("llama-2-7b", "64+32+16+8"), "S4": ("llama-2-13b", "64+32+16")}
TOKEN = {"llama-2-7b": 125_000, "llama-2-13b": 65_000}  # of KV and adapters (`--num-token` of their launch scripts)
TABLE = {
    "S1": {5: 8.05, 100: 7.99, 1000: 7.64, 2000: 7.61},
    "S2": {5: 7.48, 100: 7.29, 1000: 6.69, 2000: 6.71},
    "S4": {2: 4.49, 100: 4.28, 1000: 3.96},
}
# The authors' result files, 300 s: base model (0) and adapters; at 10 requests a second (S2) and 6 (S4).
LONG = {"S2": {0: 9.64, 1: 7.74, 20: 7.93, 100: 7.74, 200: 7.52}, "S4": {0: 5.59, 1: 4.43, 100: 4.30, 400: 4.06}}
LONG_RATE, LONG_S = {"S2": 10, "S4": 6}, 300.0
BASE = {"S2": 22.2, "S4": 25.2}  # mean latency of the base model in those runs, s
# S4 with 400 adapters by rate: requests a second, and the mean latency where the load is borne (beyond it a wait is the
# difference of two rates)
SWEEP = {1: (0.94, 15.3), 2: (1.84, 17.2), 4: (3.54, 23.0), 8: (4.02, None)}
PACKED = {"S1": (5, 100), "S4": (2, 100)}  # merged copies that vLLM-packed ran, and that did not fit
PACKED_SHARE = 0.95  # of the memory, in equal parts
SYSTEM, HOST = "a100_sxm_80gb", "vllm_0.2_a100"
INDEX_S = 12e-6
"""Each step writes each of its requests' adapter numbers to the device, one by one (`lora_unordered_batch_infer.py`): a
launch of PyTorch (FlashRNN's steps)."""
GATHERED = 3 * 4
"""Rows of the model's width that a decoded token reads a rank and layer, in four projections: a block of the BGMV
kernel reads a row of the factor down and the token's input, another one of the factor up (`bgmv_impl.cuh`)."""
CACHE_SHARES = (1.0, 0.5)  # of the L2 cache's peak rate, at which they are read
OPEN = (
    "LightLLM's router, memory and limits as the authors' scripts have them; its host time is not published: that of "
    "an eager vLLM of the year stands for it, the one of three that serves the base model (another one serves half of "
    "it; without any it answers in 7 s, which took 22). Adapters: the factors that a decoded token reads by itself "
    "(their kernel), at the L2 cache's peak rate or half of it; a launch a request; and a fixed time a layer, fitted "
    "on one adapter of S2; tried: a quarter of that rate, launches of 6 and 15 us, which no rate tells apart; Llama 2 "
    "for Llama"
)
RATE, LONGER, LATENCY = "requests a second", "requests a second, 300 s", "mean latency, s"
KEPT = "throughput kept from the fewest to the most adapters"

SMALL = {"settings": ("S2",), "cache_shares": (1.0,)}


class Cost(NamedTuple):
    """What adapters take beside their products: the share of L2's rate that reads have, seconds a layer."""

    cache_share: float
    layer_s: float


@functools.cache
def profile(seq_s: float, layer_s: float) -> str:
    """The host with so much more time a sequence and a layer, as the text of its file."""
    text = (FOLDER / f"{HOST}.toml").read_text()
    base = tomllib.loads(text)
    kept = [line for line in text.splitlines() if not line.startswith(("seq_s", "layer_s"))]
    new = [f"seq_s = {base['seq_s'] + seq_s:.9f}", f"layer_s = {base.get('layer_s', 0.0) + layer_s:.9f}"]
    return "\n".join([kept[0], *new, *kept[1:]])


def token_s(setting: str, num_adapter: int, cache_share: float) -> float:
    """Seconds a decoded token: its adapter's number, and the factors that it reads."""
    model, rank = models.load(SETTINGS[setting][0]), [int(one) for one in SETTINGS[setting][1].split("+")]
    mean_rank = np.mean([rank[n % len(rank)] for n in range(num_adapter)])
    byte = 2.0 * GATHERED * model.num_layer * model.hidden * float(mean_rank)
    return INDEX_S + byte / (cache_share * catalog.system(SYSTEM).device.l2_byte_per_s)


@functools.cache
def measured(setting: str, num_adapter: int, duration_s: float, rate: int, cost: Cost) -> tuple[float, float]:
    """Requests a second until the last has its answer, and the mean latency in seconds; 0 adapters: the base model."""
    model, ranks = SETTINGS[setting]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "with_adapters.toml"
        if num_adapter:
            text = profile(token_s(setting, num_adapter, cost.cache_share), cost.layer_s)
            write_files({path: text.encode()})
        load = f"poisson:rate={rate},duration_s={duration_s},prompt=uniform:min=8:max=511,output=uniform:min=8:max=511"
        scenario = Scenario(
            model=model, system=SYSTEM, weight_format="fp16", engine=str(path) if num_adapter else HOST,
            policy=f"lightllm:max_token={TOKEN[model] // 6}", block_token=1, memory_share=share_of(model),
            lora_rank=ranks if num_adapter else "",
            requests=load + (f",num_adapter={num_adapter}" if num_adapter else ""),
        )  # fmt: skip
        found = simulate(scenario).metrics
    return float(found["request_throughput"]), 1e-3 * float(found["mean_e2el_ms"])


@functools.cache
def share_of(model: str) -> float:
    """The share of the device's memory that leaves room for the published tokens."""
    low, high = 0.5, 1.0
    for _ in range(24):
        middle = (low + high) / 2
        room = prepare(Scenario(model=model, system=SYSTEM, weight_format="fp16", block_token=1, memory_share=middle))
        low, high = (low, middle) if room.num_block >= TOKEN[model] else (middle, high)
    return high


def adapter_layer_s(cache_share: float, share: float) -> float:
    """Seconds more a layer at which one adapter of S2 is served as fast as published."""
    low, high = 0.0, 4e-3
    for _ in range(10):
        middle = (low + high) / 2
        rate, _ = measured("S2", 1, LONG_S * share, LONG_RATE["S2"], Cost(cache_share, middle))
        low, high = (middle, high) if rate > LONG["S2"][1] else (low, middle)
    return (low + high) / 2


def packs(model: str, copies: int) -> bool:
    """Whether so many merged copies have room for their weights and a sequence each."""
    try:
        prepare(Scenario(model=model, system=SYSTEM, weight_format="fp16", memory_share=PACKED_SHARE / copies))
    except InputError:
        return False
    return True


def run(
    settings: tuple[str, ...] = tuple(TABLE), cache_shares: tuple[float, ...] = CACHE_SHARES, share: float = 1.0
) -> pd.DataFrame:
    """Rows of the table, of what many adapters cost, and of the copies that fit; of each run a `share` of its time."""
    table: list[dict[str, Any]] = []
    falls = []
    costs = [Cost(one, adapter_layer_s(one, share)) for one in cache_shares]
    for setting in settings:
        paper, every = TABLE[setting], LONG_RATE.get(setting, 0)
        ours = {n: [measured(setting, n, 120.0 * share, 10, cost)[0] for cost in costs] for n in paper}
        for n, rate in paper.items():
            table.append(row("S-LoRA", RATE, f"{setting}, {n} adapters", rate, ours[n][0], OPEN, tag="approx",
                             spread=ours[n]))  # fmt: skip
        for n, rate in LONG.get(setting, {}).items():
            each = [measured(setting, n, LONG_S * share, every, cost) for cost in costs[: None if n else 1]]
            name, where, values = "S-LoRA" if n else "LightLLM", f"{setting}, {n} adapters", [one[0] for one in each]
            kind = "fitted" if n == 0 or (setting, n) == ("S2", 1) else "number"  # the host, and what a layer takes
            table.append(row(name, LONGER, where, rate, values[0], OPEN, spread=values, kind=kind))
            if n == 0:
                note = f"bound by the host: no fit of its own was made, which would move S4's away; {OPEN}"
                table.append(row(name, LATENCY, where, BASE[setting], each[0][1], note))
        for one, (rate, latency_s) in SWEEP.items() if setting == "S4" else ():
            each = [measured(setting, 400, LONG_S * share, one, cost) for cost in costs]
            where = f"{setting}, 400 adapters at {one} a second"
            table.append(row("S-LoRA", LONGER, where, rate, each[0][0], OPEN, spread=[pair[0] for pair in each]))
            if latency_s is not None:
                note = f"what a layer takes is fitted where the load is not borne; {OPEN}"
                table.append(row("S-LoRA", LATENCY, where, latency_s, each[0][1], note,
                                 spread=[pair[1] for pair in each]))  # fmt: skip
        few, many = min(paper), max(paper)
        kept = [b / a for a, b in zip(ours[few], ours[many], strict=True)]
        table.append(row("S-LoRA", KEPT, f"{setting}, {few} to {many}", paper[many] / paper[few], kept[0], OPEN,
                         tag="approx", null=1.0, spread=kept))  # fmt: skip
        falls.append(all(part <= 1.02 for part in kept))
    table.append(order("S-LoRA", "more adapters never serve more", "all settings, 2 % of draws", all(falls)))
    for setting, (fits, too_many) in PACKED.items():
        model = SETTINGS[setting][0]
        table.append(order("vLLM-packed", f"{fits} merged copies fit, {too_many} do not", f"{setting}, A100 80 GB",
                           packs(model, fits) and not packs(model, too_many)))  # fmt: skip
    return frame(table)


@styled
def plot(table: pd.DataFrame) -> "Figure":
    """Requests a second by number of adapters, an axis a setting; published as marks."""
    part = table[(table["claim"] == RATE) & table["paper"].notna()].copy()
    part["setting"] = part["setup"].str.split(",").str[0]
    part["adapters"] = part["setup"].str.split().str[1].astype(int)
    settings = list(dict.fromkeys(part["setting"]))
    figure, axes = new_figure(1, len(settings), (max(5.0, 3.2 * len(settings)), 3.4))
    for axis, setting in zip([axes] if len(settings) == 1 else axes, settings, strict=True):
        own = part[part["setting"] == setting]
        axis.plot(own["adapters"], own["simulated"], "-", color=BLUE, label="simulated")
        axis.plot(own["adapters"], own["paper"], "o", color=ORANGE, mfc="white", label="published")
        most = float(own[["paper", "simulated"]].max().max())
        axis.set(title=setting, xlabel="adapters", ylabel="requests/s", xscale="log", ylim=(0, 1.08 * most))
    (axes if len(settings) == 1 else axes[0]).legend(loc="lower left")
    suptitle(figure, "S-LoRA: one A100, requests of many adapters")
    return figure
