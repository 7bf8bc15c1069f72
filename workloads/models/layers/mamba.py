"""Selective state spaces: Mamba-1 (arXiv 2312.00752, a state a channel) and Mamba-2 (arXiv 2405.21060, a decay a
head)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kernels import optable as op
from kernels.optable import WorkTable
from workloads.models.layers.base import CHUNK, State, conv_row, scan_row
from workloads.models.tensor import Tensor
from workloads.work import work_size

if TYPE_CHECKING:
    from workloads.rows import Rows

IN = tuple(f"{at}.in_proj" for at in ("mixer", "mamba"))
OUT = tuple(f"{at}.out_proj" for at in ("mixer", "mamba"))


@dataclass(frozen=True)
class Mamba2:
    num_head: int
    head_dim: int
    state: int  # of a channel
    group: int  # groups of heads that share B and C
    kernel: int
    conv_bias: bool = True
    proj_bias: bool = False
    gated_norm: bool = True
    state_byte: float = 0.0  # a value of the recurrent state; 0: as activations

    @property
    def inner(self) -> int:
        return self.num_head * self.head_dim

    @property
    def channel(self) -> int:
        """Channels of the convolution: x, B and C."""
        return self.inner + 2 * self.group * self.state

    @property
    def width(self) -> int:
        return self.inner + self.channel + self.num_head

    def tensors(self, hidden: int) -> list[Tensor]:
        width = self.inner + self.channel + self.num_head  # z, then x, B and C, then dt
        bias = width + hidden if self.proj_bias else 0
        return [
            Tensor("mix_in", "mixer", hidden * width, 1, "tp", module=IN),
            Tensor("mix_conv", "norm", self.channel * (self.kernel + self.conv_bias), 1, "tp"),
            Tensor("mix_small", "norm", 3 * self.num_head, 1, "tp"),  # A, D and the bias of dt
            Tensor("mix_bias", "norm", bias),
            Tensor("mix_norm", "norm", self.inner if self.gated_norm else 0, 1, "tp"),
            Tensor("mix_out", "mixer", self.inner * hidden, 1, "tp", module=OUT),
        ]

    def states(self) -> tuple[State, ...]:
        return (
            State("conv", self.channel * (self.kernel - 1), 0.0),
            State("recurrent", self.inner * self.state, self.state_byte),
        )

    def lower(self, rows: "Rows", hidden: int) -> None:
        m, tp = rows.m, rows.placement.tp
        inner = self.inner // tp
        width = inner + self.channel // tp + self.num_head // tp
        rows.gemm("mix_in", m, width, hidden, "mixer", bias=width if self.proj_bias else 0)
        if self.gated_norm:
            rows.stream("mix_norm", op.NORM, m, inner, 9.0, read=2, weight=inner)
        rows.gemm("o_proj", m, hidden, inner, "mixer", bias=hidden if self.proj_bias else 0)

    def scan(self, rows: "Rows", work: WorkTable, decode: bool) -> None:
        token, sequence = work_size(work)
        tp, p, n = rows.placement.tp, self.head_dim, self.state
        head = self.num_head // tp
        conv_row(rows, self.channel // tp, self.kernel, token, sequence, self.conv_bias)
        # a chunk: C B^T (once a group), its product with x, the state's update and its reading
        chunk = 2.0 * CHUNK * (n * self.group / self.num_head + p) + 4.0 * n * p
        step = 6.0 * n * p  # decay and update, y = C h
        state = head * p * n * (self.state_byte or rows.byte)
        scan_row(
            rows, head, chunk, step, state, (self.channel // tp + head, head * p), token, sequence, decode, 3 * head
        )


@dataclass(frozen=True)
class Mamba1:
    inner: int
    state: int
    dt_rank: int
    kernel: int
    conv_bias: bool = True
    proj_bias: bool = False
    inner_norm: bool = False  # norms of dt, B and C (Jamba)
    state_byte: float = 0.0

    @property
    def num_head(self) -> int:
        return self.inner

    @property
    def width(self) -> int:
        return 2 * self.inner

    def tensors(self, hidden: int) -> list[Tensor]:
        low = self.dt_rank + 2 * self.state
        bias = 2 * self.inner + hidden if self.proj_bias else 0
        return [
            Tensor("mix_in", "mixer", hidden * 2 * self.inner, 1, "tp", module=IN),
            Tensor("mix_conv", "norm", self.inner * (self.kernel + self.conv_bias), 1, "tp"),
            Tensor("mix_x", "mixer", self.inner * low, 1, "tp", module=("mixer.x_proj", "mamba.x_proj")),
            Tensor("mix_dt", "mixer", self.dt_rank * self.inner, 1, "tp", module=("mixer.dt_proj", "mamba.dt_proj")),
            Tensor("mix_small", "norm", self.inner * (self.state + 2), 1, "tp"),  # A, D, the bias of dt
            Tensor("mix_bias", "norm", bias),
            Tensor("mix_norm", "norm", low if self.inner_norm else 0, 1),
            Tensor("mix_out", "mixer", self.inner * hidden, 1, "tp", module=OUT),
        ]

    def states(self) -> tuple[State, ...]:
        return (
            State("conv", self.inner * (self.kernel - 1), 0.0),
            State("recurrent", self.inner * self.state, self.state_byte),
        )

    def lower(self, rows: "Rows", hidden: int) -> None:
        m, inner = rows.m, self.inner // rows.placement.tp
        low = self.dt_rank + 2 * self.state
        bias = self.proj_bias
        rows.gemm("mix_in", m, 2 * inner, hidden, "mixer", bias=2 * inner if bias else 0)
        rows.gemm("mix_x", m, low, inner, "mixer")
        rows.link("mix_reduce", op.ALL_REDUCE, "tp", rows.placement.tp, m * (low * rows.byte))
        if self.inner_norm:
            rows.stream("mix_norm", op.NORM, m, low, 4.0, weight=low)
        rows.gemm("mix_dt", m, inner, self.dt_rank, "mixer")
        rows.gemm("o_proj", m, hidden, inner, "mixer", bias=hidden if bias else 0)

    def scan(self, rows: "Rows", work: WorkTable, decode: bool) -> None:
        """The selective scan is no matrix product: every channel steps through its own state, in prompts too."""
        token, sequence = work_size(work)
        inner, byte = self.inner // rows.placement.tp, rows.byte
        conv_row(rows, inner, self.kernel, token, sequence, self.conv_bias)
        state = sequence * inner * self.state * (self.state_byte or byte)
        rows.add(
            "scan",
            op.RECUR,
            phase=op.PHASE_CODE["decode" if decode else "prefill"],
            m=round(token),
            n=inner,
            weight_byte=inner * (self.state + 2) * byte,
            flop=token * (inner * (9.0 * self.state + 6.0)),  # decay, update and read a state value; gate, D x
            act_byte=token * ((3 * inner + 2 * self.state) * byte) + state,  # x, dt, z; B and C
            write_byte=token * (inner * byte) + state,
        )
