"""ZB-H2: enough forwards in flight that no rank waits between its first and last operation (Qi et al. 2023)."""

from workloads.pipeline import Op, Order

NAME = "zb-h2"


def order(num_rank: int, num_microbatch: int) -> Order:
    """Rank i fills the time until its first gradient with 2(p-1-i)+1 forwards, then runs I, W, F in turn with W
    2i microbatches behind I, so that the gradients leave the last rank early and its W's fill the drain.

    For F = I = W and m >= 2p-1 the span bubble is 0; the peak is min(m, 2p-1) activations.
    """
    ranks = []
    for s in range(num_rank):
        warm_up, lag = min(2 * (num_rank - 1 - s) + 1, num_microbatch), 2 * s
        ops = [Op("F", s, k) for k in range(warm_up)]
        for k in range(num_microbatch):
            ops.append(Op("I", s, k))
            if k >= lag:
                ops.append(Op("W", s, k - lag))
            if warm_up + k < num_microbatch:
                ops.append(Op("F", s, warm_up + k))
        ranks.append(ops + [Op("W", s, k) for k in range(max(num_microbatch - lag, 0), num_microbatch)])
    return ranks
