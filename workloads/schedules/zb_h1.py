"""ZB-H1: backward split in two, weight gradients fill the drain, memory of 1F1B (Qi et al. 2023)."""

from workloads.pipeline import Op, Order
from workloads.schedules.interleaved import chunk_sequence

NAME = "zb-h1"


def order(num_rank: int, num_microbatch: int, num_chunk: int = 1) -> Order:
    """Rank i: (v-1) rounds and (p-1-i) forwards, then F and I in turn; one W an I from the (i+1)-th I on; the rest of
    W at the end. The order of torch's interleaved zero bubble. Makespan bubble (p-1)(F+I-W), peak v p, on every rank.

    >>> " ".join(map(str, order(2, 2)[1]))
    'F1.0 I1.0 F1.1 I1.1 W1.0 W1.1'
    """
    forward = chunk_sequence(num_rank, num_microbatch, num_chunk)
    size = num_microbatch // max(1, num_microbatch // num_rank)
    total = len(forward)
    ranks = []
    for rank in range(num_rank):
        backward = [((num_chunk - 1 - chunk) * num_rank + rank, k) for chunk, k in forward]
        warm_up = min((num_chunk - 1) * size + (num_rank - 1 - rank), total)
        ops = [Op("F", chunk * num_rank + rank, k) for chunk, k in forward[:warm_up]]
        for n in range(total):
            if warm_up + n < total:
                chunk, k = forward[warm_up + n]
                ops.append(Op("F", chunk * num_rank + rank, k))
            ops.append(Op("I", *backward[n]))
            if n >= rank:
                ops.append(Op("W", *backward[n - rank]))
        ranks.append(ops + [Op("W", *at) for at in backward[max(total - rank, 0) :]])
    return ranks
