"""Chimera: two pipelines in opposite directions on the same ranks (Li and Hoefler 2021)."""

from kernels.errors import InputError
from workloads.pipeline import Op, Order


def order(num_rank: int, num_microbatch: int) -> Order:
    """Units of p microbatches, p/2 a direction: the one with the lower numbers runs stage s on rank s, the other on
    rank p-1-s. Every rank follows slots that cannot collide for even p: F of the k-th microbatch of a direction at
    s + 2k, its B at 2p-1-s + 2k; the next unit 2p slots later. With F = B the bubble is p-2 slots for one unit.
    """
    if num_rank % 2 or num_microbatch % num_rank:
        field, value = ("stages", num_rank) if num_rank % 2 else ("microbatches", num_microbatch)
        raise InputError("Chimera needs even stages and microbatches in multiples of them", field=field, value=value)
    half, slots = num_microbatch // 2, [[] for _ in range(num_rank)]  # type: tuple[int, list[list[tuple[int, Op]]]]
    for k in range(half):
        unit, j = divmod(k, num_rank // 2)
        for s in range(num_rank):
            for direction, rank in ((0, s), (1, num_rank - 1 - s)):
                base = 2 * num_rank * unit + 2 * j
                slots[rank].append((base + s, Op("F", s, direction * half + k)))
                slots[rank].append((base + 2 * num_rank - 1 - s, Op("B", s, direction * half + k)))
    return [[op for _, op in sorted(ops)] for ops in slots]
