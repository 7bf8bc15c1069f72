"""What do tokens bring that are merged anew for every batch? (Dynamic tokenization, Feher et al., ACL 2025)"""

import functools
from typing import TYPE_CHECKING, Any

import pandas as pd

from studies._kernels import encoder, encoder_s
from studies._panels import Panel, panels
from studies._steps import arrays, step_s
from studies._verdict import frame, order, point

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Dynamic tokenization (Feher et al. 2025): a fifth fewer tokens for XLM-R, a sixth fewer in Mistral's prompts"
SMALL: dict[str, Any] = {"systems": ("a100_sxm_80gb",), "lengths": (64, 512)}
# tokens merged away: "over 20 %" of 14 languages (XLM-R), "up to 17 %" (Mistral-7B, prompts)
FEWER = {"XLM-R": 0.20, "Mistral-7B": 0.17}
MODEL, LAYER, WIDTH, HEAD = "mistral-7b", 12, 768, 12  # XLM-R base: an encoder
PIECES, PREDICTOR_LAYER = 3, 3  # old tokens of a merged one; layers of the network that predicts its embedding
LENGTHS, BATCH = (64, 128, 512, 2048), 32
SYSTEMS = ("a100_sxm_80gb", "rtx_3090")
FRESH = (1.0, 0.5, 0.1)  # of merged tokens, those that no batch before had
SAVED, OWN, PREDICT = (
    "time saved, %",
    "time saved without predicting, %",
    "embeddings predicted over the encoder's time, %",
)
NOTE = (
    "no time is published, what is saved in tokens is as published and nothing here; 32 sequences of XLM-R base, one "
    "prompt of Mistral-7B; an embedding is predicted by three layers of the model's width over three old tokens; all, "
    "half or a tenth of the merged ones are new; GPUs are not published"
)


@functools.cache
def time_s(model: str, system: str, length: int) -> float:
    """Seconds of a batch of sequences (XLM-R), or of one prompt."""
    where = arrays(system)
    if model == "XLM-R":
        return encoder_s(where, encoder(LAYER, WIDTH, 4 * WIDTH, HEAD), [length] * BATCH)
    return step_s(MODEL, where, [length], [length], decode=False)


def predicted_s(model: str, system: str, length: int, fresh: float) -> float:
    """Seconds of the predictor for what is merged: every merge of `PIECES` tokens takes away all but one."""
    num = BATCH if model == "XLM-R" else 1
    merged = round(num * length * FEWER[model] / (PIECES - 1) * fresh)
    width = WIDTH if model == "XLM-R" else 4096
    shape = encoder(PREDICTOR_LAYER, width, 4 * width, width // 64)
    return encoder_s(arrays(system), shape, [PIECES] * merged) if merged else 0.0


def saved(model: str, system: str, length: int, fresh: float | None) -> float:
    """Percent of the time; `fresh` None: every embedding is known."""
    short = time_s(model, system, round(length * (1 - FEWER[model])))
    return 100 * (1 - (short + (predicted_s(model, system, length, fresh) if fresh else 0.0))
                  / time_s(model, system, length))  # fmt: skip


def run(systems: tuple[str, ...] = SYSTEMS, lengths: tuple[int, ...] = LENGTHS) -> pd.DataFrame:
    """Time saved by length, with and without predicted embeddings."""
    table: list[dict[str, Any]] = []
    known: dict[str, list[float]] = {model: [] for model in FEWER}
    fresh: dict[str, list[float]] = {model: [] for model in FEWER}
    for model in FEWER:
        for system in systems:
            for length in lengths:
                setup = f"{model}, {system.replace('_', ' ')}, {length} tokens"
                known[model].append(saved(model, system, length, None))
                table.append(point("known", SAVED, setup, known[model][-1], NOTE))
                for share in FRESH:
                    found = saved(model, system, length, share)
                    table.append(point(f"{share:.0%} new", SAVED, setup, found, NOTE))
                    fresh[model] += [found] if share == FRESH[-1] else []
    for model in FEWER:
        low, high, least = min(known[model]), max(known[model]), min(fresh[model])
        text = f"{low:.0f} to {high:.0f} % with known embeddings, else from {least:.0f} %"
        table.append(order(model, "order: faster though a tenth of the embeddings is predicted", "every length and GPU",
                           min(fresh[model]) > 0, f"{text}; {NOTE}"))  # fmt: skip
    return frame(table)


def plot(table: pd.DataFrame) -> "Figure":
    """Time saved by length."""
    first = table[table["claim"] == SAVED]["setup"].str.rsplit(", ", n=1).str[0]
    shown = [Panel(SAVED, name, "time saved, %", f"{name}, ") for name in dict.fromkeys(first)]
    return panels(table, shown, "Dynamic tokenization: fewer tokens, embeddings predicted")
