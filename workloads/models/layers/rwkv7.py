"""RWKV-7's time mixing (arXiv 2503.14456): a matrix a head that decays by channel and is updated by a generalised delta
rule; decays, learning rates, value mixing and the output gate come from low-rank projections. Every part sees the token
before beside its own, so that a sequence keeps one token's input a part (`conv`)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kernels import optable as op
from kernels.optable import WorkTable
from workloads.models.layers.base import CHUNK, State, scan_row
from workloads.models.tensor import Tensor
from workloads.work import work_size

if TYPE_CHECKING:
    from workloads.rows import Rows

MIX_FLOP = 3.0  # a part's share of the token before, a channel


@dataclass(frozen=True)
class Rwkv7:
    hidden: int
    head_dim: int
    decay_rank: int
    rate_rank: int  # of the delta rule's learning rate
    value_rank: int
    gate_rank: int
    state_byte: float = 4.0  # its kernels keep fp32

    @property
    def num_head(self) -> int:
        return self.hidden // self.head_dim

    @property
    def width(self) -> int:
        return 4 * self.hidden

    @property
    def _rank(self) -> int:
        return self.decay_rank + self.rate_rank + self.value_rank + self.gate_rank

    def tensors(self, hidden: int) -> list[Tensor]:
        h, at = self.hidden, "attn"
        # six mixes, the scales of keys, the bonus of each head, the norm of the heads with its bias; biases of the
        # decay, the rate and the value's share
        small = 6 * hidden + 3 * h + 2 * h + 3 * h
        return [
            Tensor("mix_in", "mixer", 3 * hidden * h, 1, "tp",
                   module=(f"{at}.r_proj", f"{at}.k_proj", f"{at}.v_proj")),
            Tensor("mix_gate", "mixer", 2 * hidden * self._rank, 1, "tp", module=(f"{at}.w_lora", f"{at}.g_lora")),
            Tensor("mix_small", "norm", small, 1, "tp"),
            Tensor("mix_out", "mixer", h * hidden, 1, "tp", module=(f"{at}.o_proj",)),
        ]  # fmt: skip

    def states(self) -> tuple[State, ...]:
        """The input of the token before, of time and of channel mixing, and the matrix of each head."""
        return (
            State("conv", 2 * self.hidden, 0.0, sharded=False),
            State("recurrent", self.hidden * self.head_dim, self.state_byte),
        )

    def lower(self, rows: "Rows", hidden: int) -> None:
        m, own = rows.m, self.hidden // rows.placement.tp
        rows.stream("mix_shift", op.ADD, m, hidden, 6 * MIX_FLOP, read=2, write=6)
        rows.gemm("mix_in", m, 3 * own, hidden, "mixer")
        rows.gemm("mix_low", m, self._rank, hidden, "mixer")
        rows.gemm("mix_high", m, 4 * own, self._rank // 4, "mixer")  # four products of their ranks
        rows.stream("mix_norm", op.NORM, m, own, 12.0, read=3, weight=2 * own)
        rows.gemm("o_proj", m, hidden, own, "mixer")

    def scan(self, rows: "Rows", work: WorkTable, decode: bool) -> None:
        token, sequence = work_size(work)
        head, d = self.num_head // rows.placement.tp, self.head_dim
        chunk = 2.0 * CHUNK * 5 * d + 6.0 * d * d  # as the delta rule's
        state = head * d * d * (self.state_byte or rows.byte)
        width = (6 * head * d, head * d)  # receptance, decay, key, value, removal key, rate
        scan_row(rows, head, chunk, 7.0 * d * d, state, width, token, sequence, decode, 2 * head * d, op.SCAN_CHANNEL)
