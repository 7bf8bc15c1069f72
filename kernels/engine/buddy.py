"""Contiguous KV: a buddy allocator in one array, as systems before paged attention reserve it.

Node 1 is the root of a binary tree over `2^levels` blocks; `tree[node]` is the largest free chunk below it.
Chunks are powers of two and aligned to their size, so memory is lost to rounding inside a chunk and to holes
between chunks (Knuth, The Art of Computer Programming 1, 2.5).
"""

import numpy as np

from kernels.engine.records import SmallInts
from kernels.jit import njit


@njit
def ceil_pow2(value: int) -> int:
    """The smallest power of two not below `value`.

    >>> ceil_pow2(1), ceil_pow2(5), ceil_pow2(64)
    (1, 8, 64)
    """
    size = 1
    while size < value:
        size *= 2
    return size


def build(num_block: int) -> SmallInts:
    """A free tree over `num_block` blocks (not necessarily a power of two).

    >>> build(3)[1:].tolist()  # 4 leaves, the last one absent: the largest chunk is 2
    [2, 2, 1, 1, 1, 1, 0]
    """
    width = int(ceil_pow2(num_block))
    tree = np.zeros(2 * width, np.int32)
    tree[width : width + num_block] = 1
    size = 1
    while width > 1:
        left, right = tree[width : 2 * width : 2], tree[width + 1 : 2 * width : 2]
        tree[width // 2 : width] = np.where((left == size) & (right == size), 2 * size, np.maximum(left, right))
        width //= 2
        size *= 2
    return tree


@njit
def take(tree: SmallInts, num_block: int) -> int:
    """Address of a chunk of at least `num_block` blocks, lowest address first; -1 where none is free."""
    size = ceil_pow2(num_block)
    if tree[1] < size:
        return -1
    width = len(tree) // 2
    node = 1
    span = width
    while span > size:
        node *= 2
        if tree[node] < size:
            node += 1
        span //= 2
    tree[node] = 0
    address = node * span - width
    _update(tree, node, span)
    return address


@njit
def give(tree: SmallInts, address: int, num_block: int) -> None:
    """Frees the chunk at `address` that was taken for `num_block` blocks."""
    size = ceil_pow2(num_block)
    node = (address + len(tree) // 2) // size
    tree[node] = size
    _update(tree, node, size)


@njit
def _update(tree: SmallInts, node: int, span: int) -> None:
    while node > 1:
        node //= 2
        left, right = tree[2 * node], tree[2 * node + 1]
        tree[node] = 2 * span if left == span and right == span else max(left, right)
        span *= 2
