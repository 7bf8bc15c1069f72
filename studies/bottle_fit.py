"""When is a network better cut in two by a radio link? (BottleFit, Matsubara et al. 2022, split computing)"""

from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from kernels.units import PS_PER_S
from sim.pipeline.bounded import Passed, Stage, run_stages
from studies._conv_nets import Layer, resnet101
from studies._panels import Panel, panels
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "BottleFit (Matsubara et al. 2022): up to 89 % less latency than on the device, 55 % less than offloading"
SMALL: dict[str, Any] = {"shares": (0.3,)}


class Board(NamedTuple):
    """Peak rates of a device, and its watts when it computes and when its radio sends."""

    flop_per_s: float
    byte_per_s: float
    compute_w: float
    radio_w: float


# NVIDIA Jetson Nano datasheet: 236 GFLOP/s of 32-bit values, 25.6 GB/s, 10 W; Raspberry Pi 4 (BCM2711, four Cortex-A72
# at 1.5 GHz, 8 FLOP a clock): 48 GFLOP/s, 4 GB/s as public STREAM runs give it, 6 W; a radio's 2 W is an estimate
BOARD = {"Jetson Nano": Board(236e9, 25.6e9, 10.0, 2.0), "Raspberry Pi 4": Board(48e9, 4e9, 6.0, 2.0)}
SERVER = Board(13.4e12, 616e9, 0.0, 0.0)  # a desktop's GPU at the edge
SHARES = (0.15, 0.3, 0.6)  # of peak rates that frameworks reach
IMAGE_BYTE, COMPRESSED = 110e3, 0.771  # mean JPEG of ImageNet's validation set; what the bottleneck saves of it
MBPS = (0.1, 1.0, 5.0, 20.0, 100.0)  # of the radio link: LoRa to Wi-Fi
ROUND_S = 5e-3  # of a packet each way
NUM_IMAGE = 40  # of a camera's, through bounded queues with a place each
HEAD_LAYER = 37  # of 370: the stem and three blocks, thinned to a bottleneck as the paper does it
THINNED = 0.1  # of those layers' work is left: the published head is 83 times smaller than the whole
TIME, JOULE, SAVED = "seconds an image", "joules an image on the device", "largest saving of time"
RATE = "images a second"
LOCAL, OFFLOAD, SPLIT = "on the device", "offloaded", "split at the bottleneck"
NOTE = (
    "ResNet-101 of 224 x 224 in 32 bits at a share of peak rates (0.15 to 0.6); head: the first 37 of 370 layers with "
    "a tenth of their work; JPEG of 110 KB; links of 0.1 to 100 Mbit/s; the paper's networks, links and watts differ"
)


def compute_s(layers: list[Layer], board: Board, share: float) -> float:
    """Every kernel at its roofline."""
    return sum(max(kernel.flop / board.flop_per_s, kernel.byte / board.byte_per_s) / share
               for layer in layers for kernel in layer.kernel)  # fmt: skip


class Cost(NamedTuple):
    second: float  # of an image alone
    joule: float  # on the device
    image_per_s: float  # of a camera that never waits


def cost(kind: str, name: str, mbps: float, share: float, *, kept: float = 1 - COMPRESSED,
         thinned: float = THINNED) -> Cost:  # fmt: skip
    """An image by one of the three ways; `kept`: bytes sent of the JPEG's, `thinned`: work left of the head."""
    board, layers = BOARD[name], resnet101()
    if kind == LOCAL:
        stages = [Stage("device", compute_s(layers, board, share))]
        joule = board.compute_w * compute_s(layers, board, share)
    else:
        head_s = thinned * compute_s(layers[:HEAD_LAYER], board, share) if kind == SPLIT else 0.0
        rest = layers[HEAD_LAYER:] if kind == SPLIT else layers
        sent_s = IMAGE_BYTE * (kept if kind == SPLIT else 1.0) / (mbps * 1e6 / 8)
        stages = [Stage("device", head_s), Stage("radio", sent_s), Stage("there and back", 2 * ROUND_S, NUM_IMAGE),
                  Stage("server", compute_s(rest, SERVER, share))]  # fmt: skip
        joule = head_s * board.compute_w + sent_s * board.radio_w
    alone, many = (run_stages(stages, num) for num in (1, NUM_IMAGE))
    return Cost(_end_s(alone), joule, many.item_per_s(NUM_IMAGE // 2))


def _end_s(passed: Passed) -> float:
    """When the last image is there."""
    return float(passed.leave_ps.max()) / PS_PER_S


def run(shares: tuple[float, ...] = SHARES, rates: tuple[float, ...] = MBPS) -> pd.DataFrame:
    """Time and joules by link, and the largest savings over all of them."""
    rows: list[dict[str, Any]] = []
    middle = shares[len(shares) // 2]
    saved: dict[str, list[float]] = {LOCAL: [], OFFLOAD: []}
    for name in BOARD:
        for mbps in rates:
            for kind in (LOCAL, OFFLOAD, SPLIT):
                found = cost(kind, name, mbps, middle)
                rows += [point(kind, TIME, f"{name}, {mbps:g} Mbit/s", found.second, NOTE),
                         point(kind, JOULE, f"{name}, {mbps:g} Mbit/s", found.joule, NOTE),
                         point(kind, RATE, f"{name}, {mbps:g} Mbit/s", found.image_per_s, NOTE)]  # fmt: skip
        slow, fast = rates[0], rates[-1]
        rows.append(order(SPLIT, "order: less than offloading on a slow link", f"{name}, {slow:g} Mbit/s",
                          cost(SPLIT, name, slow, middle).second < cost(OFFLOAD, name, slow, middle).second,
                          NOTE))  # fmt: skip
        rows.append(order(SPLIT, "order: less than on the device on a fast link", f"{name}, {fast:g} Mbit/s",
                          cost(SPLIT, name, fast, middle).second < cost(LOCAL, name, fast, middle).second,
                          NOTE))  # fmt: skip
    for share in shares:
        for kind, values in saved.items():
            values.append(max(1 - cost(SPLIT, name, mbps, share).second / cost(kind, name, mbps, share).second
                              for name in BOARD for mbps in rates))  # fmt: skip
    at = len(shares) // 2
    for kind, published in ((LOCAL, 0.89), (OFFLOAD, 0.55)):
        rows.append(row(SPLIT, SAVED, f"against {kind}", published, saved[kind][at], NOTE, null=0.0, said=True,
                        spread=saved[kind]))  # fmt: skip
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Time and joules by link on both boards."""
    shown = [
        Panel(claim, name, claim, f"{name}, ", curve=True, log=True) for claim in (TIME, JOULE, RATE) for name in BOARD
    ]
    return panels(table, shown, "BottleFit: on the device, offloaded, split")
