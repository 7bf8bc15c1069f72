"""Staged speculation: a tree of drafts, and a draft model that is itself sped up by a smaller one (Spector & Re 2023).

The draft model proposes a spine of `depth` tokens with `width` - 1 other candidates beside each. A spine token holds
with the probability `accept`; where it does not, one of its neighbours is right with the probability `side` and ends
the run. So a step commits, in the mean,

    1 + (accept + (1 - accept) side) (1 - accept^depth) / (1 - accept)

tokens and verifies `depth` x `width` beyond the next one. The second stage (an n-gram table, which costs nothing)
proposes `inner` tokens to the draft model, which verifies them with the next one in a pass of `inner` + 1 tokens; each
holds with the probability `inner_accept`. The spine takes as many passes as that leaves; `inner` = 0 is one stage.
"""

from collections.abc import Mapping

from kernels.engine.progress import (
    chance,
    num_running,
    option,
    position,
    prefill_left,
    propose_token,
    run_length,
    running,
)
from kernels.engine.records import Engine
from kernels.jit import njit
from sim.serving.plugin import Option

HELP = "a tree of drafts from a draft model that has a draft of its own"
OPTIONS = {
    "depth": Option(6, "tokens of the spine", low=1, high=64),
    "width": Option(1, "candidates at each of them", low=1, high=16),
    "accept": Option(0.7, "probability that a token of the spine holds where those before it do", low=0, high=1),
    "side": Option(0.0, "probability that another candidate is right where the spine's is not", low=0, high=1),
    "inner": Option(4, "tokens that the second stage proposes to the draft model; 0: there is none", low=0, high=64),
    "inner_accept": Option(0.6, "probability that one of these holds where those before it do", low=0, high=1),
}
DEPTH, WIDTH, ACCEPT, SIDE, INNER, INNER_ACCEPT = range(6)
SPINE, BESIDE, SECOND = range(3)  # streams of draws


def most(value: Mapping[str, float]) -> int:
    return int(value["depth"] * value["width"])


@njit
def num_pass(e: Engine, i: int) -> int:
    """Passes of the draft model until the spine of sequence i has all its tokens."""
    depth, inner, share = int(option(e, DEPTH)), int(option(e, INNER)), option(e, INNER_ACCEPT)
    first = position(e, i)
    found = count = 0
    while found < depth:
        found += 1 + run_length(e, i, first + found, min(inner, depth - found - 1), share, SECOND)
        count += 1
    return count


def propose(e: Engine) -> int:
    num_token = int(option(e, DEPTH)) * int(option(e, WIDTH))
    per_pass = int(option(e, INNER)) + 1
    for n in range(num_running(e)):
        i = running(e, n)
        if prefill_left(e, i) == 0:
            propose_token(e, i, num_token, num_pass(e, i), per_pass)
    return 0


def accept(e: Engine, i: int, num_token: int) -> int:
    depth = min(int(option(e, DEPTH)), num_token // int(option(e, WIDTH)))
    first = position(e, i)
    held = run_length(e, i, first, depth, option(e, ACCEPT), SPINE)
    if held < depth and chance(e, i, first + held, BESIDE) < option(e, SIDE):
        held += 1
    return held
