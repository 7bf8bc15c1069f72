"""BitPipe: two V-shaped interleaved pipelines in opposite directions (Wu et al. 2024)."""

from kernels.errors import InputError
from workloads.pipeline import Op, Order


def order(num_rank: int, num_microbatch: int) -> Order:
    """2p stages, four chunks a rank: the direction with the lower microbatches has stages i and 2p-1-i on rank i, the
    other on rank p-1-i. Units of p microbatches; slots as Chimera's with 2p stages: F at s + 2k, B at 4p-1-s + 2k.

    With B = 2F the bubble is (p-2)(m/p + 1) chunk forwards. Peak: 3p/2 + 1 + min(i, p-1-i) chunks for p >= 4.
    """
    if num_rank % 2 or num_microbatch % num_rank:
        field, value = ("stages", num_rank) if num_rank % 2 else ("microbatches", num_microbatch)
        raise InputError("BitPipe needs even stages and microbatches in multiples of them", field=field, value=value)
    num_stage, half = 2 * num_rank, num_microbatch // 2
    slots: list[list[tuple[int, Op]]] = [[] for _ in range(num_rank)]
    for k in range(half):
        unit, j = divmod(k, num_rank // 2)
        base = 2 * num_stage * unit + 2 * j
        for s in range(num_stage):
            down = min(s, num_stage - 1 - s)
            for direction, rank in ((0, down), (1, num_rank - 1 - down)):
                slots[rank].append((base + s, Op("F", s, direction * half + k)))
                slots[rank].append((base + 2 * num_stage - 1 - s, Op("B", s, direction * half + k)))
    return [[op for _, op in sorted(ops)] for ops in slots]
