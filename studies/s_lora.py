"""How many adapters can one GPU serve together? (S-LoRA, MLSys 2024, on LightLLM)"""

import functools
import pathlib
import tempfile
import tomllib
from typing import TYPE_CHECKING, Any

import pandas as pd

from kernels.errors import InputError
from sim.record.write import write_files
from sim.run.scenario import Scenario
from sim.run.setup import prepare
from sim.run.simulate import simulate
from sim.serving.engine_profile import FOLDER
from sim.show.plot_style import BLUE, ORANGE, new_figure, styled, suptitle
from studies._verdict import frame, order, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "S-LoRA (Sheng et al. 2024): 2,000 adapters on an A100 at 7.6 requests/s, where five had 8.05 and packing ends"

# The table suite of the authors, A100 80 GB: requests a second by number of adapters; Poisson at 10 a second for 120 s,
# prompts and outputs uniform on 8 to 511, adapters alike; base model, ranks that adapters have in turn.
SETTINGS = {"S1": ("llama-2-7b", "8"), "S2": ("llama-2-7b", "64+32+16+8"), "S4": ("llama-2-13b", "64+32+16")}
TABLE = {
    "S1": {5: 8.05, 100: 7.99, 1000: 7.64, 2000: 7.61},
    "S2": {5: 7.48, 100: 7.29, 1000: 6.69, 2000: 6.71},
    "S4": {2: 4.49, 100: 4.28, 1000: 3.96},
}
# The authors' result files, 300 s: base model (0) and adapters; at 10 requests a second (S2) and 6 (S4).
LONG = {"S2": {0: 9.64, 1: 7.74, 20: 7.93, 100: 7.74, 200: 7.52}, "S4": {0: 5.59, 1: 4.43, 100: 4.30, 400: 4.06}}
LONG_RATE, LONG_S = {"S2": 10, "S4": 6}, 300.0
# S4 with 400 adapters by rate: requests a second, and the mean latency where the load is borne (beyond it a wait is the
# difference of two rates)
SWEEP = {1: (0.94, 15.3), 2: (1.84, 17.2), 4: (3.54, 23.0), 8: (4.02, None)}
PACKED = {"S1": (5, 100), "S4": (2, 100)}  # merged copies that vLLM-packed ran, and that did not fit
PACKED_SHARE = 0.95  # of the memory, in equal parts
ENGINES = ("vllm_0.2_a100", "none")
OPEN = (
    "LightLLM's host time and kernels are not published: an eager vLLM of the time stands for them, and no host time "
    "at all as the other end (both serve the base model as published; vllm_2023_a100 serves half of it and is out); "
    "products for adapters as the library's, four projections a layer one after another; what a layer takes longer "
    "with S-LoRA's own kernels (a fixed time, not their bytes) is fitted for each engine on one adapter of S2, where "
    "the products alone cost 2 to 4 % of the published 20 %; prompts first, whole; Llama 2 for Llama"
)
RATE, LONGER, LATENCY = "requests a second", "requests a second, 300 s", "mean latency, s"
KEPT = "throughput kept from the fewest to the most adapters"

SMALL = {"settings": ("S2",), "engines": ("vllm_0.2_a100",)}


@functools.cache
def profile(engine: str, layer_s: float) -> str:
    """The engine with so much more time a layer, as the text of its file."""
    path = FOLDER / f"{engine}.toml"
    base = tomllib.loads(path.read_text()).get("layer_s", 0.0)
    lines = [line for line in path.read_text().splitlines() if not line.startswith("layer_s")]
    return "\n".join([lines[0], f"layer_s = {base + layer_s:.9f}", *lines[1:]])


def served(
    setting: str, num_adapter: int, engine: str, duration_s: float, rate: int = 10, layer_s: float = 0.0
) -> float:
    """Requests a second until the last has its answer; 0 adapters: the base model; else `layer_s` more a layer."""
    return measured(setting, num_adapter, engine, duration_s, rate, layer_s)[0]


@functools.cache
def measured(
    setting: str, num_adapter: int, engine: str, duration_s: float, rate: int, layer_s: float
) -> tuple[float, float]:
    """That rate, and the mean latency in seconds."""
    if num_adapter and layer_s:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "with_adapters.toml"
            write_files({path: profile(engine, layer_s).encode()})
            return _served(setting, num_adapter, str(path), duration_s, rate)
    return _served(setting, num_adapter, engine, duration_s, rate)


def _served(setting: str, num_adapter: int, engine: str, duration_s: float, rate: int) -> tuple[float, float]:
    model, ranks = SETTINGS[setting]
    load = f"poisson:rate={rate},duration_s={duration_s},prompt=uniform:min=8:max=511,output=uniform:min=8:max=511"
    scenario = Scenario(
        model=model, system="a100_sxm_80gb", weight_format="fp16", engine=engine,
        policy="vllm_v0:max_token=8192,max_seq=512", lora_rank=ranks if num_adapter else "",
        requests=load + (f",num_adapter={num_adapter}" if num_adapter else ""),
    )  # fmt: skip
    found = simulate(scenario).metrics
    return float(found["request_throughput"]), 1e-3 * float(found["mean_e2el_ms"])


def adapter_layer_s(engine: str, share: float) -> float:
    """Seconds more a layer at which one adapter of S2 is served as fast as published."""
    low, high = 0.0, 4e-3
    for _ in range(10):
        middle = (low + high) / 2
        rate = served("S2", 1, engine, LONG_S * share, LONG_RATE["S2"], middle)
        low, high = (middle, high) if rate > LONG["S2"][1] else (low, middle)
    return (low + high) / 2


def packs(model: str, copies: int) -> bool:
    """Whether so many merged copies have room for their weights and a sequence each."""
    try:
        prepare(Scenario(model=model, system="a100_sxm_80gb", weight_format="fp16", memory_share=PACKED_SHARE / copies))
    except InputError:
        return False
    return True


def run(
    settings: tuple[str, ...] = tuple(TABLE), engines: tuple[str, ...] = ENGINES, share: float = 1.0
) -> pd.DataFrame:
    """Rows of the table, of what many adapters cost, and of the copies that fit; of each run a `share` of its time."""
    table: list[dict[str, Any]] = []
    falls = []
    more = {engine: adapter_layer_s(engine, share) for engine in engines}
    for setting in settings:
        paper = TABLE[setting]
        ours = {
            n: [served(setting, n, engine, 120.0 * share, layer_s=more[engine]) for engine in engines] for n in paper
        }
        for n, rate in paper.items():
            table.append(row("S-LoRA", RATE, f"{setting}, {n} adapters", rate, ours[n][0], OPEN, tag="approx",
                             spread=ours[n]))  # fmt: skip
        long = {
            n: [served(setting, n, engine, LONG_S * share, LONG_RATE[setting], more[engine]) for engine in engines]
            for n in LONG.get(setting, ())
        }
        for n, values in long.items():
            kind = "fitted" if (setting, n) == ("S2", 1) else "number"
            table.append(row("S-LoRA" if n else "LightLLM", LONGER, f"{setting}, {n} adapters", LONG[setting][n],
                             values[0], OPEN, spread=values, kind=kind))  # fmt: skip
        for rate, (published, latency_s) in SWEEP.items() if setting == "S4" else ():
            each = [measured(setting, 400, engine, LONG_S * share, rate, more[engine]) for engine in engines]
            where = f"{setting}, 400 adapters at {rate} a second"
            rates, seconds = [one[0] for one in each], [one[1] for one in each]
            table.append(row("S-LoRA", LONGER, where, published, rates[0], OPEN, spread=rates))
            if latency_s is not None:
                table.append(row("S-LoRA", LATENCY, where, latency_s, seconds[0], OPEN, spread=seconds))
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
