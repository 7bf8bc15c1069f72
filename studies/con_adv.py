"""What does adversarial training cost a step where it waits for nothing? (ConAdv, Liu et al., ICLR 2022, ResNet-50)"""

import functools
from typing import TYPE_CHECKING, Any

import pandas as pd

from hw_models import catalog, device
from kernels.collective import collective_s
from kernels.formats import FORMAT_CODE
from kernels.optable import ALL_REDUCE
from sim.training.two_streams import COMPUTE, LINK, TwoStreams
from studies._conv_nets import BYTE, layer_times, resnet50
from studies._panels import Panel, panels
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "ConAdv (Liu et al. 2022): adversarial examples at the price of a plain step, one after the other at least twice"
)
SMALL: dict[str, Any] = {"batches": (32768, 98304)}
SYSTEM, SHARE, BATCHES = "tpu_v3", 0.45, (16384, 32768, 65536, 98304)  # share of the roofline: the ratios hardly see it
CHIPS = (256, 1024)
TWICE = 2.0
PLAIN, WAITS, WHOLE, AT_ONCE = "plain", "one after the other", "one after the other, all gradients", "at once, stale"
STEP, OVER = "ms of a step", "steps over plain ones"
NOTE = (
    "machine and size of the pod are not published: 256 or 1,024 TPU v3, a chip's share of the batch plain and as much "
    "of adversarial examples on as many chips more; a gradient of the images alone is two thirds of a pass, one that "
    "makes the weights' too is a whole one, and the all-reduce is hidden under the backward pass"
)


@functools.cache
def step_s(way: str, batch: int, chips: int) -> float:
    """One step of `chips` chips on clean images; those of adversarial ones wait for a gradient of their images by the
    weights of this step, or have one that older weights made beside the step before."""
    arrays = device.machine(catalog.system(SYSTEM, chips), "sol")
    fit, layers, count = arrays.fit[ALL_REDUCE, FORMAT_CODE["fp32"]], resnet50(), batch / chips
    times = layer_times(layers, catalog.device(SYSTEM), SHARE)
    forward, backward = (count * sum(one[at] for one in times) for at in (0, 1))
    streams = TwoStreams()
    if way in (WAITS, WHOLE):
        streams.add(COMPUTE, forward + backward * (0.5 if way == WAITS else 1.0))
    last = streams.add(COMPUTE, forward)
    for layer, time in zip(reversed(layers), reversed(times), strict=True):
        last = streams.add(COMPUTE, count * time[1])
        size = BYTE * sum(one.weight for one in layer.kernel)
        if size:
            streams.add(LINK, collective_s(ALL_REDUCE, size, chips, 1, arrays.link, fit)[0], [last])
    return streams.run().total_s


def over(way: str, batch: int, chips: int) -> float:
    """Over a plain step. At once, both gradients run side by side, each on chips of its own, and all chips share one
    all-reduce."""
    if way == AT_ONCE:
        return step_s(PLAIN, 2 * batch, 2 * chips) / step_s(PLAIN, batch, chips)
    return step_s(way, batch, chips) / step_s(PLAIN, batch, chips)


def run(batches: tuple[int, ...] = BATCHES, chips: tuple[int, ...] = CHIPS) -> pd.DataFrame:
    """Steps over plain ones by batch and pod."""
    found = {(way, batch, num): over(way, batch, num) for way in (WAITS, WHOLE) for batch in batches for num in chips}
    lead = found[WHOLE, batches[-1], chips[0]]
    table: list[dict[str, Any]] = [
        row("DisAdv", OVER, "ResNet-50, batches to 96K", TWICE, lead, NOTE, said=True,
            spread=[*found.values()]),
        order("ConAdv", "order: as fast as a plain step, whatever the batch", "twice the chips",
              all(over(AT_ONCE, batch, num) < 1.05 for batch in batches for num in chips), NOTE),
    ]  # fmt: skip
    for batch in batches:
        setup = f"batch {batch // 1024}K"
        table += [point(way, OVER, setup, over(way, batch, chips[0]), NOTE) for way in (WAITS, WHOLE, AT_ONCE)]
        table += [point(way, STEP, setup, 1e3 * step_s(way, batch, chips[0]), NOTE) for way in (PLAIN, WAITS, WHOLE)]
    return frame(table)


def plot(table: pd.DataFrame) -> "Figure":
    """Milliseconds of a step, and over a plain one, by batch."""
    shown = [Panel(OVER, "published", "over plain", "ResNet-50, "), Panel(OVER, "256 TPU v3", "over plain", "batch "),
             Panel(STEP, "256 TPU v3", "ms", "batch ")]  # fmt: skip
    return panels(table, shown, "ConAdv: adversarial examples of ResNet-50", columns=3)
