"""What do windows that are left over cost a batch of documents? (F-coref, Otmazgin et al. 2022, on a V100)"""

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from hw_models import catalog
from studies._kernels import LAUNCH_S, encoder, encoder_s, product, seconds, stream
from studies._panels import Panel, panels
from studies._steps import arrays
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "F-coref (Otmazgin et al. 2022): 2,802 documents in 25 s on a V100, of which leftover batching is the last 10"
SMALL: dict[str, Any] = {"num": 300}
SYSTEM, WINDOW, LIMIT = "v100_sxm_32gb", 512, 10_000  # tokens of a window, of a batch (authors' code)
LAYER, WIDTH, INTER, HEAD = 6, 768, 3072, 12  # DistilRoBERTa
FFNN, KEPT = 1024, 0.25  # width of the head, mentions kept a token (authors' configuration)
# OntoNotes' training documents: 2,802, of some 467 words at the mean and 4,009 at most (recalled, not checked); 1.25
# tokens a word
NUM, MEAN, MOST, SPREAD = 2802, 1.25 * 467, 1.25 * 4009, 0.8
SINGLE, BATCHED, LEFT = "F-coref", "+ batching", "+ leftover batching"
SECOND = {SINGLE: 45.0, BATCHED: 35.0, LEFT: 25.0}
TIME, WASTE, GPU = "seconds of 2,802 documents", "share of tokens that are padding", "seconds on the GPU"
SPREADS = (0.6, 0.8, 1.0)
NOTE = (
    "encoder and head in 32 bits, PyTorch's default, scores of attention written out, on a V100 as its nearest "
    "relative; documents padded to the longest of their batch, and but for leftover batching to whole windows "
    "(authors' collators); log-normal lengths of spread 0.6 to 1; launches 5 to 25 us apart; scores of all pairs of "
    "tokens copied to the host over PCIe 3; what documents take beside (clusters, tokenizer, Python) is fitted on "
    "leftover batching and the same in all, though one by one the host does it 2,802 times and in batches 250 times: "
    "not published"
)
ENCODER_KERNEL, HEAD_KERNEL, PASSES = 6 * 17 + 15, 75, 14
"""Kernels of an eager encoder and of the head, and reads or writes of all pairs of tokens in them (authors' code)."""
SCORE_PASSES = 4
"""Writes of a layer's attention scores, and as many reads: product, scale, mask and softmax are kernels of their own in
the transformers of the time (4.11 on), whose results go through memory."""
LINK = "pcie3"


class Batch(NamedTuple):
    """Windows as computed, tokens that are somebody's, documents and tokens of each as padded, calls of the encoder."""

    window: tuple[int, ...]
    token: int
    document: int
    length: int
    call: int = 1


def documents(num: int, spread: float) -> npt.NDArray[np.int64]:
    """Tokens of every document."""
    random = np.random.default_rng(0)
    length = MEAN * np.exp(random.normal(-(spread**2) / 2, spread, num))
    return np.rint(np.clip(length, 16, MOST)).astype(np.int64)


def batches(kind: str, length: npt.NDArray[np.int64]) -> list[Batch]:
    """Documents one by one; or, sorted, up to the limit of tokens, each padded to whole windows of the batch's longest;
    or to the longest itself, whole windows in one call and what is left of all in another.

    >>> [(one.window, one.call) for one in batches(LEFT, np.array([1100, 1090]))]
    [((512, 512, 512, 512, 76, 76), 2)]
    """
    groups: list[list[int]] = [[]]
    for one in sorted((int(one) for one in length), reverse=True):
        whole = -(-(groups[-1][0] if groups[-1] else one) // WINDOW) * WINDOW
        if groups[-1] and (kind == SINGLE or (len(groups[-1]) + 1) * whole > LIMIT):
            groups.append([])
        groups[-1].append(one)
    out: list[Batch] = []
    for group in groups:
        count, most = len(group), -(-group[0] // WINDOW)
        whole, rest = divmod(group[0], WINDOW)
        if kind != LEFT:
            out.append(Batch((WINDOW,) * (most * count), sum(group), count, most * WINDOW))
            continue
        window = (WINDOW,) * (whole * count) + (rest,) * (count * (rest > 0))
        out.append(Batch(window, sum(group), count, group[0], (whole > 0) + (rest > 0)))
    return out


def gpu_s(found: list[Batch], launch_s: float = LAUNCH_S[1]) -> float:
    """Seconds of all batches: encoder and head, or their launches."""
    where, shape = arrays(SYSTEM), encoder(LAYER, WIDTH, INTER, HEAD)

    def scores_s(part: tuple[int, ...]) -> float:
        byte = 4.0 * HEAD * sum(size**2 for size in part)
        return seconds(where, stream(byte, byte, count=LAYER * SCORE_PASSES))

    @functools.cache
    def one(window: tuple[int, ...], document: int, length: int, call: int) -> float:
        rows, kept = document * length, round(KEPT * length)
        head = seconds(
            where, product(rows, FFNN, WIDTH, fmt="fp32", count=4), product(rows, FFNN, FFNN, fmt="fp32"),
            product(length, length, FFNN, fmt="fp32", batch=document),
            product(document * kept, FFNN, FFNN, fmt="fp32", count=4),
            product(kept, kept, FFNN, fmt="fp32", batch=document, count=4),
            stream(4.0 * document * length**2, 4.0 * document * length**2, count=PASSES // 2),
        )  # fmt: skip
        own = sum(encoder_s(where, shape, part, fmt="fp32") + scores_s(part) for part in calls(window))
        return max(own + head, (call * ENCODER_KERNEL + HEAD_KERNEL) * launch_s)

    return sum(one(batch.window, batch.document, batch.length, batch.call) for batch in found)


def calls(window: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Windows of one length: a call each."""
    return [tuple(one for one in window if one == size) for size in sorted(set(window))]


def copied_s(found: list[Batch]) -> float:
    """Seconds of the scores of all pairs of tokens, 32 bits, on their way to the host."""
    byte = sum(4.0 * batch.document * batch.length**2 for batch in found)
    return byte / catalog.link(LINK).byte_per_s


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
        for launch_s in LAUNCH_S:
            gpu = {kind: (gpu_s(one, launch_s) + copied_s(one)) * NUM / num for kind, one in found.items()}
            for kind in SECOND:
                second[kind].append(gpu[kind] + SECOND[LEFT] - gpu[LEFT])
        for kind in SECOND:
            waste[kind].append(padding(found[kind]))
            rows += [point(kind, WASTE, f"spread {spread:g}", waste[kind][-1], NOTE),
                     point(kind, GPU, f"spread {spread:g}", gpu[kind], NOTE)]  # fmt: skip
    middle = len(spreads) // 2 * len(LAUNCH_S) + 1
    for kind, published in SECOND.items():
        rows.append(row(kind, TIME, "V100", published, second[kind][middle], NOTE, spread=second[kind],
                        kind="fitted" if kind == LEFT else "number"))  # fmt: skip
    rows.append(order(LEFT, "order: less padding than batches of whole documents", "every spread",
                      all(a < b for a, b in zip(waste[LEFT], waste[BATCHED], strict=True)), NOTE))  # fmt: skip
    rows.append(order(LEFT, "order: faster than batches of documents, those than one by one", "every spread",
                      all(a < b < c for a, b, c in zip(*(second[kind] for kind in (LEFT, BATCHED, SINGLE)),
                                                       strict=True)), NOTE))  # fmt: skip
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """The table's last three rows, and padding."""
    return panels(table, [Panel(TIME, "2,802 documents", "seconds"), Panel(WASTE, "padding", WASTE),
                          Panel(GPU, "the model", GPU)], "F-coref on a V100", columns=3)  # fmt: skip
