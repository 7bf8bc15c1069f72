"""Tensor parallelism with its batch in parts: the all-reduce of one part runs under the compute of the others.

With one part it stands between the halves of a layer; with two (Domino, Wang et al. 2024) part 0's runs under part 1's
half and the reverse. In the backward pass an all-reduce of input gradients runs beside the weight gradient of the same
product in either case.
"""

from sim.training.halves import Half
from sim.training.two_streams import COMPUTE, LINK, Overlap, TwoStreams


def split_step(layer: tuple[Half, Half], num_layer: int, num_part: int, slowdown: float = 1.0) -> Overlap:
    """Forward and backward pass of `num_layer` layers with the batch in `num_part` parts, each of which takes `layer`.

    >>> half = Half(1.0, 2.0, 0.0, 0.5)
    >>> split_step((half, half), 1, 1).total_s  # two halves of 3 and four all-reduces, nothing hidden
    8.0
    """
    streams = TwoStreams()
    before: list[list[int]] = [[] for _ in range(num_part)]  # what each part waits for
    for _ in range(num_layer):
        for half in layer:
            for part in range(num_part):
                done = streams.add(COMPUTE, half.forward_s, before[part])
                before[part] = [streams.add(LINK, half.reduce_s, [done])]
    for _ in range(num_layer):
        for half in reversed(layer):
            for part in range(num_part):
                done = streams.add(COMPUTE, half.backward_s, before[part])
                before[part] = [streams.add(LINK, half.reduce_s, [done])]
                streams.add(COMPUTE, half.weight_grad_s)
    return streams.run(slowdown)
