"""Griffin's recurrent block (arXiv 2402.19427; RecurrentGemma): two branches of the input, one through a GELU, the
other through a causal convolution and a gated linear recurrent unit (RG-LRU), whose state is a value a channel; their
product is projected back. The gates of input and recurrence are products within each head."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kernels import optable as op
from kernels.optable import WorkTable
from workloads.models.layers.base import State, conv_row
from workloads.models.tensor import Tensor
from workloads.work import work_size

if TYPE_CHECKING:
    from workloads.rows import Rows

STEP_FLOP = 14.0  # a value: two sigmoids, the decay's power, its complement's root, the gated input, the update


@dataclass(frozen=True)
class RgLru:
    num_head: int  # blocks of the gates
    channel: int
    kernel: int
    state_byte: float = 4.0  # the recurrence runs in fp32

    @property
    def width(self) -> int:
        return 2 * self.channel

    @property
    def _gate_value(self) -> int:
        """Weights of both gates, with biases."""
        return 2 * (self.channel * (self.channel // self.num_head) + self.channel)

    def tensors(self, hidden: int) -> list[Tensor]:
        at = "temporal_block"
        return [
            Tensor("mix_in", "mixer", 2 * self.channel * (hidden + 1), 1, "tp",
                   module=(f"{at}.linear_x", f"{at}.linear_y")),
            Tensor("mix_conv", "norm", self.channel * (self.kernel + 1), 1, "tp"),
            Tensor("mix_small", "norm", self._gate_value + self.channel, 1, "tp"),  # and the decay of each channel
            Tensor("mix_out", "mixer", (self.channel + 1) * hidden, 1, "tp", module=(f"{at}.linear_out",)),
        ]  # fmt: skip

    def states(self) -> tuple[State, ...]:
        return (State("conv", self.channel * (self.kernel - 1), 0.0), State("recurrent", self.channel, self.state_byte))

    def lower(self, rows: "Rows", hidden: int) -> None:
        channel, head = self.channel // rows.placement.tp, max(1, self.num_head // rows.placement.tp)
        rows.gemm("mix_in", rows.m, 2 * channel, hidden, "mixer", bias=2 * channel)
        rows.gemm("mix_gate", rows.m, 2 * channel // head, channel // head, "activation", batch=head, bias=2 * channel)
        rows.stream("mix_act", op.ACT, rows.m, channel, 5.0, read=2)  # GELU of one branch, the product of both
        rows.gemm("o_proj", rows.m, hidden, channel, "mixer", bias=hidden)

    def scan(self, rows: "Rows", work: WorkTable, decode: bool) -> None:
        token, sequence = work_size(work)
        channel = self.channel // rows.placement.tp
        conv_row(rows, channel, self.kernel, token, sequence, bias=True)
        state = sequence * channel * self.state_byte
        rows.add(
            "scan",
            op.RECUR,
            phase=op.PHASE_CODE["decode" if decode else "prefill"],
            m=round(token),
            n=channel,
            weight_byte=channel * rows.byte,
            flop=token * (channel * STEP_FLOP),
            act_byte=token * (3 * channel * rows.byte) + state,  # the input and both gates
            write_byte=token * (channel * rows.byte) + state,
        )
