"""V-Min: zero bubble on a V at a third of the activations of 1F1B (Qi et al. 2024, "controllable memory")."""

from collections.abc import Sequence

from workloads.pipeline import Order
from workloads.weight_fill import Block, fill_blocks


def block(num_rank: int, rank: int) -> Block:
    """Slots of F and I of both chunks of microbatch 0, of 6 a microbatch: every pass moves a rank a slot; the two-slot
    shift keeps a rank's slots apart where 3 divides p."""
    p, shift = num_rank, 2 if num_rank % 3 == 0 else 0
    return rank, 2 * p - rank - 1, 2 * p + shift + rank, 4 * p + shift - rank - 1


def order(
    num_rank: int,
    num_microbatch: int,
    times: Sequence[int] = (1, 1, 1),
    hop: int = 0,
    limit: int | None = None,
) -> Order:
    """As `v_half`, with the smaller block; `limit` by default 2p/3 + 2 chunks, rounded up to even. Good only where F, I
    and W take alike."""
    if limit is None:
        limit = (2 * num_rank // 3 + 3) // 2 * 2
    return fill_blocks(block, num_rank, num_microbatch, times, hop, limit)
