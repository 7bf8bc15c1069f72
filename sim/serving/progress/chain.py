"""Chain speculation: a draft model proposes k tokens one after another, the model verifies all of them in one step.

A drafted token holds if those before it do and with a probability of its own: `accept`, or `p1` to `p8` for the first
to the eighth. With one probability a for all, a step commits (1 - a^(k+1)) / (1 - a) tokens in the mean (Leviathan et
al., ICML 2023, eq. 1). Without a draft model, drafts cost nothing: n-gram tables, prompt look-up.
"""

from collections.abc import Mapping

from kernels.engine.progress import (
    FOREVER,
    chance,
    num_running,
    option,
    position,
    propose_token,
    running,
)
from kernels.engine.records import Engine
from kernels.errors import InputError
from sim.serving.plugin import Option

HELP = "k tokens drafted one after another, verified at once"
NUM_PLACE = 8
OPTIONS = {
    "k": Option(4, "tokens drafted a step", low=0, high=64),
    "accept": Option(0.7, "probability that a drafted token holds where those before it do", low=0, high=1),
    **{f"p{n}": Option(-1.0, f"that probability of the token number {n}; -1: accept", low=-1, high=1)
       for n in range(1, NUM_PLACE + 1)},
}  # fmt: skip
K, ACCEPT, FIRST_PLACE = range(3)


def most(value: Mapping[str, float]) -> int:
    for n in range(1, NUM_PLACE + 1):
        if -1 < value[f"p{n}"] < 0:
            raise InputError("not a probability", field=f"progress chain: p{n}", value=value[f"p{n}"],
                             allowed="0 to 1; or -1")  # fmt: skip
    return int(value["k"])


def propose(e: Engine) -> int:
    k = int(option(e, K))
    for n in range(num_running(e)):
        propose_token(e, running(e, n), k, k, 1)
    return FOREVER


def accept(e: Engine, i: int, num_token: int) -> int:
    first = position(e, i)
    count = 0
    while count < num_token:
        share = option(e, FIRST_PLACE + count) if count < NUM_PLACE else -1.0
        if share < 0.0:
            share = option(e, ACCEPT)
        if chance(e, i, first + count, 0) >= share:
            break
        count += 1
    return count
