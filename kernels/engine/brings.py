"""What a request brings beside its tokens to the step that first schedules it: an encoder's work on its images.

It runs on the first stage, beside the attention of that step, and its energy is booked with that step's.
"""

from typing import Any

from kernels.engine.records import Engine, Ints, Records
from kernels.jit import njit


def give(seq: Records, time_ps: Ints, energy_nj: Ints) -> None:
    """Sets what each request brings."""
    seq["encode_ps"] = time_ps
    seq["encode_nj"] = energy_nj


@njit
def bring(e: Engine, i: int) -> None:
    """Sequence i is scheduled for the first time, in the step that is planned."""
    s = e.seq[i]
    if s.encode_ps > 0:
        e.lane[0].attn_ps += s.encode_ps
        e.me.encode_nj += s.encode_nj


@njit
def take_nj(me: Any) -> int:
    """Energy of what was brought to the step that begins."""
    energy_nj: int = me.encode_nj
    me.encode_nj = 0
    return energy_nj
