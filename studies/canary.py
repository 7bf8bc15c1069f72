"""Where should the parameters of a speech model lie, and what does padding cost it? (Canary, Zelasko et al. 2025)"""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from studies._kernels import LAUNCH_S, encoder, encoder_s, product, seconds, stream
from studies._panels import Panel, panels
from studies._steps import arrays
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Canary (Zelasko et al. 2025): decoder layers moved to the encoder, 3x the inference speed; half is padding"
SMALL: dict[str, Any] = {"clips": (10.0,), "batches": (64,)}
SYSTEM = "a100_sxm_80gb"
DEPTH = {"canary-1b": (24, 24), "canary-1b-flash": (32, 4)}  # layers of encoder and decoder (model cards)
WIDTH, INTER, HEAD = 1024, 4096, 8
FRAME_PER_S, TOKEN_PER_S, PROMPT = 12.5, 3.3, 10  # frames of 80 ms; text tokens of speech; task tokens
RTFX = {"canary-1b-flash": 1045.75}  # open leaderboard
# seconds between PyTorch's launches; of a clip; clips at once as the leaderboard's script had them in 2024, for some
# days and since March 2025
HOSTS, CLIPS, BATCHES = LAUNCH_S, (5.0, 10.0, 20.0), (64, 96, 128)
# kernels of a decoder layer as PyTorch launches them: three norms, eight projections, twice scores, mask, softmax and
# their product with transposes, two products and an activation of the feed-forward part, three adds
NUM_KERNEL = 30
SPEED, SHARE, GAIN = "seconds of audio a second", "share of an inference in the decoder", "speed, moved over original"
PAD = "share of frames that are padding"
NOTE = (
    "A100 80 GB, 64 to 128 clips at once (the leaderboard's script), each 5 to 20 s; greedy; launches of PyTorch 5 to "
    "25 us apart, 3.3 tokens a second of speech; that script's time includes one process that reads the audio, and "
    "features and text, which are not counted, nor is what a clip that does not end costs its batch: the misses"
)


def encoder_pass_s(layer: int, clip_s: float, batch: int) -> float:
    """Seconds of all layers for a batch: attention, two half feed-forward parts as one, convolution of three widths."""
    where, frames = arrays(SYSTEM), round(clip_s * FRAME_PER_S)
    token = batch * frames
    conv = seconds(where, product(token, 2 * WIDTH, WIDTH), product(token, WIDTH, WIDTH),
                   stream(6.0 * token * WIDTH, 4.0 * token * WIDTH))  # fmt: skip
    return encoder_s(where, encoder(layer, WIDTH, 2 * INTER, HEAD), [frames] * batch) + layer * conv


def decoder_pass_s(layer: int, clip_s: float, batch: int, host_s: float) -> float:
    """Seconds of all steps: the longer of the kernels, whose cross-attention reads every frame, and of launches."""
    where, frames = arrays(SYSTEM), round(clip_s * FRAME_PER_S)
    step = round(clip_s * TOKEN_PER_S) + PROMPT
    read = 4.0 * batch * WIDTH * (frames + step / 2)
    shapes = ((3 * WIDTH, WIDTH, 1), (WIDTH, WIDTH, 3), (INTER, WIDTH, 1), (WIDTH, INTER, 1))
    ops = [product(batch, n, k, count=count) for n, k, count in shapes]
    ops += [stream(read / 2, 2.0 * batch * WIDTH, count=2), stream(4.0 * batch * WIDTH, 2.0 * batch * WIDTH, count=7)]
    return step * layer * max(seconds(where, *ops), NUM_KERNEL * host_s)


def speed(name: str, clip_s: float, batch: int, host_s: float) -> tuple[float, float]:
    """Seconds of audio a second, and the decoder's share of the time."""
    first, second = DEPTH[name]
    read, written = encoder_pass_s(first, clip_s, batch), decoder_pass_s(second, clip_s, batch, host_s)
    return batch * clip_s / (read + written), written / (read + written)


def padding(num: int, spread: float, buckets: int, *, batch: int = 32) -> float:
    """Padded share of batches of clips that are drawn at random from log-normal lengths, each from one of so many
    buckets of equal audio (1: none)."""
    random = np.random.default_rng(0)
    length = np.exp(random.normal(0, spread, num * batch))
    edge = np.quantile(length, np.linspace(0, 1, buckets + 1)[1:-1])
    place = np.digitize(length, edge)
    real = full = 0.0
    for bucket in range(buckets):
        part = length[place == bucket]
        part = part[: len(part) // batch * batch].reshape(-1, batch)
        real += float(part.sum())
        full += float((part.max(axis=1) * batch).sum())
    return 1 - real / full


def run(
    hosts: tuple[float, ...] = HOSTS, clips: tuple[float, ...] = CLIPS, batches: tuple[int, ...] = BATCHES
) -> pd.DataFrame:
    """Speed of both models, the decoder's share, and padding by buckets."""
    every = [(clip, batch, host) for clip in clips for batch in batches for host in hosts]
    middle = (clips[len(clips) // 2], batches[len(batches) // 2], hosts[len(hosts) // 2])
    found = {name: {at: speed(name, *at) for at in every} for name in DEPTH}
    rows: list[dict[str, Any]] = []
    for name, values in found.items():
        rate = [one[0] for one in values.values()]
        rows.append(
            row(name, SPEED, "open leaderboard", RTFX[name], values[middle][0], NOTE, tag="approx", spread=rate)
            if name in RTFX else point(name, SPEED, "open leaderboard", values[middle][0], NOTE)
        )  # fmt: skip
        rows.append(point(name, SHARE, "open leaderboard", values[middle][1], NOTE))
    old, new = (found[name] for name in DEPTH)
    gain = {at: new[at][0] / old[at][0] for at in every}
    rows.append(row("canary-1b-flash", GAIN, "open leaderboard", 3.0, gain[middle], NOTE, tag="approx", null=1.0,
                    spread=list(gain.values())))  # fmt: skip
    rows.append(order("canary-1b", "order: the decoder's steps are most of the time", "every clip and host",
                      min(one[1] for one in old.values()) > 0.5, NOTE))  # fmt: skip
    rows.append(order("canary-1b-flash", "order: faster, and by less than its decoder is shorter",
                      "every clip and host", all(1 < one < 6 for one in gain.values()), NOTE))  # fmt: skip
    spreads = (0.6, 0.8, 1.0)
    padded = {buckets: [padding(200, spread, buckets) for spread in spreads] for buckets in (1, 5, 30)}
    text = "log-normal lengths of spread 0.6 to 1.0, 32 clips a batch; the corpus's lengths are not published"
    rows += [point(f"{buckets} buckets", PAD, f"spread {spread}", value, text)
             for buckets, values in padded.items() for spread, value in zip(spreads, values, strict=True)]  # fmt: skip
    rows.append(order("1 buckets", "order: more than half is padding", "every spread", min(padded[1]) > 0.5, text))
    rows.append(order("30 buckets", "order: buckets take most of it away", "every spread",
                      all(b < a / 2 for a, b in zip(padded[1], padded[30], strict=True)), text))  # fmt: skip
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Speed, where the time goes, and padding."""
    return panels(table, [Panel(SPEED, "inference", "RTFx"), Panel(SHARE, "where its time goes", SHARE),
                          Panel(GAIN, "parameters moved", "ratio"), Panel(PAD, "training batches", PAD)],
                  "Canary: encoder and decoder of a speech model")  # fmt: skip
