"""What does a batch of recordings cost whose lengths differ a hundredfold? (ChunkFormer, Le et al., ICASSP 2025)"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hw_models import catalog
from hw_models.device import usable_byte
from studies._kernels import encoder, encoder_s, product, seconds, stream
from studies._panels import Panel, panels
from studies._steps import arrays
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "ChunkFormer (Le et al. 2025): 1 hour and 1 second cost 1 hour and 1 second, not 2 hours; 16 hours on 80 GB"
SMALL: dict[str, Any] = {"spreads": (1.0,), "sizes": (16,)}
SYSTEM = "a100_sxm_80gb"  # which GPU is not published: orders and ratios hold on any
TOKEN_PER_S = 12.5  # frames of 10 ms, eight to a token (released configuration)
CHUNK, LEFT, RIGHT = 64, 128, 128  # tokens: the authors' command lines
# the large model: 17 layers of 512 are what its 110M parameters come to with the released small one's other widths
LAYER, WIDTH, INTER, HEAD, WINDOW = 17, 512, 2048, 8, 15
WEIGHT_BYTE = 4.0 * 110e6
SPREADS, SIZES = (0.5, 1.0, 1.5), (8, 16, 64)  # of log lengths; recordings of a batch
MINUTES = {"rtx_3090": 240.0, "a100_sxm_80gb": 980.0}  # of a batch in 24 and 80 GB
RATIO, TIME, FIT, LONG = "padded over masked", "seconds of an encoder pass", "minutes of a batch", "full over chunked"
NOTE = "17 conformer layers of 512 in 16 bits; a chunk of 64 tokens sees 128 on both sides; GPU and lengths open"


def chunks(second: Sequence[float]) -> list[int]:
    """Query tokens of every chunk of every recording; the last one of each is as long as it is.

    >>> chunks([10.24, 6.0])
    [64, 64, 64, 11]
    """
    out: list[int] = []
    for length in second:
        token = max(1, round(length * TOKEN_PER_S))
        whole, rest = divmod(token, CHUNK)
        out += [CHUNK] * whole + [rest] * (rest > 0)
    return out


def pass_s(query: Sequence[int], seen: Sequence[int] | None) -> float:
    """Seconds of the encoder: two half feed-forward parts as one of twice the width, attention, convolution."""
    where, token = arrays(SYSTEM), int(sum(query))
    conv = seconds(
        where, product(token, 2 * WIDTH, WIDTH), product(token, WIDTH, WIDTH),
        stream(2.0 * token * 3 * WIDTH, 2.0 * token * 2 * WIDTH, flop=2.0 * WINDOW * token * WIDTH),
    )  # fmt: skip
    return encoder_s(where, encoder(LAYER, WIDTH, 2 * INTER, HEAD), query, seen) + LAYER * conv


def masked_s(second: Sequence[float]) -> float:
    """All chunks of all recordings side by side, none of them padding."""
    query = chunks(second)
    return pass_s(query, [LEFT + one + RIGHT for one in query])


def padded_s(second: Sequence[float]) -> float:
    """Every recording as long as the longest one."""
    return masked_s([max(second)] * len(second))


def full_s(second: Sequence[float]) -> float:
    """Attention to the whole recording."""
    return pass_s([max(1, round(one * TOKEN_PER_S)) for one in second], None)


def lengths(num: int, spread: float, mean_s: float = 120.0) -> list[float]:
    """Log-normal durations."""
    random = np.random.default_rng(0)
    return [float(one) for one in mean_s * np.exp(random.normal(-(spread**2) / 2, spread, num))]


def run(spreads: tuple[float, ...] = SPREADS, sizes: tuple[int, ...] = SIZES) -> pd.DataFrame:
    """Time of padded over masked batches, what fits, and the longest recording with attention to all of it."""
    pair = (3600.0, 1.0)
    rows = [row("masked batch", RATIO, "1 hour and 1 second", 7200 / 3601, padded_s(pair) / masked_s(pair), NOTE)]
    found = {(spread, size): padded_s(batch) / masked_s(batch) for spread in spreads for size in sizes
             for batch in (lengths(size, spread),)}  # fmt: skip
    rows += [point("masked batch", RATIO, f"{size} recordings, spread {spread}", value, NOTE)
             for (spread, size), value in found.items()]  # fmt: skip
    text = f"{min(found.values()):.2f} to {max(found.values()):.2f}; published: over 3 with no lengths; {NOTE}"
    rows.append(row("masked batch", "time saved, over padded", "lengths of the paper", 3.0, max(found.values()), text,
                    tag="approx", said=True))  # fmt: skip
    rows.append(order("masked batch", "order: never slower than padded", "every spread and size",
                      min(found.values()) >= 1, text))  # fmt: skip
    room = {name: usable_byte(catalog.device(name), 0.0) - WEIGHT_BYTE for name in MINUTES}
    first = next(iter(MINUTES))
    held = room[first] / MINUTES[first]
    for name, minute in MINUTES.items():
        rows.append(row("masked batch", FIT, f"{catalog.device(name).mem_byte / 2**30:.0f} GB", minute,
                        room[name] / held, f"bytes a minute fitted on 24 GB ({held / 1e6:.0f} MB), linear in minutes",
                        tag="approx", kind="fitted" if name == first else "number"))  # fmt: skip
    hours = (0.5, 1.0, 4.0, 16.0)
    gain = [full_s([3600 * h]) / masked_s([3600 * h]) for h in hours]
    rows += [point("full attention", LONG, f"{h:g} h", value, NOTE) for h, value in zip(hours, gain, strict=True)]
    rows.append(order("full attention", "order: longer recordings need chunks more", "0.5 to 16 hours",
                      gain == sorted(gain) and gain[-1] > 4 * gain[0], NOTE))  # fmt: skip
    rows += [point(name, TIME, f"{h:g} h", call([3600 * h]), NOTE) for h in hours
             for name, call in (("masked batch", masked_s), ("full attention", full_s))]  # fmt: skip
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Padding, what fits, and time by length of one recording."""
    return panels(table, [Panel(RATIO, "batches of recordings", "time, ratio"), Panel(FIT, "what fits", FIT),
                          Panel(TIME, "one recording", "seconds", curve=True, log=True)],
                  "ChunkFormer: recordings of unlike lengths")  # fmt: skip
