"""DualPipeV: DualPipe cut in half, one copy of the model on p ranks in a V, forward over backward."""

from kernels.errors import InputError
from workloads.pipeline import Op, Order

Step = tuple[str, int, int, bool]  # kind, side, index within the side, overlapped with the next


def two_sided(size: int, position: int, num_microbatch: int) -> list[Step]:
    """The eight phases of a rank at `position` of `size` (0: outermost, where side 0 enters), a side being the stage
    that sees its microbatches first (0) or last (1); `num_microbatch` a side."""
    steps: list[Step] = []
    count = {(kind, side): 0 for kind in "FG" for side in (0, 1)}
    pending: list[tuple[int, int]] = []  # weight gradients put off

    def run(kind: str, side: int, *, overlap: bool = False) -> None:
        counter = (kind if kind == "F" else "G", side)
        steps.append((kind, side, count[counter], overlap))
        count[counter] += 1
        if kind == "I":
            pending.append((side, count[counter] - 1))

    def weight() -> None:
        steps.append(("W", *pending.pop(0), False))

    inner, outer = size - position - 1, position + 1
    for _ in range(2 * inner):
        run("F", 0)
    for _ in range(outer):
        run("F", 0)
        run("F", 1)
    for _ in range(inner):
        run("I", 1)
        weight()
        run("F", 1)
    for n in range(num_microbatch - 2 * size + outer):
        run("F", 0, overlap=n > 0 or inner > 0)  # the innermost rank has nothing to overlap its first pair with
        run("B", 1)
        run("F", 1, overlap=True)
        run("B", 0)
    for _ in range(inner):
        run("B", 1)
        run("F", 1, overlap=True)
        run("B", 0)
    for n in range(outer):  # the second half puts its weight gradients off
        run("I" if n > outer // 2 or (n == outer // 2 and position % 2 == 1) else "B", 1)
        run("I" if n >= outer // 2 else "B", 0)
    for _ in range(inner):
        weight()
        run("I", 0)
    while pending:
        weight()
    return steps


def order(num_rank: int, num_microbatch: int) -> Order:
    """Rank i holds stages i and 2p-1-i; needs m >= 2p. Peak: 2p+1 chunks on every rank."""
    if num_microbatch < 2 * num_rank:
        raise InputError(
            "DualPipeV needs two microbatches a stage",
            field="microbatches", value=num_microbatch, allowed=f">= {2 * num_rank}",
        )  # fmt: skip
    return [
        [
            Op(kind, (rank, 2 * num_rank - 1 - rank)[side], k, overlap)
            for kind, side, k, overlap in two_sided(num_rank, rank, num_microbatch)
        ]
        for rank in range(num_rank)
    ]
