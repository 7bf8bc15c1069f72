"""How long may a prompt be that a whole batch completes? (Hydragen, 2024, CodeLlama-13B on eight A100)"""

from typing import TYPE_CHECKING, Any

import pandas as pd

from sim.run.scenario import Scenario
from sim.run.simulate import simulate
from sim.show.plot_style import BLUE, ORANGE, new_figure, styled, suptitle
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "Hydragen (Juravsky et al. 2024): CodeLlama-13B up to 32x faster; a prefix of 16K costs it < 15 %, others > 90 %"
)

# The authors' sweep: tensor parallel 8, 128 new tokens a sequence, batches behind one prompt; all of it is the prefix.
PREFIXES, BATCHES, OUTPUT, BLOCK = (1024, 2048, 4096, 8192, 16256), (32, 64, 128, 256, 512, 1024), 128, 16
ENGINES = ("none", "vllm_2023_a100")
OPEN = (
    "the GPU is inferred (A100 40 GB: where the authors' unshared runs stop); the baseline holds the prefix once and "
    "reads it for each sequence, at this calibration's decode attention, not at vLLM's of 2023; no sampling of the "
    "authors' kernels; the batch of the 15 and 90 % is the largest of the sweep"
)
RATE = "tokens a second"

SMALL = {"prefixes": (1024, 16256), "batches": (32, 1024), "engines": ("none",)}


def rate(attention: str, prefix: int, batch: int, engine: str) -> float:
    """Generated tokens a second of a batch of completions of one prompt, prompt included."""
    load = f"batch:n={batch},prompt={BLOCK},output={OUTPUT},num_system_prompt=1,system_prompt_len={prefix - BLOCK}"
    scenario = Scenario(
        model="llama-2-13b", max_model_len=32768, system="dgx_a100_40gb", tp=8, weight_format="fp16", engine=engine,
        policy=f"vllm_v0:max_token=16384,max_seq={batch}", requests=load, attention=attention,
    )  # fmt: skip
    return float(simulate(scenario).metrics["output_throughput"])


def run(
    prefixes: tuple[int, ...] = PREFIXES, batches: tuple[int, ...] = BATCHES, engines: tuple[str, ...] = ENGINES
) -> pd.DataFrame:
    """The largest gain of the sweep, and what the longest prefix costs at the largest batch."""
    table: list[dict[str, Any]] = []
    best, held, lost = [], [], []
    for engine in engines:
        found = {
            (attention, prefix, batch): rate(attention, prefix, batch, engine)
            for attention in ("hydragen", "paged") for prefix in prefixes for batch in batches
        }  # fmt: skip
        best.append(max(found["hydragen", p, b] / found["paged", p, b] for p in prefixes for b in batches))
        large, short, long = max(batches), min(prefixes), max(prefixes)
        held.append(found["hydragen", long, large] / found["hydragen", short, large])
        lost.append(found["paged", long, large] / found["paged", short, large])
        if engine == engines[0]:
            table += [
                point(attention, RATE, f"prefix {prefix}, batch {batch}", value)
                for (attention, prefix, batch), value in found.items() if batch == large
            ]  # fmt: skip
    setup = "CodeLlama-13B, 8 A100"
    table.append(row("Hydragen", "largest gain of the sweep", setup, 32.0, best[0], OPEN, tag="approx", spread=best))
    for claim, true in (
        ("a prefix of 16K costs less than 15 % of the rate at 1K", all(share > 0.85 for share in held)),
        ("read by each sequence it costs more than 90 %", all(share < 0.1 for share in lost)),
    ):
        kept = f"kept {min(held):.3g} to {max(held):.3g}, read by each {min(lost):.3g} to {max(lost):.3g}"
        table.append(order("Hydragen", claim, setup, true, f"{kept}; {OPEN}"))
    return frame(table)


@styled
def plot(table: pd.DataFrame) -> "Figure":
    """Tokens a second of the largest batch against the prefix."""
    figure, axis = new_figure(1, 1, (5.0, 3.6))
    part = table[table["claim"] == RATE]
    for name, color in (("hydragen", BLUE), ("paged", ORANGE)):
        own = part[part["system"] == name]
        axis.plot(
            own["setup"].str.extract(r"prefix (\d+)")[0].astype(int), own["simulated"], "o-", color=color, label=name
        )
    axis.set(xlabel="shared prefix (tokens)", ylabel="tokens/s", xscale="log", yscale="log")
    axis.legend()
    suptitle(figure, "Hydragen: completions of one prompt, largest batch")
    return figure
