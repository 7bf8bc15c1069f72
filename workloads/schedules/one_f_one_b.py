"""1F1B with flush (PipeDream-flush, DAPPLE): warm up, then one forward and one backward in turn."""

from workloads.pipeline import Op, Order

NAME = "1f1b"


def order(num_rank: int, num_microbatch: int) -> Order:
    """Rank i runs min(p-1-i, m) forwards, then F and B in turn, then the backwards that are left. Peak: min(m, p-i).

    >>> " ".join(map(str, order(2, 3)[0]))
    'F0.0 F0.1 B0.0 F0.2 B0.1 B0.2'
    """
    ranks = []
    for s in range(num_rank):
        warm_up = min(num_rank - 1 - s, num_microbatch)
        ops = [Op("F", s, k) for k in range(warm_up)]
        for k in range(num_microbatch - warm_up):
            ops += [Op("F", s, warm_up + k), Op("B", s, k)]
        ranks.append(ops + [Op("B", s, k) for k in range(num_microbatch - warm_up, num_microbatch)])
    return ranks
