"""Short causal convolutions beside attention, without projections of their own (Inkling: of keys, values and of both
parts' results). A sequence keeps the last inputs of each channel."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kernels.optable import WorkTable
from workloads.models.layers.base import State, conv_row
from workloads.models.tensor import Tensor
from workloads.work import work_size

if TYPE_CHECKING:
    from workloads.rows import Rows


@dataclass(frozen=True)
class SideConv:
    num_head: int  # as attention's: tensor parallelism divides both alike
    channel: int
    kernel: int

    @property
    def width(self) -> int:
        return self.channel

    def tensors(self, hidden: int) -> list[Tensor]:
        return [Tensor("mix_conv", "norm", self.channel * self.kernel, 1, "tp")]

    def states(self) -> tuple[State, ...]:
        return (State("conv", self.channel * (self.kernel - 1), 0.0),)

    def lower(self, rows: "Rows", hidden: int) -> None:
        """Nothing depends on the token count alone."""

    def scan(self, rows: "Rows", work: WorkTable, decode: bool) -> None:
        token, sequence = work_size(work)
        conv_row(rows, self.channel // rows.placement.tp, self.kernel, token, sequence)
