"""2BP: any schedule with its backward split in two, the weight gradients put off (Rae et al. 2024)."""

from kernels.errors import InputError
from workloads.pipeline import Op, Order, serial, split_backward

NAME = "2bp"


def order(num_rank: int, num_microbatch: int, base: str = "1f1b", lag: int | None = None) -> Order:
    """The order of `base` with every B as I, its W after `lag` more I's of the rank (None: all at the end).

    Overlapped pairs are run one after the other. A longer lag frees the next rank sooner and keeps more activations.

    >>> " ".join(map(str, order(2, 2)[0]))
    'F0.0 F0.1 I0.0 I0.1 W0.0 W0.1'
    """
    from workloads.schedules import load  # the folder lists this file

    if base == NAME:
        raise InputError("2bp cannot be its own base", field="base", value=base)
    if lag is not None and lag < 0:
        raise InputError("too small", field="lag", value=lag, allowed=">= 0")
    ranks = []
    for ops in split_backward(serial(load(base).build(num_rank, num_microbatch))):
        pending: list[Op] = []
        out: list[Op] = []
        for op in ops:
            if op.kind == "W":
                continue
            out.append(op)
            if op.kind == "I":
                pending.append(Op("W", op.stage, op.microbatch))
                if lag is not None and len(pending) > lag:
                    out.append(pending.pop(0))
        ranks.append(out + pending)
    return ranks
