"""An order of a pipeline: which rank runs which operation of which stage on which microbatch, one after the other.

A *rank* is a device (or a group that works as one); a *stage* is a consecutive part of the model. A rank may hold
several stages (chunks), and with two directions a stage lives on two ranks: the order itself says who runs what.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from kernels.digits import whole
from kernels.errors import InputError
from kernels.schedule import OP_KINDS, Ints, find_inputs

KIND_CODE = {name: code for code, name in enumerate(OP_KINDS)}


class Op(NamedTuple):
    """F forward, B whole backward, I input gradient, W weight gradient, R recompute, O optimizer step."""

    kind: str
    stage: int
    microbatch: int
    overlap: bool = False  # runs together with the next operation of the rank

    def __str__(self) -> str:
        return f"{self.kind}{self.stage}.{self.microbatch}"


Order = list[list[Op]]  # a list a rank


class OpArrays(NamedTuple):
    """An order as arrays, ranks one after the other."""

    rank_start: Ints  # [num_rank + 1]
    rank: Ints  # [num_op], and so the rest
    kind: Ints
    stage: Ints
    microbatch: Ints
    overlap: np.ndarray  # bool
    dep: Ints  # operation whose output is needed, -1 for none
    num_stage: int
    num_microbatch: int

    def name(self, op: int) -> str:
        return f"{OP_KINDS[self.kind[op]]}{self.stage[op]}.{self.microbatch[op]}"


def compile_order(order: Sequence[Sequence[Op]]) -> OpArrays:
    """Arrays for the kernel, with the input of each operation found.

    Raises `InputError` for an operation given twice, one without its input anywhere, and one that comes before what
    it needs on its own rank.

    >>> compile_order([[Op("F", 0, 0), Op("B", 0, 0)]]).dep.tolist()
    [-1, -1]
    """
    flat = [op for ops in order for op in ops]
    if not flat:
        raise InputError("no operation in this order", field="order", value=[])
    if len({op[:3] for op in flat}) < len(flat):
        seen: set[tuple[str, int, int]] = set()
        twice = next(op for op in flat if op[:3] in seen or seen.add(op[:3]))  # type: ignore[func-returns-value]
        raise InputError("this operation is in the order twice", field="order", value=str(twice))
    rank_start = np.cumsum([0, *(len(ops) for ops in order)])
    code = np.array([(KIND_CODE[op.kind], op.stage, op.microbatch, op.overlap) for op in flat], np.int64).T.copy()
    num_stage, num_microbatch = int(code[1].max()) + 1, int(code[2].max()) + 1
    if num_stage * num_microbatch > 65_536 + 16 * len(flat):  # the table of who made what would be all gaps
        found = f"{num_stage} stages x {num_microbatch} microbatches in {len(flat)} operations"
        raise InputError("stages and microbatches are numbered from 0 on", field="order", value=found)
    dep = np.empty(len(flat), np.int64)
    wrong = find_inputs(rank_start, code[0], code[1], code[2], num_stage, num_microbatch, dep)
    if wrong >= 0:
        raise InputError(
            "an input of this operation is in no rank's order, or comes after it on its own rank",
            field="order",
            value=str(flat[wrong]),
        )
    rank = np.repeat(np.arange(len(order)), np.diff(rank_start))
    overlap = code[3].astype(np.bool_)
    return OpArrays(rank_start, rank, code[0], code[1], code[2], overlap, dep, num_stage, num_microbatch)


def serial(order: Iterable[Iterable[Op]]) -> Order:
    """The same order with overlapped pairs run one after the other."""
    return [[op._replace(overlap=False) for op in ops] for ops in order]


def split_backward(order: Iterable[Iterable[Op]]) -> Order:
    """B as I and W right after it."""
    return [
        [part for op in ops for part in ([Op("I", *op[1:3]), Op("W", *op[1:3])] if op.kind == "B" else [op])]
        for ops in order
    ]


def parse_ops(text: str) -> list[Op]:
    """`F0.0 I0.0 W0.0` as operations; `F0.1&B3.0` is an overlapped pair.

    >>> [str(op) for op in parse_ops("F0.0 F0.1&B3.0")]
    ['F0.0', 'F0.1', 'B3.0']
    """
    ops = []
    for token in text.split():
        parts = token.split("&")
        for part in parts:
            stage, dot, microbatch = part[1:].partition(".")
            where, which = whole(stage), whole(microbatch)
            if part[:1] not in KIND_CODE or not dot or where is None or which is None:
                raise InputError("not an operation", field="order", value=part, allowed="KIND STAGE . MICROBATCH")
            ops.append(Op(part[0], where, which, part is not parts[-1]))
    return ops
