"""Gated delta rule: Qwen3-Next's and 3.5's linear attention (arXiv 2412.06464) and Kimi's delta attention (KDA,
arXiv 2510.26692), which decays each channel by itself.

A head keeps a `key_dim x value_dim` matrix S: S <- decay(S) + beta k (v - S^T k)^T, o = S^T q.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kernels import optable as op
from kernels.optable import WorkTable
from workloads.models.layers.base import CHUNK, State, conv_row, scan_row
from workloads.models.tensor import Tensor
from workloads.work import work_size

if TYPE_CHECKING:
    from workloads.rows import Rows

IN = tuple(f"{at}.{name}" for at in ("linear_attn", "self_attn") for name in (
    "in_proj_qkvz", "in_proj_qkv", "in_proj_z", "q_proj", "k_proj", "v_proj"))  # fmt: skip
OUT = ("linear_attn.out_proj", "self_attn.o_proj")
GATE = ("linear_attn.in_proj_ba", "linear_attn.in_proj_a", "linear_attn.in_proj_b", "self_attn.f_a_proj",
        "self_attn.f_b_proj", "self_attn.forget_gate.f_proj", "self_attn.g_proj", "self_attn.g_a_proj",
        "self_attn.b_proj")  # fmt: skip


@dataclass(frozen=True)
class Delta:
    """`channel_decay`: one decay a key channel, from a projection of rank `value_dim` (KDA), else one a head.
    `full_gate`, `full_decay`: the output gate and the decays are whole projections, else of rank `value_dim` (KDA
    alone)."""

    num_key_head: int
    num_value_head: int
    key_dim: int  # of a head
    value_dim: int
    kernel: int  # taps of the convolution before the recurrence
    state_byte: float = 0.0  # a value of S; 0: as activations
    channel_decay: bool = False
    full_gate: bool = True
    full_decay: bool = False

    @property
    def num_head(self) -> int:
        return self.num_value_head

    @property
    def key(self) -> int:
        return self.num_key_head * self.key_dim

    @property
    def value(self) -> int:
        return self.num_value_head * self.value_dim

    @property
    def channel(self) -> int:
        return 2 * self.key + self.value

    def _gate_value(self, hidden: int) -> int:
        """Weights of the decay, the step size and the output gate."""
        head, low = self.num_value_head, self.value_dim
        if not self.channel_decay:
            return hidden * 2 * head + hidden * self.value  # a and b of each head, z
        gate = hidden * self.value if self.full_gate else low * (hidden + self.value)
        decay = hidden * self.key if self.full_decay else low * (hidden + self.key)
        return decay + hidden * head + gate

    @property
    def width(self) -> int:
        return self.channel + self.value + 2 * self.num_value_head

    @property
    def _small(self) -> int:
        """The decay of each head, the bias of each step size."""
        return self.num_value_head + (self.key if self.channel_decay else self.num_value_head)

    def tensors(self, hidden: int) -> list[Tensor]:
        return [
            Tensor("mix_in", "mixer", hidden * self.channel, 1, "tp", module=IN),
            Tensor("mix_gate", "mixer", self._gate_value(hidden), 1, "tp", module=GATE if self.channel_decay else IN),
            Tensor("mix_conv", "norm", self.channel * self.kernel, 1, "tp"),
            Tensor("mix_small", "norm", self._small, 1, "tp"),
            Tensor("mix_norm", "norm", self.value_dim, 1),
            Tensor("mix_out", "mixer", self.value * hidden, 1, "tp", module=OUT),
        ]

    def states(self) -> tuple[State, ...]:
        return (
            State("conv", self.channel * (self.kernel - 1), 0.0),
            State("recurrent", self.num_value_head * self.key_dim * self.value_dim, self.state_byte),
        )

    def lower(self, rows: "Rows", hidden: int) -> None:
        m, tp = rows.m, rows.placement.tp
        head, low = self.num_value_head // tp, self.value_dim
        direct = head + (self.value // tp if self.full_gate else low)  # step sizes, the output gate
        decay = head if not self.channel_decay else self.key // tp if self.full_decay else low
        rows.gemm("mix_in", m, self.channel // tp + direct + decay, hidden, "mixer")
        if self.channel_decay and not self.full_decay:
            rows.gemm("mix_decay", m, self.key // tp, low, "mixer")
        if not self.full_gate:
            rows.gemm("mix_gate", m, self.value // tp, low, "mixer")
        value = self.value // tp
        rows.stream("mix_norm", op.NORM, m, value, 9.0, read=2, weight=self.value_dim)  # norm, gate and their product
        rows.gemm("o_proj", m, hidden, value, "mixer")

    def scan(self, rows: "Rows", work: WorkTable, decode: bool) -> None:
        token, sequence = work_size(work)
        tp, dk, dv = rows.placement.tp, self.key_dim, self.value_dim
        head = self.num_value_head // tp
        conv_row(rows, self.channel // tp, self.kernel, token, sequence)
        # a chunk: q k^T, k k^T and the triangular solve's two products, attention within the chunk; then three
        # products with the state (its keys, its queries, its update)
        chunk = 2.0 * CHUNK * (3 * dk + 2 * dv) + 6.0 * dk * dv
        step = 7.0 * dk * dv  # decay, S^T k, the rank-one update, S^T q
        state = head * dk * dv * (self.state_byte or rows.byte)
        decay = self.key // tp if self.channel_decay else head
        width = ((self.channel // tp) + decay + head, head * dv)
        kind = op.SCAN_CHANNEL if self.channel_decay else op.SCAN
        scan_row(rows, head, chunk, step, state, width, token, sequence, decode, self._small // tp, kind)
