"""A linear map in the place of attention or of the feed-forward part (Nemotron-NAS: `replace_with_linear`)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kernels.optable import WorkTable
from workloads.models.layers.base import State
from workloads.models.tensor import Tensor

if TYPE_CHECKING:
    from workloads.rows import Rows


@dataclass(frozen=True)
class Linear:
    """A square map of the hidden width; no token sees another."""

    width: int

    @property
    def num_head(self) -> int:
        return self.width

    def tensors(self, hidden: int) -> list[Tensor]:
        return [Tensor("mix_out", "mixer", hidden * hidden, 1, "tp", module=("self_attn.linear_attn",))]

    def states(self) -> tuple[State, ...]:
        return ()

    def lower(self, rows: "Rows", hidden: int) -> None:
        rows.gemm("o_proj", rows.m, hidden, hidden // rows.placement.tp, "mixer")

    def scan(self, rows: "Rows", work: WorkTable, decode: bool) -> None:
        """Nothing is carried from token to token."""
