"""Breadth-first (looped) pipeline: every microbatch through a chunk before the next chunk (Lamy-Poirier 2023)."""

from workloads.pipeline import Op, Order


def order(num_rank: int, num_microbatch: int, num_chunk: int = 2) -> Order:
    """All forwards chunk by chunk, then all backwards from the last chunk, microbatches in reverse (as torch has it).

    A chunk's gradients are complete after one run of m backwards, so that its reduction and the next chunk's gather
    happen once a batch. Peak: m v chunks.
    """
    chunks, ks = range(num_chunk), range(num_microbatch)
    return [
        [Op("F", c * num_rank + rank, k) for c in chunks for k in ks]
        + [Op("B", c * num_rank + rank, k) for c in reversed(chunks) for k in reversed(ks)]
        for rank in range(num_rank)
    ]
