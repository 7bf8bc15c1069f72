"""Is a training run fed by the disk, the CPUs or the GPUs? (FFCV, CVPR 2023, its loader on ImageNet)"""

from typing import TYPE_CHECKING, Any

import pandas as pd

from sim.pipeline.bounded import Passed, Stage, run_stages
from studies._panels import Panel, panels
from studies._verdict import frame, order, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "FFCV (Leclerc et al. 2023): 88 epochs of ResNet-50 in 77 minutes on 8 A100, a loader of 16,631 images/s from disk"
)
SMALL: dict[str, Any] = {}
NUM_IMAGE = 1_281_167  # of the training set
NUM_CPU = 96  # of a p3dn.24xlarge, whose memory holds what is read again
NUM_ROUND = 20  # images that each CPU takes in a run of the pipeline; the second half of them is counted
# the data set by side and encoding, GB (training and validation images)
GB = {"256 raw": 169.8, "512 raw": 616.2, "512 JPEG": 65.5}
NUM_STORED = NUM_IMAGE + 50_000
# images/s of the loader alone: where from, encoding
LOADER = {("RAM", "512 JPEG"): 31_278.0, ("RAM", "256 raw"): 172_801.0, ("disk", "512 raw"): 1_956.0,
          ("disk", "512 JPEG"): 16_631.0, ("disk", "256 raw"): 6_870.0}  # fmt: skip
# minutes by epochs
MINUTES = {"ResNet-50, 8 A100": {16: 14.9, 24: 21.7, 40: 35.6, 88: 77.2}, "ResNet-18, 1 A100": {16: 35.0, 88: 187.3}}
FIT_DISK, FIT_EPOCH = ("disk", "256 raw"), (16, 88)
RATE, TIME, SIZE = "images/s of the loader", "minutes of a run", "thousand images/s of the machine's limits"
NOTE = (
    "fitted: the disk on 256-pixel raw images, decoding a CPU on JPEG from memory, copying a CPU on raw images from "
    "memory; all others pass the disk and the CPUs with bounded queues, with the bytes of the published data sets"
)
LINE = "a fixed time and a time an epoch, fitted on 16 and 88 epochs of ResNet-50"


def image_byte(encoding: str) -> float:
    """Bytes of an image as stored."""
    return GB[encoding] * 1e9 / NUM_STORED


def disk_byte_per_s() -> float:
    """What the network disk gives, from the one fitted row."""
    return LOADER[FIT_DISK] * image_byte(FIT_DISK[1])


def stages(place: str, encoding: str) -> list[Stage]:
    """The disk reads an image at a time, every CPU decodes or copies one, with a place before each."""
    by_cpu = {
        "JPEG": LOADER["RAM", "512 JPEG"],
        "raw": LOADER["RAM", "256 raw"] * image_byte("256 raw") / image_byte(encoding),
    }
    cpu = Stage("cpu", NUM_CPU / by_cpu[encoding.split()[1]], NUM_CPU, NUM_CPU)
    return [Stage("disk", image_byte(encoding) / disk_byte_per_s()), cpu] if place == "disk" else [cpu]


def loaded(place: str, encoding: str, *more: Stage) -> Passed:
    """Images through the loader, and what stands behind it."""
    return run_stages([*stages(place, encoding), *more], NUM_CPU * NUM_ROUND)


def loader(place: str, encoding: str) -> float:
    """Images a second of the loader alone."""
    return loaded(place, encoding).item_per_s(NUM_CPU * NUM_ROUND // 2 - 1)


def line() -> tuple[float, float]:
    """Fixed minutes, and minutes an epoch, of ResNet-50."""
    few, many = FIT_EPOCH
    time = MINUTES["ResNet-50, 8 A100"]
    slope = (time[many] - time[few]) / (many - few)
    return time[few] - slope * few, slope


def run() -> pd.DataFrame:
    """The loader by place and encoding, minutes of a run by epochs, and who is the slowest."""
    rows: list[dict[str, Any]] = []
    for (place, encoding), published in LOADER.items():
        fitted = place == "RAM" or (place, encoding) == FIT_DISK
        rows.append(row("FFCV", RATE, f"{place}, {encoding}", published, loader(place, encoding), NOTE,
                        kind="fitted" if fitted else "number"))  # fmt: skip
    fixed, slope = line()
    for epochs, published in MINUTES["ResNet-50, 8 A100"].items():
        rows.append(row("FFCV", TIME, f"ResNet-50, 8 A100, {epochs} epochs", published, fixed + slope * epochs, LINE,
                        kind="fitted" if epochs in FIT_EPOCH else "number"))  # fmt: skip
    small = MINUTES["ResNet-18, 1 A100"]
    each = (small[16] - fixed) / 16
    rows.append(row("FFCV", TIME, "ResNet-18, 1 A100, 88 epochs", small[88], fixed + 88 * each,
                    f"from its 16 epochs and the fixed time of ResNet-50; {LINE}"))  # fmt: skip
    train = NUM_IMAGE / (slope * 60)
    fed = {place: loaded(place, "512 JPEG", Stage("gpu", 1 / train, 1, NUM_CPU)).slowest for place in ("disk", "RAM")}
    rows.append(order("FFCV", "order: JPEG of 512 pixels from disk does not feed 8 A100, from memory it does",
                      "ResNet-50", fed["disk"] == "disk" and fed["RAM"] == "gpu",
                      f"training takes {train:,.0f} images/s at the mean of its growing sizes"))  # fmt: skip
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """The loader by place and encoding, and minutes by epochs."""
    return panels(table, [Panel(RATE, "loader alone", RATE), Panel(TIME, "ResNet-50", TIME, "ResNet-50, 8 A100, ")],
                  "FFCV: ImageNet from disk and memory")  # fmt: skip
