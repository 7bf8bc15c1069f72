"""Writing rows of the operator table: FLOPs and bytes of each kind of operator, in one place.

Bytes are those of device memory: every operator reads its inputs and weights once and writes its outputs
once. A GEMM is `2 m n k` FLOPs. FLOPs a value of the element-wise kinds:

=========  ====  =====================================================
norm       4, 7  RMS: square, sum, scale, weight; with mean: three more
rope       3     two multiplies and an add, of rotated channels
act        5     exponential, add, divide, two multiplies
add        1
sample     5     scale, subtract, exponential, sum, divide
convert    2     largest magnitude, scale
=========  ====  =====================================================
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from kernels import optable as op
from kernels.errors import InputError
from kernels.formats import FORMAT_CODE
from workloads.experts import distinct_rank
from workloads.formats import Formats
from workloads.models.spec import FeedForward
from workloads.placement import Placement

NORM_FLOP = {"rms": 4.0, "layer": 7.0}
ROPE_FLOP, ACT_FLOP, ADD_FLOP, SAMPLE_FLOP, CONVERT_FLOP = 3.0, 5.0, 1.0, 5.0, 2.0

MAX_TOKEN = 2**31  # shapes are 32-bit columns

Count = npt.NDArray[np.int64]


class Rows:
    """Rows for one token count, or for an array of them at once (then the table has a leading axis).

    Where there is no token there is no work: `count` is 0.
    """

    def __init__(self, formats: Formats, placement: Placement, num_token: npt.ArrayLike, stage: int = 0) -> None:
        self.formats, self.placement, self.stage = formats, placement, stage
        self.m: Count = np.asarray(num_token, dtype=np.int64)
        if self.m.size and not (self.m.min() >= 0 and self.m.max() * placement.attn_dp < MAX_TOKEN):
            worst = int(self.m.min() if self.m.min() < 0 else self.m.max())
            raise InputError(
                "not a token count", field="num_token", value=worst, allowed=f"0 to {MAX_TOKEN // placement.attn_dp}"
            )
        self.byte = formats.act_byte("activation")  # of a value in the residual stream
        self.count = 1  # repetitions of the rows added next
        self._rows: list[dict[str, Any]] = []

    def add(self, name: str, kind: int, **column: Any) -> None:
        fmt = column.pop("fmt", FORMAT_CODE[self.formats.activation])
        self._rows.append({"name": name, "kind": kind, "fmt": fmt, "count": self.count, **column})

    def table(self) -> op.OpTable:
        """The rows as an operator table of shape `[*token counts, rows]`."""
        ops, _ = op.empty(len(self._rows))
        ops = np.broadcast_to(ops, (*self.m.shape, len(self._rows))).copy()
        for r, row in enumerate(self._rows):
            for column, value in row.items():
                ops[column][..., r] = value
        ops["count"] *= (self.m > 0)[..., None]
        return ops

    def gemm(
        self, name: str, m: Count, n: int, k: int, part: str, batch: int = 1, bias: int = 0, write: bool = True
    ) -> None:
        """`m x k` by `k x n`, `batch` times, in the format of a part; activations are converted first where
        that format needs them narrower. `bias` values are read along."""
        if self.formats.converts(part):
            self.convert(name, m, k * batch, part)
        value = float(n) * k * batch
        self.add(
            name,
            op.GEMM,
            fmt=self.formats.code(part),
            m=m,
            n=n,
            k=k,
            batch=batch,
            flop=2.0 * m * value,
            weight_byte=value * self.formats.weight_byte(part) + bias * self.byte,
            act_byte=m * (float(k) * batch * self.formats.act_byte(part)),
            write_byte=m * (float(n) * batch * self.byte),
        )

    def convert(self, name: str, m: Count, n: int, part: str) -> None:
        """Narrow `m x n` activations to the format of a part."""
        self.add(
            f"quant_{name}",
            op.CONVERT,
            fmt=self.formats.code(part),
            m=m,
            n=n,
            flop=m * (CONVERT_FLOP * n),
            act_byte=m * (n * self.byte),
            write_byte=m * (n * self.formats.act_byte(part)),
        )

    def stream(
        self,
        name: str,
        kind: int,
        m: Count,
        n: int,
        flop: float,
        read: float = 1.0,
        write: float = 1.0,
        weight: int = 0,
    ) -> None:
        """An element-wise operator over `m x n` values: `flop` a value, `read` and `write` tensors of that
        size, and `weight` values of its own."""
        self.add(
            name,
            kind,
            m=m,
            n=n,
            flop=m * (flop * n),
            weight_byte=weight * self.byte,
            act_byte=m * (read * n * self.byte),
            write_byte=m * (write * n * self.byte),
        )

    def link(self, name: str, kind: int, group: str, size: int, link_byte: Any) -> None:
        """A collective over a group of the placement; nothing where the group is one device."""
        if size > 1:
            node = self.placement.group_node(group, self.stage)
            self.add(name, kind, link_byte=link_byte, group_size=size, group_node=node)

    def exchange(self, name: str, kind: int, f: FeedForward, token: Any, width: int, value_byte: float) -> None:
        """`token` rows of `width` values to the devices of their experts, or back; narrow values carry an fp32 scale
        for 128 of them. A row is `link_byte` once to every device that holds one of its experts."""
        p = self.placement
        if p.ep <= 1:
            return
        row = int(width * (value_byte + (1 / 32 if value_byte == 1 else 0)))
        copies = distinct_rank(f.num_expert, f.topk, p.ep)
        self.add(
            name, kind, m=token, n=row, topk=f.topk, num_expert=f.num_expert, group_size=p.ep,
            group_node=p.group_node("ep", self.stage), link_byte=token * (copies * row),
        )  # fmt: skip


def ceil_div(value: Any, by: int) -> Any:
    """Whole-number division rounded up, of numbers and arrays."""
    return -(-value // by)
