"""Gated short convolution (LFM2, arXiv 2511.23404): three projections of the input, a causal convolution between two
gates, a projection back. A sequence keeps the last inputs of the convolution alone."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kernels.optable import WorkTable
from workloads.models.layers.base import State, conv_row
from workloads.models.tensor import Tensor
from workloads.work import work_size

if TYPE_CHECKING:
    from workloads.rows import Rows


@dataclass(frozen=True)
class ShortConv:
    channel: int
    kernel: int
    bias: bool = False

    @property
    def num_head(self) -> int:
        return self.channel

    @property
    def width(self) -> int:
        return 3 * self.channel

    def tensors(self, hidden: int) -> list[Tensor]:
        bias = 1 if self.bias else 0
        return [
            Tensor("mix_in", "mixer", 3 * self.channel * (hidden + bias), 1, "tp", module=("conv.in_proj",)),
            Tensor("mix_conv", "norm", self.channel * (self.kernel + bias), 1, "tp"),
            Tensor("mix_out", "mixer", (self.channel + bias) * hidden, 1, "tp", module=("conv.out_proj",)),
        ]

    def states(self) -> tuple[State, ...]:
        return (State("conv", self.channel * (self.kernel - 1), 0.0),)

    def lower(self, rows: "Rows", hidden: int) -> None:
        width = self.channel // rows.placement.tp
        rows.gemm("mix_in", rows.m, 3 * width, hidden, "mixer", bias=3 * width if self.bias else 0)
        rows.gemm("o_proj", rows.m, hidden, width, "mixer", bias=hidden if self.bias else 0)

    def scan(self, rows: "Rows", work: WorkTable, decode: bool) -> None:
        token, sequence = work_size(work)
        conv_row(rows, self.channel // rows.placement.tp, self.kernel, token, sequence, self.bias)
