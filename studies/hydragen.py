"""How many sequences fit behind one prefix, and how fast are they? (Hydragen, Juravsky et al. 2024, CodeLlama)"""

import json
import pathlib
import tempfile
from typing import TYPE_CHECKING, Any

import pandas as pd

from sim.record.export import write_json
from sim.run.scenario import Scenario
from sim.run.setup import prepare
from sim.run.simulate import simulate
from studies._panels import Panel, panels
from studies._verdict import frame, order, point, row
from workloads.models.catalogue import FOLDER

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Hydragen (Juravsky et al. 2024): a prefix of 16K costs CodeLlama-13B less than 15 % of the throughput of 1K"
SMALL = {"prefixes": (1024, 16256)}
SYSTEM, TP, NEW = "dgx_a100_40gb", 8, 128  # 40 GB: where the unshared runs stop fits no other A100
PREFIXES = (1024, 2048, 4096, 8192, 16256)
# CodeLlama: a model of the same shapes, the largest batch of the grid, and where runs without sharing stop
MODELS: dict[str, tuple[str, int, dict[int, int]]] = {
    "7B": ("llama-2-7b", 2048, {16256: 32, 8192: 64, 4096: 128, 2048: 256}),
    "13B": ("llama-2-13b", 1024, {8192: 32, 4096: 64, 2048: 128, 1024: 256}),
    "34B": ("codellama-34b", 4096, {16256: 64, 8192: 128, 4096: 256, 2048: 512}),
}
LARGEST, RATE = "largest batch without sharing", "thousand tokens/s"
MODES = {"Hydragen": "hydragen", "paged": "paged"}
NOTE = (
    "8 A100 40 GB (derived from where they stop), tensor parallel, 128 new tokens; batches are powers of two; the "
    "authors' own code takes what it needs: no engine's reserve"
)
OPEN = (
    "no engine's host time; prefix cached and shared in both, read once a step or once for each sequence; batch of the "
    "claim not published; what the authors' code takes beside its kernels is not known: it would lower the prefix's "
    "share"
)


def largest(model: str, prefix: int, most: int) -> int:
    """The largest power of two whose sequences, each with a prefix of its own, fit."""
    budget = prepare(Scenario(model=model, system=SYSTEM, tp=TP, weight_format="fp16", memory_share=1.0)).budget
    batch = most
    while batch > 1 and batch * budget.sequence_byte(prefix + NEW) > budget.kv:
        batch //= 2
    return batch


def tokens_per_s(attention: str, prefix: int, batch: int) -> float:
    """Output tokens a second of CodeLlama-13B (Llama-2-13B with 16K tokens of context) behind one prefix, while all
    sequences decode."""
    load = f"batch:n={batch},prompt=16,output={NEW},num_system_prompt=1,system_prompt_len={prefix}"
    config = json.loads((FOLDER / "configs" / "llama-2-13b.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "codellama-13b.json"
        write_json(config | {"max_position_embeddings": 16384 + 2 * NEW}, path)
        return _decoding(str(path), attention, load, batch)


def _decoding(model: str, attention: str, load: str, batch: int) -> float:
    scenario = Scenario(
        model=model, system=SYSTEM, tp=TP, weight_format="fp16", attention=attention, prefix_cache=True,
        requests=load, max_num_seq=batch,
    )  # fmt: skip
    return 1e3 * batch / float(simulate(scenario).metrics["median_itl_ms"])


def run(prefixes: tuple[int, ...] = PREFIXES, batch: int = 1024) -> pd.DataFrame:
    """Where runs without sharing stop, and tokens a second by prefix with its keys read once or for each sequence."""
    rows: list[dict[str, Any]] = []
    for name, (model, most, published) in MODELS.items():
        for prefix, paper in published.items():
            rows.append(
                row("no sharing", LARGEST, f"{name}, prefix {prefix}", paper, largest(model, prefix, most), NOTE)
            )
    found = {mode: [tokens_per_s(kind, p, batch) / 1e3 for p in prefixes] for mode, kind in MODES.items()}
    for mode, values in found.items():
        rows += [point(mode, RATE, f"13B, prefix {p}", v, OPEN) for p, v in zip(prefixes, values, strict=True)]
    where = f"13B, batch {batch}, prefix of {prefixes[0]} and {prefixes[-1]}"
    for mode, least, most_ in (("Hydragen", 0.0, 0.15), ("paged", 0.9, 1.0)):
        lost = 1 - found[mode][-1] / found[mode][0]
        text = f"loses less than {most_:.0%}" if mode == "Hydragen" else f"loses more than {least:.0%}"
        rows.append(order(mode, f"order: {text}", where, least <= lost < most_, f"{lost:.1%}; {OPEN}"))
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Largest batches by model and prefix, and tokens a second by prefix."""
    shown = [Panel(LARGEST, f"CodeLlama-{name}", "sequences", f"{name}, ") for name in MODELS]
    return panels(table, [*shown, Panel(RATE, "one prefix for all", RATE, "13B, ", curve=True)],
                  "Hydragen: CodeLlama on 8 A100 40 GB")  # fmt: skip
