"""What do windows that are left over cost a batch of documents? (F-coref, Otmazgin et al. 2022, on a V100)"""

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from studies._kernels import encoder, encoder_s
from studies._panels import Panel, panels
from studies._steps import arrays
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "F-coref (Otmazgin et al. 2022): 2,802 documents in 25 s on a V100, of which leftover batching is the last 10"
SMALL: dict[str, Any] = {"num": 300}
SYSTEM, WINDOW, LIMIT = "v100_sxm_32gb", 512, 10_000  # tokens of a window, of a batch (authors' code)
LAYER, WIDTH, INTER, HEAD = 6, 768, 3072, 12  # DistilRoBERTa
# OntoNotes' training documents: 2,802, of some 467 words at the mean and 4,009 at most (recalled, not checked); 1.25
# tokens a word
NUM, MEAN, MOST, SPREAD = 2802, 1.25 * 467, 1.25 * 4009, 0.8
SINGLE, BATCHED, LEFT = "F-coref", "+ batching", "+ leftover batching"
SECOND = {SINGLE: 45.0, BATCHED: 35.0, LEFT: 25.0}
TIME, WASTE, GPU = "seconds of 2,802 documents", "share of tokens that are padding", "seconds on the GPU"
SPREADS = (0.6, 0.8, 1.0)
NOTE = (
    "encoder in 32 bits, PyTorch's default, on a V100 as its nearest relative; log-normal lengths of spread 0.6 to 1; "
    "what documents take beside it (mentions, clusters, host) is fitted on leftover batching and the same in all: what "
    "batches save of that is not known, and is what the others miss"
)
HOST_S, NUM_KERNEL = 12e-6, 6 * 16 + 40  # a launch of PyTorch (FlashRNN's steps); kernels of a batch: encoder and head


class Batch(NamedTuple):
    """Windows by their length as computed, and tokens that are somebody's."""

    window: tuple[int, ...]
    token: int


def documents(num: int, spread: float) -> npt.NDArray[np.int64]:
    """Tokens of every document."""
    random = np.random.default_rng(0)
    length = MEAN * np.exp(random.normal(-(spread**2) / 2, spread, num))
    return np.rint(np.clip(length, 16, MOST)).astype(np.int64)


def windows(length: int) -> list[int]:
    """A document's windows: whole ones, and what is left.

    >>> windows(1100)
    [512, 512, 76]
    """
    whole, rest = divmod(length, WINDOW)
    return [WINDOW] * whole + [rest] * (rest > 0)


def batches(kind: str, length: npt.NDArray[np.int64]) -> list[Batch]:
    """Documents one by one; or, sorted, up to the limit of tokens, each padded to the batch's longest and cut into
    windows; or whole windows as one batch and what is left, padded to the longest of it, as another."""
    if kind == SINGLE:
        return [Batch(tuple(windows(int(one))), int(one)) for one in length]
    groups: list[list[int]] = [[]]
    for one in sorted((int(one) for one in length), reverse=True):
        if groups[-1] and (len(groups[-1]) + 1) * groups[-1][0] > LIMIT:
            groups.append([])
        groups[-1].append(one)
    out: list[Batch] = []
    for group in groups:
        if kind == BATCHED:
            most = -(-group[0] // WINDOW)
            size = WINDOW if most > 1 else group[0]
            out.append(Batch((size,) * (most * len(group)), sum(group)))
            continue
        whole = sum(one // WINDOW for one in group)
        rest = [one % WINDOW for one in group if one % WINDOW]
        if whole:
            out.append(Batch((WINDOW,) * whole, whole * WINDOW))
        if rest:
            out.append(Batch((max(rest),) * len(rest), sum(rest)))
    return out


def gpu_s(found: list[Batch]) -> float:
    """Seconds of all batches: the encoder, or the launches of one."""
    where, shape = arrays(SYSTEM), encoder(LAYER, WIDTH, INTER, HEAD)

    @functools.cache
    def one(window: tuple[int, ...]) -> float:
        return max(encoder_s(where, shape, window, fmt="fp32"), NUM_KERNEL * HOST_S)

    return sum(one(batch.window) for batch in found)


def padding(found: list[Batch]) -> float:
    """Computed tokens that are nobody's, of all."""
    return 1 - sum(batch.token for batch in found) / sum(sum(batch.window) for batch in found)


def run(num: int = NUM, spreads: tuple[float, ...] = SPREADS) -> pd.DataFrame:
    """Seconds and padding of the three ways."""
    rows: list[dict[str, Any]] = []
    second: dict[str, list[float]] = {kind: [] for kind in SECOND}
    waste: dict[str, list[float]] = {kind: [] for kind in SECOND}
    for spread in spreads:
        length = documents(num, spread)
        found = {kind: batches(kind, length) for kind in SECOND}
        gpu = {kind: gpu_s(one) * NUM / num for kind, one in found.items()}
        rest = SECOND[LEFT] - gpu[LEFT]
        for kind in SECOND:
            second[kind].append(gpu[kind] + rest)
            waste[kind].append(padding(found[kind]))
            rows += [point(kind, WASTE, f"spread {spread:g}", waste[kind][-1], NOTE),
                     point(kind, GPU, f"spread {spread:g}", gpu[kind], NOTE)]  # fmt: skip
    middle = len(spreads) // 2
    for kind, published in SECOND.items():
        rows.append(row(kind, TIME, "V100", published, second[kind][middle], NOTE, spread=second[kind],
                        kind="fitted" if kind == LEFT else "number"))  # fmt: skip
    rows.append(order(LEFT, "order: less padding than batches of whole documents", "every spread",
                      all(a < b for a, b in zip(waste[LEFT], waste[BATCHED], strict=True)), NOTE))  # fmt: skip
    rows.append(order(LEFT, "order: faster than batches of documents, those than one by one", "every spread",
                      all(a < b < c for a, b, c in zip(*(second[kind] for kind in (LEFT, BATCHED, SINGLE)),
                                                       strict=True)), NOTE))  # fmt: skip
    rows.append(order(BATCHED, "order: batches pad, documents one by one do not", "every spread",
                      max(waste[SINGLE]) == 0 and min(waste[BATCHED]) > 0, NOTE))  # fmt: skip
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """The table's last three rows, and padding."""
    return panels(table, [Panel(TIME, "2,802 documents", "seconds"), Panel(WASTE, "padding", WASTE),
                          Panel(GPU, "the encoder", GPU)], "F-coref on a V100", columns=3)  # fmt: skip
