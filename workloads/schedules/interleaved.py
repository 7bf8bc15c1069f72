"""Interleaved 1F1B: each rank holds v chunks of the model, p stages apart (Narayanan et al. 2021)."""

from kernels.errors import InputError
from workloads.pipeline import Op, Order

NAME = "interleaved-1f1b"


def chunk_sequence(num_rank: int, num_microbatch: int, num_chunk: int) -> list[tuple[int, int]]:
    """(chunk, microbatch) in the order in which forwards enter: rounds of about p microbatches, chunk by chunk inside
    a round. The round is m // max(1, m // p) microbatches and must divide m (torch's relaxation of Megatron's rule
    that p divides m)."""
    num_round = max(1, num_microbatch // num_rank)
    if num_microbatch % num_round:
        raise InputError(
            f"microbatches must divide by the number of rounds (microbatches // stages = {num_round})",
            field="microbatches", value=num_microbatch, allowed=f"multiples of {num_round}",
        )  # fmt: skip
    size = num_microbatch // num_round
    return [(chunk, r * size + k) for r in range(num_round) for chunk in range(num_chunk) for k in range(size)]


def order(num_rank: int, num_microbatch: int, num_chunk: int = 2) -> Order:
    """Rank i warms up with (v-1) rounds' worth and 2(p-1-i) more, then F and B in turn.

    Chunk c of rank i is stage c p + i. Backwards run the same sequence with the chunks reversed. Where p divides m,
    the bubble is (p-1)(F+B) of chunk times, 1/v of 1F1B's, and the peak min(mv, (v-1)p + 2(p-1-i) + 1) chunks.
    """
    forward = chunk_sequence(num_rank, num_microbatch, num_chunk)
    size = num_microbatch // max(1, num_microbatch // num_rank)
    total = len(forward)
    ranks = []
    for rank in range(num_rank):
        fs = [Op("F", chunk * num_rank + rank, k) for chunk, k in forward]
        bs = [Op("B", (num_chunk - 1 - chunk) * num_rank + rank, k) for chunk, k in forward]
        warm_up = min((num_chunk - 1) * size + 2 * (num_rank - 1 - rank), total)
        steady = [op for pair in zip(fs[warm_up:], bs, strict=False) for op in pair]
        ranks.append(fs[:warm_up] + steady + bs[total - warm_up :])
    return ranks
