"""BASS: a batch speculates together, each sequence goes on by what holds for itself (Qian et al., ACL Findings 2024).

All sequences of a step draft the same number of tokens; accepted lengths differ, so that spans become ragged. Two
kernels do that: PAD computes every sequence at the longest span of the batch, SPLIT launches one kernel a sequence
(its `launch_us` each, after another), and `ragged` is a kernel of today that takes any lengths. The number of drafted
tokens follows algorithm 1 of the paper: where all of some sequence's held, `grow` more next time, up to `limit`; else
a `cut`-th fewer, rounded up, and one fewer again if that was so the last time too, but never below what just held.
"""

from collections.abc import Mapping

from kernels.attention import PADDED, SEQ_S
from kernels.engine.progress import (
    memory,
    num_running,
    option,
    position,
    propose_token,
    remember,
    run_length,
    running,
)
from kernels.engine.records import Engine
from kernels.jit import njit
from kernels.machine import Machine
from kernels.optable import ATTN_DECODE
from sim.serving.plugin import Option

HELP = "drafts as long as the batch's acceptance allows, ragged verification (PAD or SPLIT kernels)"
FORMS = ("ragged", "pad", "split")
OPTIONS = {
    "accept": Option(0.7, "probability that a drafted token holds where those before it do", low=0, high=1),
    "first": Option(7, "tokens drafted in the first step", low=1, high=64),
    "grow": Option(2, "more, after a step in which all drafts of a sequence held", low=0, high=64),
    "cut": Option(10, "else one fewer for every so many, begun ones counted", low=1, high=64),
    "limit": Option(32, "most", low=1, high=64),
    "form": Option("ragged", "kernel of the verification's attention", choices=FORMS),
    "launch_us": Option(5.0, "form split: microseconds of a launch", low=0, high=1000),
}
ACCEPT, FIRST, GROW, CUT, LIMIT = range(5)
LENGTH, FELL, HELD, VERIFIED = range(4)  # memory of a lane


def most(value: Mapping[str, float]) -> int:
    return int(max(value["first"], value["limit"]))


def prices(machine: Machine, value: Mapping[str, float]) -> Machine:
    form = FORMS[int(value["form"])]
    fit = machine.fit.copy()
    if form == "pad":
        fit[ATTN_DECODE, :, PADDED] = 1.0
    if form == "split":
        fit[ATTN_DECODE, :, SEQ_S] += value["launch_us"] * 1e-6
    return machine._replace(fit=fit)


@njit
def next_length(length: int, held: int, fell: int, more: int, cut: int, limit: int) -> tuple[int, int]:
    """Algorithm 1: tokens to draft after `length` of which at most `held` held in any sequence, and whether it fell.

    >>> next_length(7, 7, 0, 2, 10, 32), next_length(20, 3, 0, 2, 10, 32), next_length(20, 3, 1, 2, 10, 32)
    ((9, 0), (18, 1), (17, 1))
    """
    if held >= length:
        return max(length, min(length + more, limit)), 0
    return max(1, held, length - (length + cut - 1) // cut - fell), 1


def propose(e: Engine) -> int:
    length = memory(e, LENGTH)
    if length == 0:
        length = int(option(e, FIRST))
    if memory(e, VERIFIED) == 1:
        more, cut, limit = int(option(e, GROW)), int(option(e, CUT)), int(option(e, LIMIT))
        length, fell = next_length(length, memory(e, HELD), memory(e, FELL), more, cut, limit)
        remember(e, FELL, fell)
    remember(e, LENGTH, length)
    remember(e, HELD, 0)
    remember(e, VERIFIED, 0)
    for n in range(num_running(e)):
        propose_token(e, running(e, n), length, length, 1)
    return 0


def accept(e: Engine, i: int, num_token: int) -> int:
    held = run_length(e, i, position(e, i), num_token, option(e, ACCEPT), 0)
    remember(e, HELD, max(memory(e, HELD), held))
    remember(e, VERIFIED, 1)
    return held
