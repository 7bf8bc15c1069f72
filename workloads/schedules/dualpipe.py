"""DualPipe: two copies of the model in opposite directions, forward over backward (DeepSeek-V3)."""

from kernels.errors import InputError
from workloads.pipeline import Op, Order
from workloads.schedules.dualpipe_v import two_sided


def order(num_rank: int, num_microbatch: int) -> Order:
    """Half of the microbatches (the lower ones) enter at rank 0, half at rank p-1; p even, m even, m >= 2p. A rank
    holds stage i of one copy and p-1-i of the other. Peak: p+1 activations on every rank.
    """
    if num_rank % 2:
        raise InputError("DualPipe needs an even number of stages", field="stages", value=num_rank)
    if num_microbatch % 2 or num_microbatch < 2 * num_rank:
        raise InputError(
            "DualPipe needs an even number of microbatches, two a stage at least",
            field="microbatches", value=num_microbatch, allowed=f"even, >= {2 * num_rank}",
        )  # fmt: skip
    half = num_microbatch // 2
    ranks = []
    for rank in range(num_rank):
        near = min(rank, num_rank - 1 - rank)  # distance from the end where side 0 enters
        enters = int(rank >= num_rank // 2)  # the direction that side 0 is
        ranks.append(
            [
                Op(kind, (near, num_rank - 1 - near)[side], (enters ^ side) * half + k, overlap)
                for kind, side, k, overlap in two_sided(num_rank // 2, near, half)
            ]
        )
    return ranks
