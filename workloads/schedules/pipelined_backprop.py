"""Pipelined backpropagation: no flush, an update after every backward, stale weights (Petrowski 1993; Kosson 2021)."""

from workloads.pipeline import Op, Order


def order(num_rank: int, num_microbatch: int) -> Order:
    """As 1F1B, but warm-up is 2(p-1-i) forwards, so that a rank in step never waits (for F = B and no hop), and an
    optimizer step (O) follows every B. Only filling and the end of training leave a rank idle.

    >>> " ".join(map(str, order(2, 3)[1]))
    'F1.0 B1.0 O1.0 F1.1 B1.1 O1.1 F1.2 B1.2 O1.2'
    """
    ranks = []
    for s in range(num_rank):
        warm_up = min(staleness(num_rank, s), num_microbatch)
        ops = [Op("F", s, k) for k in range(warm_up)]
        for k in range(num_microbatch):
            if warm_up + k < num_microbatch:
                ops.append(Op("F", s, warm_up + k))
            ops += [Op("B", s, k), Op("O", s, k)]
        ranks.append(ops)
    return ranks


def staleness(num_rank: int, stage: int) -> int:
    """Updates between the weights that a forward of this stage read and those that its backward changes.

    >>> [staleness(4, s) for s in range(4)]
    [6, 4, 2, 0]
    """
    return 2 * (num_rank - 1 - stage)
