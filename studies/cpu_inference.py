"""What do batches and pinned workers bring a language model on CPUs? (PS et al. 2024, Xeon)"""

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from hw_models import catalog
from hw_models.device import machine
from hw_models.spec import System
from kernels.machine import Machine
from studies._panels import Panel, panels
from studies._steps import arrays, decode_s
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "PS et al. 2024: 18 to 22 times the tokens a second on a CPU by batches, 4 times more by 4 pinned workers"
SMALL: dict[str, Any] = {"batches": (1, 32), "models": ("llama-2-7b",)}
SYSTEM = "epyc_9554"  # a socket of the catalogue; theirs has 32 virtual CPUs of a Xeon with matrix units a worker
CORE, NUMA = 16, 4  # cores of 32 virtual CPUs; memory domains of a socket
BATCHES, MODELS, CONTEXT = (1, 4, 16, 32, 64), ("llama-2-7b", "llama-2-13b"), 512
POWER_W = {"A100, EPYC 7V13": 1252.0, "Xeon Gold 6538N": 613.0}  # published watts of the two machines
RATE, GAIN, JOULE = "tokens/s", "tokens/s over one sequence", "joules a token"
NOTE = (
    "a quarter of a 64-core socket at its peak rates: 16 cores and a quarter of the channels, as one of four memory "
    "domains; bf16, 512 tokens of context; the baseline, the batches and the models of the claim are not published"
)


def worker(num: int = 1) -> Machine:
    """So many domains of the socket as one machine; four are the socket."""
    card = catalog.device(SYSTEM)
    share = num / NUMA
    own = machine(System("worker", catalog.node(catalog.system(SYSTEM).node.name, with_device=replace(
        card, mem_byte_per_s=share * card.mem_byte_per_s, vector_flop_per_s=share * card.vector_flop_per_s,
        num_core=round(share * card.num_core), l2_byte=share * card.l2_byte,
        l2_byte_per_s=share * card.l2_byte_per_s,
    ))))  # fmt: skip
    own.peak_flop_per_s[:] *= share
    return own


def rate(model: str, where: Machine, batch: int) -> float:
    """Tokens a second of so many sequences."""
    return batch / decode_s(model, where, batch, CONTEXT)


def run(batches: tuple[int, ...] = BATCHES, models: tuple[str, ...] = MODELS) -> pd.DataFrame:
    """Tokens a second by batch and workers, and joules a token beside a GPU's."""
    one, rows = worker(), []
    gains: dict[str, list[float]] = {}
    for model in models:
        values = [rate(model, one, batch) for batch in batches]
        gains[model] = [value / values[0] for value in values]
        for batch, value, gain in zip(batches, values, gains[model], strict=True):
            rows += [point("1 worker", RATE, f"{model}, batch {batch}", value, NOTE),
                     point("4 workers", RATE, f"{model}, batch {batch}", NUMA * value, NOTE),
                     point("1 worker", GAIN, f"{model}, batch {batch}", gain, NOTE)]  # fmt: skip
        rows.append(order("1 worker", "order: batches raise tokens a second, by less than their size", model,
                          all(a < b for a, b in itertools.pairwise(gains[model]))
                          and gains[model][-1] < batches[-1], NOTE))  # fmt: skip
        gpu = rate(model, arrays("a100_sxm_80gb"), 32)
        cpu = NUMA * rate(model, one, 32)
        joule = dict(zip(POWER_W, (POWER_W["A100, EPYC 7V13"] / gpu, POWER_W["Xeon Gold 6538N"] / cpu), strict=True))
        rows += [point(name, JOULE, f"{model}, batch 32", value, NOTE) for name, value in joule.items()]
        rows.append(order("Xeon Gold 6538N", "order: half the watts are not half the joules a token",
                          f"{model}, batch 32 a worker", joule["Xeon Gold 6538N"] > joule["A100, EPYC 7V13"],
                          f"published: watts of the machines, 613 for 1,252; {NOTE}"))  # fmt: skip
    most = [max(value) for value in gains.values()]
    rows.append(row("1 worker", "tokens/s, batched over one by one", "batches of the paper", 20.0, most[0],
                    f"published: 18 to 22; {NOTE}", tag="approx", said=True, spread=most))  # fmt: skip
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Tokens a second by batch, what batches gain, and joules a token."""
    model = MODELS[0]
    return panels(table, [Panel(RATE, model, RATE, f"{model}, batch ", curve=True, log=True),
                          Panel(GAIN, f"{model}, one worker", GAIN, f"{model}, batch ", curve=True),
                          Panel(JOULE, "at published watts", JOULE)], "Llama on CPUs", columns=3)  # fmt: skip
