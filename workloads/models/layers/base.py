"""What a recurrent layer kind says about itself: weights, the state that a sequence keeps, and its operators.

A kind is a frozen dataclass of whole-model shapes with the methods of `Mixer`. Its operators come in two parts, as
those of attention do: `lower` writes what depends on the token count alone (projections, gates), `scan` the
convolution and the recurrence of a phase, which depend on tokens and on sequences.
"""

from typing import TYPE_CHECKING, NamedTuple, Protocol

from kernels import optable as op
from kernels.optable import WorkTable
from kernels.scan import CHUNK
from workloads.models.tensor import Tensor

if TYPE_CHECKING:
    from workloads.rows import Rows

__all__ = ["CHUNK", "Mixer", "State", "conv_row", "scan_row"]

CONV_FLOP = 2.0  # a multiply and an add a tap of a causal convolution


class State(NamedTuple):
    """A part of what one sequence keeps in one layer, whole model.

    Of a fixed size; or an entry a token, at most `window` of them; or an entry every `ratio` tokens.
    """

    name: str
    value: int  # of all, or of an entry
    byte: float  # a value; 0: the format of activations, or of KV where `cached`
    window: int = 0
    ratio: int = 0
    cached: bool = False  # keys and values, in the format of the KV cache
    sharded: bool = True  # tensor parallelism divides it


class Mixer(Protocol):
    """What every recurrent layer kind offers."""

    @property
    def num_head(self) -> int:
        """Heads that tensor parallelism divides."""

    @property
    def width(self) -> int:
        """Values a token at the widest point, whole model (what its projections of the residual stream give)."""

    def tensors(self, hidden: int) -> list[Tensor]:
        """Weights of one layer."""

    def states(self) -> tuple[State, ...]:
        """What a sequence keeps between tokens."""

    def lower(self, rows: "Rows", hidden: int) -> None:
        """Operators that depend on the token count alone."""

    def scan(self, rows: "Rows", work: WorkTable, decode: bool) -> None:
        """The convolution and the recurrence over the new tokens of the sequences of `work`."""


def conv_row(rows: "Rows", channel: int, kernel: int, token: float, sequence: float, bias: bool = False) -> None:
    """A causal depthwise convolution: inputs read and results written once a token, `kernel - 1` inputs a sequence
    read and written as state."""
    byte = rows.byte
    state = sequence * ((kernel - 1) * channel * byte)
    rows.add(
        "conv",
        op.CONV,
        m=round(token),
        n=channel,
        flop=token * (channel * (CONV_FLOP * kernel + 5.0)),  # taps, and the activation after them
        weight_byte=channel * (kernel + bias) * byte,
        act_byte=token * (channel * byte) + state,
        write_byte=token * (channel * byte) + state,
    )


def scan_row(
    rows: "Rows",
    head: int,
    chunk_flop: float,
    step_flop: float,
    state_byte: float,
    width: tuple[float, float],
    token: float,
    sequence: float,
    decode: bool,
    weight: int,
    kind: int = op.SCAN,
) -> None:
    """One recurrence: `width` values in and out a token, the state of `state_byte` a sequence read and written once,
    `weight` values of its own (decays, biases of step sizes).

    A decode step is a pass over the state, `step_flop` a token and head, bound by memory. Prompts run in chunks as
    matrix products, `chunk_flop` a token and head, `head` chains a sequence; `kind` says whose kernel it is.
    """
    read, write = (token * (value * rows.byte) for value in width)
    state = sequence * state_byte
    own = {"kind": op.RECUR, "phase": op.PHASE_CODE["decode"], "n": head}
    if not decode:
        own = {"kind": kind, "phase": op.PHASE_CODE["prefill"], "batch": round(sequence), "num_head": head}
    rows.add(
        "scan",
        m=round(token),
        flop=token * (head * (step_flop if decode else chunk_flop)),
        weight_byte=weight * rows.byte,
        act_byte=read + state,
        write_byte=write + state,
        **own,
    )
