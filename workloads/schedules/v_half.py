"""V-Half: zero bubble on a V at half the activations of 1F1B (Qi et al. 2024, "controllable memory")."""

from collections.abc import Sequence

from workloads.pipeline import Order
from workloads.weight_fill import Block, fill_blocks


def block(num_rank: int, rank: int) -> Block:
    """Slots of F and I of both chunks of microbatch 0, of 6 a microbatch: forwards climb 2 slots a rank on the way
    down and 1 on the way up; the three-slot shift keeps a rank's slots apart for even p."""
    p, shift = num_rank, 3 if num_rank % 2 == 0 else 0
    return 2 * rank, 3 * p - rank - 2, 3 * p + shift + 2 * rank - 1, 6 * p + shift - rank - 2


def order(
    num_rank: int,
    num_microbatch: int,
    times: Sequence[int] = (1, 1, 1),
    hop: int = 0,
    limit: int | None = None,
) -> Order:
    """The repeated block, forwards pulled into gaps and weight gradients put into them, for these times of (F, I, W)
    of a chunk. `limit` in chunk activations: by default the peak of the block repeated, about p + 2 (1F1B: 2p)."""
    return fill_blocks(block, num_rank, num_microbatch, times, hop, limit)
