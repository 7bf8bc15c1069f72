"""What do denoising steps of consecutive frames gain in one batch? (StreamDiffusion, Kodaira et al. 2023)"""

from typing import TYPE_CHECKING, Any

import pandas as pd

from studies._diffusion import call_s, tiny_decoder, tiny_encoder, unet
from studies._panels import Panel, panels
from studies._steps import arrays
from studies._verdict import frame, order, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "StreamDiffusion (Kodaira et al. 2023): 106 images/s of one step and 38 of four on an RTX 4090"
SMALL: dict[str, Any] = {}
SYSTEM = "rtx_4090"
TEXT_WIDTH = {1: 1024, 4: 768}  # SD-turbo is a Stable Diffusion 2.1, LCM-LoRA runs on a 1.5
# frames/s of 512 x 512 by steps: from text, from images
FPS = {1: (106.16, 93.897), 4: (38.023, 37.133)}
BATCHED, GUIDED = 1.5, 2.05  # a batch of all steps over one after another; no negative passes over one each
KINDS = ("from text", "from images")
RATE, GAIN = "frames/s", "frames/s, ratio"
NOTE = (
    "convolutions as matrix products over their window, kernels of an RTX 4090 as those of an L40S, launched from a "
    "graph; the tiny autoencoder; resizing, similarity filter and the CPU run beside, as in its pipeline of queues; "
    "products at the rate with 32-bit sums: at twice that, which TensorRT's 16-bit sums may reach on this card, all "
    "four rates are 30 to 40 % too high"
)


def frame_s(steps: int, kind: str, *, calls: int = 1, guided: int = 1) -> float:
    """Seconds of a frame: the U-Net on the steps of as many frames (in `calls` equal batches; `guided` 2: each with
    its negative), the decoder, and from images the encoder."""
    where = arrays(SYSTEM)
    total = calls * call_s(unet(64, TEXT_WIDTH[steps]), guided * steps // calls, where) + call_s(
        tiny_decoder(), 1, where
    )
    return total + (call_s(tiny_encoder(), 1, where) if kind == "from images" else 0.0)


def run() -> pd.DataFrame:
    """Frames a second by steps and kind, and what a batch of steps and guidance without negative passes gain."""
    rows: list[dict[str, Any]] = []
    for steps, published in FPS.items():
        for kind, fps in zip(KINDS, published, strict=True):
            rows.append(row("StreamDiffusion", RATE, f"{steps} step{'s' * (steps > 1)}, {kind}", fps,
                            1 / frame_s(steps, kind), NOTE))  # fmt: skip
    one_by_one = frame_s(4, "from images", calls=4)
    whole = frame_s(4, "from images")
    rows.append(row("stream batch", GAIN, "4 steps in one batch over 4 calls", BATCHED, one_by_one / whole, NOTE,
                    tag="approx", null=1.0))  # fmt: skip
    twice = [frame_s(steps, "from images", guided=2) / frame_s(steps, "from images") for steps in FPS]
    rows.append(row("residual guidance", GAIN, "no negative passes over one each, up to", GUIDED, max(twice), NOTE,
                    null=1.0))  # fmt: skip
    rows.append(order("stream batch", "order: 4 steps cost less than 4 times one", "from images",
                      whole < 4 * frame_s(1, "from images"), NOTE))  # fmt: skip
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Frames a second by steps, and the two ratios."""
    return panels(table, [Panel(RATE, "512 x 512", RATE), Panel(GAIN, "of its parts", "ratio")],
                  "StreamDiffusion on an RTX 4090")  # fmt: skip
