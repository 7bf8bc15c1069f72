"""ZB-V placed in time: the V with its gaps filled for given times and memory (after Qi et al. 2024)."""

from collections.abc import Sequence

from workloads.pipeline import Order
from workloads.schedules.zb_v import order as handcrafted
from workloads.weight_fill import fill_order


def order(
    num_rank: int,
    num_microbatch: int,
    times: Sequence[int] = (1, 1, 1),
    hop: int = 0,
    memory: Sequence[int] = (1, 0, -1),
    limit: int | None = None,
) -> Order:
    """ZB-V's forwards and input gradients with weight gradients and early forwards where these times leave gaps; the
    best of several settings. `limit` by default 2p chunk forwards, the memory of 1F1B."""
    base = [[op for op in ops if op.kind != "W"] for ops in handcrafted(num_rank, num_microbatch)]
    return fill_order(base, times, hop, memory, 2 * num_rank * memory[0] if limit is None else limit)
