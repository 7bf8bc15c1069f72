"""ZB-V: zero bubble at the memory of 1F1B, two chunks a rank placed as a V (Qi et al. 2024), the handcrafted order."""

from workloads.pipeline import Op, Order

NAME = "zb-v"


def order(num_rank: int, num_microbatch: int) -> Order:
    """Rank i holds stages i and 2p-1-i; the order of torch's ZBV. Short batches run the order of 2p-1 microbatches
    with the missing ones left out.

    For F = I = W the span bubble is 0 and the makespan bubble (p-1)F; peak 2p chunks (p stages) on every rank.

    >>> " ".join(map(str, order(1, 1)[0]))
    'F0.0 F1.0 I1.0 W1.0 I0.0 W0.0'
    """
    total = max(2 * num_rank - 1, num_microbatch)
    return [
        [Op(kind, stage, k) for kind, stage, k in _rank_order(num_rank, rank, total) if k < num_microbatch]
        for rank in range(num_rank)
    ]


def _rank_order(num_rank: int, rank: int, total: int) -> list[tuple[str, int, int]]:
    stages = (rank, 2 * num_rank - 1 - rank)
    count = {(kind, chunk): 0 for kind in "FIW" for chunk in (0, 1)}
    ops: list[tuple[str, int, int]] = []

    def run(*what: str) -> None:
        for kind, chunk in ((text[0], int(text[1])) for text in what):
            ops.append((kind, stages[chunk], count[kind, chunk]))
            count[kind, chunk] += 1

    run(*["F0"] * (2 * (num_rank - rank) - 1))
    run(*["F1", "F0"] * rank)
    run(*["F1", "I1", "W1"] * (num_rank - rank))
    while count["F", 1] < count["F", 0] or count["F", 0] < total:
        if count["F", 0] < total:
            run("F0")
        run("I0", "W0", "F1", "I1", "W1")
    run(*["I0", "I1"] * rank)
    run(*["I0", "W0"] * (num_rank - rank))
    for chunk in (1, 0):
        run(*[f"W{chunk}"] * (count["I", chunk] - count["W", chunk]))
    return ops
