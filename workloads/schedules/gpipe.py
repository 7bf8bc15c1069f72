"""GPipe: all forwards, then all backwards (Huang et al. 2019), both in ascending order."""

from workloads.pipeline import Op, Order


def order(num_rank: int, num_microbatch: int) -> Order:
    """F0..F(m-1), B0..B(m-1) on every rank. Peak: m activations.

    >>> [str(op) for op in order(2, 2)[1]]
    ['F1.0', 'F1.1', 'B1.0', 'B1.1']
    """
    return [[Op(kind, s, k) for kind in "FB" for k in range(num_microbatch)] for s in range(num_rank)]
