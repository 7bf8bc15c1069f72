"""Which nodes a parallel group touches, and which hops leave a node: exact, from where the ranks lie.

Ranks fill nodes in order, `device_per_node` each. A parallel dimension is a `size` and a `stride` (how many ranks lie
between neighbours of one group): in the usual order (tensor, context, data, pipeline; innermost first) the strides are
1, tp, tp x cp and tp x cp x dp, whatever the sizes. Experts have dimensions of their own over the same ranks.
"""

from kernels.jit import njit


@njit
def group_node(size: int, stride: int, device_per_node: int, num_rank: int) -> int:
    """Nodes that the widest group of `size` ranks, `stride` apart, touches, over all groups of `num_rank` ranks.

    >>> group_node(8, 1, 8, 64), group_node(16, 1, 8, 64), group_node(8, 8, 8, 64), group_node(4, 4, 8, 64)
    (1, 2, 8, 2)
    >>> group_node(4, 1, 6, 12)  # ranks 4 to 7 lie on two nodes
    2
    """
    if size <= 1 or num_rank <= device_per_node:
        return 1
    span = size * stride
    if device_per_node % span == 0:
        return 1
    if stride % device_per_node == 0:
        return size
    if device_per_node % stride == 0 and span % device_per_node == 0:
        return span // device_per_node
    most = 1
    for block in range(0, max(num_rank, span), span):
        for first in range(block, block + stride):
            found, last = 1, first // device_per_node
            for member in range(1, size):
                node = (first + member * stride) // device_per_node
                if node != last:
                    found, last = found + 1, node
            most = max(most, found)
        if (block + span) % device_per_node == 0:  # from here on the pattern repeats
            break
    return most


@njit
def hop_node(stage: int, num_stage: int, stride: int, device_per_node: int, num_rank: int) -> int:
    """Nodes (1 or 2) that a hop from `stage` to the next touches: 2 where a rank of the stage has to leave its node.
    The last stage's next is the first (interleaved schedules). `stride`: ranks between one stage and the next.

    >>> [hop_node(stage, 16, 1, 8, 16) for stage in range(15)].count(2)  # 16 stages on two nodes of 8
    1
    """
    if num_stage <= 1 or num_rank <= device_per_node:
        return 1
    if stride >= device_per_node:
        return 2
    block = num_stage * stride
    for start in range(0, max(num_rank, block), block):
        for place in range(stride):
            here = start + stage * stride + place
            there = start + (stage + 1) % num_stage * stride + place
            if here // device_per_node != there // device_per_node:
                return 2
        if (start + block) % device_per_node == 0:
            break
    return 1


@njit
def crossing_share(num_stage: int, stride: int, device_per_node: int, num_rank: int) -> float:
    """Share of the hops from stage to stage that leave a node.

    >>> crossing_share(16, 1, 8, 16), crossing_share(4, 8, 8, 32), crossing_share(2, 4, 8, 8)
    (0.06666666666666667, 1.0, 0.0)
    """
    if num_stage <= 1 or num_rank <= device_per_node:
        return 0.0
    if stride >= device_per_node:
        return 1.0
    found = 0
    for stage in range(num_stage - 1):
        found += hop_node(stage, num_stage, stride, device_per_node, num_rank) - 1
    return found / (num_stage - 1)
