"""Tori: the box that a group fills, the hops of its collectives, and slices of many cubes as one torus.

Devices lie row-major on `dims`, the last axis fastest, so that the first devices of a slice fill an axis, then a plane.
A collective on a torus runs a ring along each axis, so that P - 1 steps of a flat ring become the sum of (side - 1);
messages to all peers are held by the axis whose links carry the most of them.
"""

import itertools
import math
from dataclasses import replace

from hw_models.spec import Node

Sides = tuple[int, ...]


def box(dims: Sides, size: int) -> Sides | None:
    """Sides of the box that the first `size` devices fill; None where they fill none.

    >>> box((4, 4, 4), 16), box((4, 4, 4), 64), box((16, 16), 8), box((4, 4, 4), 6)
    ((1, 4, 4), (4, 4, 4), (1, 8), None)
    """
    sides = [1] * len(dims)
    left = size
    for axis in range(len(dims) - 1, -1, -1):
        sides[axis] = min(left, dims[axis])
        if left % sides[axis]:
            return None
        left //= sides[axis]
    return tuple(sides) if left == 1 else None


def ring_step(sides: Sides) -> float:
    """Steps that follow each other along all axes, over those of one flat ring through all devices.

    >>> ring_step((4, 4, 4)), ring_step((1, 1, 8))  # 9 of 63; an axis is a ring
    (0.14285714285714285, 1.0)
    """
    count = math.prod(sides)
    return sum(side - 1 for side in sides) / (count - 1) if count > 1 else 1.0


def peer_hop(dims: Sides, sides: Sides, wrap: bool) -> float:
    """How many times longer messages to all other devices of a box take than over links straight to each: all links of
    a device together, over what the busiest axis leaves (half of a closed axis at most, a third of an open one, away).

    >>> peer_hop((16, 16), (16, 16), True)  # two links an axis, four hops along it: 4 x 4 / 2, and 256 of 255 peers
    8.031372549019608
    >>> peer_hop((4, 4), (1, 2), True)
    1.0
    """
    count = math.prod(sides)
    links, busiest = 0.0, 0.0
    for dim, side in zip(dims, sides, strict=True):
        if side == 1:
            continue
        closed = wrap and side == dim and side > 2
        own = 2.0 if closed else 2.0 * (side - 1) / side  # links of a device along the axis, its ends have one
        mean = (side // 2) * ((side + 1) // 2) / side if closed else (side * side - 1) / (3.0 * side)
        links += own
        busiest = max(busiest, mean / own)
    return max(1.0, links * busiest * count / (count - 1)) if count > 1 else 1.0


def grown(node: Node, num_device: int) -> Node:
    """A torus node of more of its cubes, where its file lets slices grow (`num_slice_device`): the smallest and
    roundest torus of whole cubes that holds `num_device`, or the largest slice. Hosts, memory, ports and power grow
    with it.

    >>> from hw_models import catalog
    >>> grown(catalog.node("tpu_v5p_slice"), 6144).dims, grown(catalog.node("tpu_v5p_slice"), 100).dims
    ((16, 16, 24), (4, 4, 8))
    """
    if node.fabric != "torus" or num_device <= node.num_device or node.num_slice_device <= node.num_device:
        return node
    wanted = min(num_device, node.num_slice_device)
    most = node.num_slice_device // node.num_device
    factors = range(1, most + 1)
    shapes = [
        tuple(side * factor for side, factor in zip(node.dims, scale, strict=True))
        for scale in itertools.product(factors, repeat=len(node.dims))
        if list(scale) == sorted(scale) and wanted <= math.prod(scale) * node.num_device <= node.num_slice_device
    ]
    dims = min(shapes, key=lambda shape: (math.prod(shape), sum(shape)))
    factor = math.prod(dims) / node.num_device
    return replace(
        node,
        num_device=math.prod(dims),
        dims=dims,
        host_mem_byte=node.host_mem_byte * factor,
        host_mem_byte_per_s=node.host_mem_byte_per_s * factor,
        num_nic=round(node.num_nic * factor),
        rest_w=node.rest_w * factor,
        rest_usd_per_h=node.rest_usd_per_h * factor,
    )
