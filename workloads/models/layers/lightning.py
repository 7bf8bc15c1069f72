"""Lightning attention (MiniMax-01, arXiv 2501.08313): linear attention with a fixed decay a head, an output gate and a
norm; a head keeps a `head_dim x head_dim` matrix."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kernels import optable as op
from kernels.optable import WorkTable
from workloads.models.layers.base import CHUNK, State, scan_row
from workloads.models.tensor import Tensor
from workloads.work import work_size

if TYPE_CHECKING:
    from workloads.rows import Rows


@dataclass(frozen=True)
class Lightning:
    num_head: int
    head_dim: int
    state_byte: float = 4.0

    @property
    def inner(self) -> int:
        return self.num_head * self.head_dim

    @property
    def width(self) -> int:
        return 4 * self.inner

    def tensors(self, hidden: int) -> list[Tensor]:
        inner = self.inner
        return [
            Tensor("mix_in", "mixer", 3 * hidden * inner, 1, "tp", module=("self_attn.qkv_proj",)),
            Tensor("mix_gate", "mixer", hidden * inner, 1, "tp", module=("self_attn.output_gate",)),
            Tensor("mix_norm", "norm", inner, 1, "tp"),
            Tensor("mix_out", "mixer", inner * hidden, 1, "tp", module=("self_attn.out_proj", "self_attn.o_proj")),
        ]

    def states(self) -> tuple[State, ...]:
        return (State("recurrent", self.inner * self.head_dim, self.state_byte),)

    def lower(self, rows: "Rows", hidden: int) -> None:
        inner = self.inner // rows.placement.tp
        rows.gemm("mix_in", rows.m, 4 * inner, hidden, "mixer")
        rows.stream("mix_norm", op.NORM, rows.m, inner, 9.0, read=2, weight=inner)
        rows.gemm("o_proj", rows.m, hidden, inner, "mixer")

    def scan(self, rows: "Rows", work: WorkTable, decode: bool) -> None:
        token, sequence = work_size(work)
        head, d = self.num_head // rows.placement.tp, self.head_dim
        chunk = 4.0 * CHUNK * d + 4.0 * d * d  # within the chunk: scores, values; the state read and updated
        state = head * d * d * (self.state_byte or rows.byte)
        scan_row(rows, head, chunk, 6.0 * d * d, state, (3 * head * d, head * d), token, sequence, decode, 0)
