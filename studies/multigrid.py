"""How much faster is video training whose clips grow from small to large under one budget? (Multigrid, CVPR 2020)"""

import functools
import itertools
import math
import textwrap
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from hw_models import catalog
from sim.show.plot_style import BLUE, FAINT, ORANGE, PALETTE, new_figure, styled, suptitle
from studies._conv_nets import Layer, conv, layer_times, norm, relu
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Multigrid (Wu et al. 2020): SlowFast R50 on Kinetics-400 4.5 times faster on the same GPUs"
SMALL: dict[str, Any] = {}
# the authors' configuration: clips of 32 frames of 224 pixels, eight a GPU; rate drops at these epochs, and their end
FRAMES, SIDE, CLIPS, DROPS, EPOCHS = 32, 224, 8, (0, 94, 154, 196), 239
LONG = ((1 / 4, math.sqrt(1 / 2)), (1 / 2, math.sqrt(1 / 2)), (1 / 2, 1.0), (1.0, 1.0))  # share of frames, and of side
SHORT = (1 / 2, math.sqrt(1 / 2))  # sides of two of three iterations; the third has the long cycle's
EPOCH_FACTOR, FASTER = 1.5, 4.5
DEVICE = "v100_sxm_32gb"
NUM_CLIP = 240_436  # training videos of Kinetics-400
SHARES = (0.5, 0.3, 0.8)  # of the roofline that kernels reach: cancels but for what is fixed a step
FIXED_S = (0.0, 0.05)  # of a step, whatever its shape
TIME, SHAPE = "seconds of a step over the largest shape's", "share of the steps"
PLAIN, MULTI = "one shape", "multigrid"
NOTE = (
    "the authors' schedule (long and short cycles, 1.5 times the epochs); slow and fast path of ResNet-50 layer by "
    "layer on V100, every map rounded up to whole pixels; decoding hidden; nothing to 50 ms fixed a step; the schedule "
    "has 3.4 times fewer pixels to compute, so that what is beyond that is not of the kernels"
)


class Shape(NamedTuple):
    """Clips relative to the plain batch, frames, pixels of a side."""

    batch: int
    frames: int
    side: int


def cycle(frames: float, side: float, *, short: bool = True) -> list[Shape]:
    """The shapes that a long cycle's iterations go through, each of as many pixels as the plain one."""
    sides = [SIDE * one for one in SHORT] * short + [SIDE * side]
    kept = FRAMES * frames
    return [Shape(round(FRAMES * SIDE**2 / (kept * one**2)), round(kept), round(one)) for one in sides]


def mean_batch(shapes: list[Shape]) -> float:
    return sum(one.batch for one in shapes) / len(shapes)


def schedule(long: tuple[tuple[float, float], ...] = LONG, *, short: bool = True, factor: float = EPOCH_FACTOR) -> list[
    tuple[list[Shape], float]
]:  # fmt: skip
    """(shapes, epochs) in order: at each rate every long cycle gets as many iterations; the end, at the last shape,
    saves iterations as all before it does."""
    shapes = [cycle(*one, short=short) for one in long]
    whole = sum(mean_batch(one) for one in shapes)
    out, turns = [], 0.0
    for first, last in itertools.pairwise(DROPS):
        for one in shapes:
            out.append((one, (last - first) * mean_batch(one) / whole))
            turns += (last - first) / whole
    out.append((shapes[-1], (EPOCHS - DROPS[-1]) * turns / DROPS[-1] * mean_batch(shapes[-1])))
    scale = EPOCHS * factor / sum(epochs for _, epochs in out)
    return [(one, epochs * scale) for one, epochs in out]


def path(channels: int, side: int) -> list[Layer]:
    """One path of ResNet-50 on a frame of `side` pixels, of `channels` at its first layer."""
    at = math.ceil(side / 2)
    layers = [Layer((conv(3, channels, 49, at, 2), norm(channels, at), relu(channels, at)), 0.0)]
    at, c_in = math.ceil(at / 2), channels
    for group, count in enumerate((3, 4, 6, 3)):
        plane = channels << group
        for block in range(count):
            stride = 2 if group and not block else 1
            out = math.ceil(at / stride)
            window = (
                3 if group > 1 else 1
            )  # frames that the first product of a block sees, in the slow path's late groups
            layers.append(
                Layer(
                    (
                        conv(c_in, plane, window, at),
                        norm(plane, at),
                        relu(plane, at),
                        conv(plane, plane, 9, out, stride),
                        norm(plane, out),
                        relu(plane, out),
                        conv(plane, 4 * plane, 1, out),
                        norm(4 * plane, out),
                        relu(4 * plane, out),
                    ),
                    0.0,
                )
            )
            at, c_in = out, 4 * plane
    return layers


@functools.cache
def clip_s(frames: int, side: int, share: float) -> float:
    """Seconds of a clip, forward and backward: a quarter of the frames in the slow path, all in a fast one of an eighth
    of its channels."""
    device = catalog.device(DEVICE)
    slow, fast = (
        sum(map(sum, layer_times(path(channels, side), device, share, winograd=False))) for channels in (64, 8)
    )
    return math.ceil(frames / 4) * slow + frames * fast


def step_s(shape: Shape, share: float, fixed: float) -> float:
    return CLIPS * shape.batch * clip_s(shape.frames, shape.side, share) + fixed


def run_s(plan: list[tuple[list[Shape], float]], share: float, fixed: float, num_gpu: int = 8) -> float:
    """Seconds of all iterations, a third of a cycle's (or all) at each shape."""
    total = 0.0
    for shapes, epochs in plan:
        turns = epochs * NUM_CLIP / (CLIPS * num_gpu * mean_batch(shapes))
        total += turns * sum(step_s(one, share, fixed) for one in shapes) / len(shapes)
    return total


def faster(share: float, fixed: float, **way: Any) -> float:
    """Time of one shape throughout over the schedule's."""
    return run_s([([Shape(1, FRAMES, SIDE)], float(EPOCHS))], share, fixed) / run_s(schedule(**way), share, fixed)


def run() -> pd.DataFrame:
    """The speed-up, by cycle, and what each shape costs."""
    ways = [(share, fixed) for share in SHARES for fixed in FIXED_S]
    found = [faster(*way) for way in ways]
    only = [faster(*ways[0], long=LONG[-1:]), faster(*ways[0], short=False)]
    steps = [step_s(one, *ways[0]) for shapes in (cycle(*at) for at in LONG) for one in shapes]
    rows: list[dict[str, Any]] = [
        row(MULTI, "faster than one shape", "SlowFast R50, 8x8", FASTER, found[0], NOTE, null=1.0, spread=found),
        order(MULTI, "order: both cycles faster than either", "SlowFast R50, 8x8", found[0] > max(only),
              f"short alone {only[0]:.2f}, long alone {only[1]:.2f} times; {NOTE}"),
        order(MULTI, "order: no shape's step is cheaper than the largest's, for its rounding", "SlowFast R50, 8x8",
              min(steps) > 0.97 * steps[-1], f"{min(steps) / steps[-1]:.2f} to {max(steps) / steps[-1]:.2f} times"),
    ]  # fmt: skip
    rows += [point(MULTI, TIME, f"{one.batch} x {one.frames} x {one.side}", step_s(one, *ways[0]) / steps[-1])
             for at in LONG for one in cycle(*at)]  # fmt: skip
    for way, value in (("short cycle", only[0]), ("long cycle", only[1]), ("both", found[0])):
        rows.append(point(way, "gain", way, value))
    return frame(rows)


@styled
def plot(table: pd.DataFrame) -> "Figure":
    """What each shape's step costs, and the gain of either cycle and of both beside the published one."""
    figure, (step, gain) = new_figure(1, 2, (10.5, 3.6), width_ratios=(2, 1))
    part = table[table["claim"] == TIME]
    step.bar(part["setup"], part["simulated"], color=PALETTE[0])
    step.axhline(1, color=FAINT, lw=0.8)
    step.tick_params(axis="x", rotation=40, labelsize=7)
    step.set(ylabel=textwrap.fill(TIME, 32), xlabel="batch x frames x pixels")
    own = table[table["claim"] == "gain"]
    gain.bar(own["setup"], own["simulated"], color=BLUE, label="simulated")
    gain.axhline(float(table["paper"].iloc[0]), color=ORANGE, ls="--", label="published")
    gain.set_ylabel("faster than one shape")
    gain.legend(fontsize=7)
    suptitle(figure, "Multigrid training of SlowFast on V100")
    return figure
