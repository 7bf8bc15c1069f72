"""What is left of a text-to-image model that needs one step? (InstaFlow 2023, StreamMultiDiffusion 2024)"""

from typing import TYPE_CHECKING, Any

import pandas as pd

from studies._diffusion import Kernel, call_s, conv, passes, residual, unet
from studies._kernels import LAUNCH_S, encoder, encoder_s
from studies._panels import Panel, panels
from studies._steps import arrays
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "InstaFlow (Liu et al. 2023): an image of one step in 0.09 s on an A100; regions at 1.57 frames/s on a 2080 Ti"
SMALL: dict[str, Any] = {"hosts": (12e-6,)}
A100, TURING = "a100_sxm_80gb", "rtx_2080_ti"
HOSTS = LAUNCH_S  # seconds between PyTorch's launches
ONE_STEP = {"0.9B": (1, 0.09), "1.7B": (2, 0.12)}  # U-Nets one after another (the second is stacked), seconds
STEPS, GUIDED = 25, 2  # of the model that it is distilled from, each with its negative: 90 % saved
REGIONS, LCM = (2, 3, 4), 5  # prompts of a picture, steps of an image: neither is published beside 1.57 frames/s
FPS = 1.57
SECOND, PART, RATE = "seconds an image", "ms of a part", "frames/s by regions"
NOTE = (
    "512 x 512 in 16 bits, one image; text encoder, U-Net and the whole image decoder, PyTorch's launches 5 to 25 us "
    "apart, a kernel each. The authors' demo, which times its pipeline, also converts the image on the host and has a "
    "safety checker look at it, and PyTorch runs a norm, an activation or a layout as kernels of their own, some three "
    "for one here: a second U-Net adds 0.03 s there, its kernels 6 ms here; host and which A100 are not published"
)


def decoder(side: int = 64) -> list[Kernel]:
    """Latent to image: 512, 512, 256, 128 channels, three residual blocks each, attention in the middle."""
    token = side**2
    out = [conv(4, 512, side), *residual(512, 512, side), passes(2, 512, side), conv(512, 3 * 512, side, 1)]
    out += [Kernel(token, token, 2 * 512, 6.0 * token * 512, False), conv(512, 512, side, 1), *residual(512, 512, side)]
    c_in = 512
    for level, c in enumerate((512, 512, 256, 128)):
        for _ in range(3):
            out += residual(c_in, c, side)
            c_in = c
        if level < 3:
            side *= 2
            out.append(conv(c, c, side))
    return [*out, passes(2, 128, side), conv(128, 3, side)]


def part_s(kernels: list[Kernel], batch: int, system: str, host_s: float) -> float:
    """Seconds of a part: its kernels, or its launches."""
    return max(call_s(kernels, batch, arrays(system)), host_s * len(kernels))


def text_s(batch: int, system: str, host_s: float) -> float:
    """The text encoder: 12 layers of 768 over 77 tokens."""
    shape = encoder(12, 768, 3072, 12)
    return max(encoder_s(arrays(system), shape, [77] * batch), 12 * 12 * host_s)


def image_s(call: int, host_s: float, *, batch: int = 1, system: str = A100) -> float:
    """Seconds of an image of `call` U-Net calls of `batch` (2: with its negative), from text to pixels."""
    return (text_s(batch, system, host_s) + call * part_s(unet(64, 768), batch, system, host_s)
            + part_s(decoder(), 1, system, host_s))  # fmt: skip


def regions_fps(prompt: int, host_s: float, *, batched: bool = True) -> float:
    """Frames a second of a stream whose batch holds every region at every step, or calls them one by one."""
    sample = prompt * LCM
    calls = 1 if batched else sample
    one = part_s(unet(64, 768), sample // calls, TURING, host_s)
    return 1 / (calls * one + part_s(decoder(), 1, TURING, host_s))


def run(hosts: tuple[float, ...] = HOSTS) -> pd.DataFrame:
    """Seconds of an image by steps, where they go, and frames a second by regions."""
    rows: list[dict[str, Any]] = []
    at = len(hosts) // 2
    last = hosts[at]
    for name, (call, published) in ONE_STEP.items():
        found = [image_s(call, host) for host in hosts]
        rows.append(row("InstaFlow", SECOND, name, published, found[at], NOTE, tag="approx", spread=found))
    long = [image_s(STEPS, host, batch=GUIDED) for host in hosts]
    rows.append(point("Stable Diffusion", SECOND, f"{STEPS} steps", long[at], NOTE))
    saved = [1 - image_s(1, host) / one for host, one in zip(hosts, long, strict=True)]
    rows.append(row("InstaFlow", "time saved", f"of {STEPS} guided steps", 0.9, saved[at], NOTE, tag="approx", null=0.0,
                    points=0.05, spread=saved))  # fmt: skip
    parts = {"text": text_s(1, A100, last), "U-Net": part_s(unet(64, 768), 1, A100, last),
             "decoder": part_s(decoder(), 1, A100, last)}  # fmt: skip
    rows += [point("InstaFlow", PART, name, 1e3 * value, NOTE) for name, value in parts.items()]
    fps = {prompt: regions_fps(prompt, last) for prompt in REGIONS}
    for prompt, value in fps.items():
        rows += [
            point("stream batch", RATE, f"{prompt} regions", value, NOTE),
            point("one by one", RATE, f"{prompt} regions", regions_fps(prompt, last, batched=False), NOTE),
        ]
    middle = REGIONS[len(REGIONS) // 2]
    rows.append(row("stream batch", "frames/s on a 2080 Ti", "regions of the paper", FPS, fps[middle], NOTE,
                    tag="approx", said=True, spread=list(fps.values())))  # fmt: skip
    rows.append(order("stream batch", "order: one batch is faster than regions and steps one by one", "2 to 4 regions",
                      all(value > regions_fps(prompt, last, batched=False) for prompt, value in fps.items()),
                      NOTE))  # fmt: skip
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Seconds by model, their parts, and regions."""
    return panels(table, [Panel(SECOND, "512 x 512 on an A100", SECOND), Panel(PART, "one step", PART),
                          Panel(RATE, "regions on a 2080 Ti", RATE)],
                  "One step from text to image", columns=3)  # fmt: skip
