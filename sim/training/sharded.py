"""Fully sharded data parallelism layer by layer: gathers and scatters of one communicator under the compute.

All transfers of a device run on one stream in the order of issue (Zhao et al. 2023, section 3.3). Without backward
prefetch a layer's gather is issued after the scatter of the layer before it, and so waits for that layer's compute;
with it, before. The rate limiter holds a gather back until the layer that is `limit` before it has been freed.
"""

from typing import NamedTuple

import numpy as np

from sim.training.two_streams import COMPUTE, LINK, Overlap, TwoStreams


class Sharded(NamedTuple):
    """A step: its times, and the most layers that were gathered (or being gathered) at once."""

    times: Overlap
    most_gathered: int


def sharded_step(
    num_layer: int, forward_s: float, backward_s: float, gather_s: float, scatter_s: float, *, limit: int = 2,
    backward_prefetch: bool = True, slowdown: float = 1.0,
) -> Sharded:  # fmt: skip
    """Forward and backward pass of equal layers, each gathered for either pass and freed after it. `limit` 0: none.

    >>> sharded_step(2, 1.0, 2.0, 1.0, 1.0).times.total_s  # gather, 1, 1, gather, 2, 2, scatter
    9.0
    >>> sharded_step(2, 1.0, 2.0, 1.0, 1.0, backward_prefetch=False).times.total_s  # between the 2s scatter and gather
    11.0
    """
    streams = TwoStreams()
    gathers: list[int] = []
    uses: list[int] = []  # the pass that each gather is for

    def gather(after: list[int]) -> None:
        held = [uses[len(gathers) - limit]] if limit and len(gathers) >= limit else []
        gathers.append(streams.add(LINK, gather_s, [*after, *held]))

    for _ in range(num_layer):
        gather([])
        uses.append(streams.add(COMPUTE, forward_s, [gathers[-1]]))
    for layer in range(num_layer):
        if layer == 0 or not backward_prefetch:
            gather([uses[-1]])
        uses.append(streams.add(COMPUTE, backward_s, [gathers[num_layer + layer]]))
        if backward_prefetch and layer + 1 < num_layer:
            gather([uses[-2]])
        streams.add(LINK, scatter_s, [uses[-1]])
    times = streams.run(slowdown)
    taken, freed = times.start_ps[gathers], times.end_ps[uses]
    held_at = [int(((taken <= at) & (freed > at)).sum()) for at in taken]
    return Sharded(times, int(np.max(held_at)))
