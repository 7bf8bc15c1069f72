"""What a progress model may do with an engine: the module that a progress model's file imports.

Before each plan of a lane, `propose(e)` says how many tokens the next decode of each running sequence verifies beyond
the next one, and how the draft model finds them. Of what the policy then plans, `accept(e, i, num_token)` says how many
of `num_token` drafted tokens of sequence i will be committed when the step ends, from the first on; the next token
comes on top, and a sequence's end cuts both.

What is random is a draw from the run's seed, the request and the position of a token in its output, so that it does not
matter when, or how often, it is drawn. A model's memory is a lane's (a microbatch: `memory`, `remember`) or a
sequence's (`note`, `set_note`); a lane or sequence is asked again when its last step has ended.
"""

from kernels.engine.draw import draw
from kernels.engine.lanes import lane_at
from kernels.engine.records import DECODE, IN_PROGRESS, ROLE, ROW, SEQ, TOKEN, Engine
from kernels.engine.verbs import FOREVER, num_running, prefill_left, running
from kernels.jit import njit, njit_inline

__all__ = [
    "FOREVER",
    "chance",
    "memory",
    "note",
    "num_running",
    "option",
    "position",
    "prefill_left",
    "propose_token",
    "remember",
    "run_length",
    "running",
    "set_note",
]

BIT = 30
STREAM = 0x5851F42D  # seeds of streams lie so far apart


@njit_inline
def option(e: Engine, k: int) -> float:
    """The k-th of the model's options."""
    return e.real[IN_PROGRESS + k]


@njit_inline
def position(e: Engine, i: int) -> int:
    """Output tokens of sequence i that are committed: the position of the next one."""
    return e.seq[i].produced


@njit_inline
def memory(e: Engine, k: int) -> int:
    """The k-th of 16 integers that the lane keeps for the model, 0 at first."""
    return e.work[lane_at(e, e.me.plan_lane) + e.me.in_memory + k]


@njit_inline
def remember(e: Engine, k: int, value: int) -> None:
    """Sets what `memory` returns."""
    e.work[lane_at(e, e.me.plan_lane) + e.me.in_memory + k] = value


@njit_inline
def note(e: Engine, i: int) -> int:
    """The integer that sequence i keeps for the model, 0 at first."""
    return e.seq[i].note


@njit_inline
def set_note(e: Engine, i: int, value: int) -> None:
    """Sets what `note` returns."""
    e.seq[i].note = value


@njit_inline
def propose_token(e: Engine, i: int, num_token: int, num_pass: int, width: int) -> None:
    """The next decode of sequence i verifies `num_token` tokens beyond the next one (at most what the file's
    `most(value)` says), which `num_pass` passes of the draft model propose one after another, of `width` tokens each.

    A policy with fewer tokens left cuts them from the end.
    """
    s = e.seq[i]
    s.draft = num_token
    s.draft_pass = num_pass
    s.draft_width = width


@njit
def chance(e: Engine, i: int, place: int, stream: int) -> float:
    """A uniform draw in 0..1 for the output position `place` of request i; `stream` tells several draws apart."""
    return draw(e.me.seed ^ (stream * STREAM), i, place, 1 << BIT) / float(1 << BIT)


@njit
def run_length(e: Engine, i: int, place: int, num_token: int, share: float, stream: int) -> int:
    """Of `num_token` tokens from the output position `place` on, how many hold before the first that does not, where
    each holds with the probability `share`."""
    count = 0
    while count < num_token and chance(e, i, place + count, stream) < share:
        count += 1
    return count


@njit_inline
def _row(e: Engine, k: int) -> int:
    return lane_at(e, e.me.plan_lane) + e.me.in_plan + ROW * k


@njit
def num_planned(e: Engine) -> int:
    """Rows of the plan that has been made."""
    return e.lane[e.me.plan_lane].num_plan


@njit
def planned_sequence(e: Engine, k: int) -> int:
    """The sequence of the k-th of them."""
    return e.work[_row(e, k) + SEQ]


@njit
def drafted_token(e: Engine, k: int) -> int:
    """Drafted tokens that the k-th of them verifies."""
    row = _row(e, k)
    return e.work[row + TOKEN] - 1 if e.work[row + ROLE] == DECODE else 0


@njit
def set_accept(e: Engine, k: int, num_token: int) -> None:
    """Says how many of these will be committed."""
    e.seq[e.work[_row(e, k) + SEQ]].accept = num_token
