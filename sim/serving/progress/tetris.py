"""TETRIS: of all drafted tokens of a batch, those are verified that are likeliest to hold (Wu et al., ACL 2025).

A draft model proposes `k` + `extra` tokens of each sequence. A token's probability of holding behind those before it is
its own: a draw between `accept` - `spread` and `accept` + `spread`, within 0 and 1, by request and position, which the
draft model's confidence tells. Of the batch's tokens `k` a sequence in the mean are verified: with `select`, those
whose products of probabilities from their sequence's next token on are largest; without, the first `k` of each. Where
all tokens are alike (`spread` 0) both are a chain of `k`.
"""

from collections.abc import Mapping

from kernels.engine.progress import (
    chance,
    note,
    num_running,
    option,
    position,
    prefill_left,
    propose_token,
    running,
    set_note,
)
from kernels.engine.records import Engine
from kernels.jit import njit
from sim.serving.plugin import Option

HELP = "the likeliest drafted tokens of the whole batch are verified"
OPTIONS = {
    "k": Option(4, "tokens verified a sequence, in the mean of the batch", low=0, high=64),
    "extra": Option(0, "more tokens drafted a sequence", low=0, high=64),
    "accept": Option(0.7, "mean probability that a token holds where those before it do", low=0, high=1),
    "spread": Option(0.0, "how far a token's own may lie from it", low=0, high=1),
    "select": Option(1, "1: over the whole batch; 0: the first of each sequence", low=0, high=1),
}
K, EXTRA, ACCEPT, SPREAD, SELECT = range(5)
CONFIDENCE = 1  # the stream of draws that tokens' own probabilities are


def most(value: Mapping[str, float]) -> int:
    return int(value["k"] + (value["extra"] if value["select"] else 0))


@njit
def share(e: Engine, i: int, place: int) -> float:
    """The probability that the token at an output position of request i holds where those before it do."""
    own = option(e, ACCEPT) + (2.0 * chance(e, i, place, CONFIDENCE) - 1.0) * option(e, SPREAD)
    return min(1.0, max(0.0, own))


@njit
def product(e: Engine, i: int, num_token: int) -> float:
    """That all of the next `num_token` hold."""
    value = 1.0
    for n in range(num_token):
        value *= share(e, i, position(e, i) + n)
    return value


def propose(e: Engine) -> int:
    k, extra = int(option(e, K)), int(option(e, EXTRA))
    left = 0
    for n in range(num_running(e)):
        i = running(e, n)
        set_note(e, i, 0)
        if prefill_left(e, i) == 0:
            left += k
    if option(e, SELECT) == 0.0:
        extra = left = 0
    while left > 0:  # one after another: the best next token of any sequence
        best, value = -1, -1.0
        for n in range(num_running(e)):
            i = running(e, n)
            if prefill_left(e, i) == 0 and note(e, i) < k + extra:
                own = product(e, i, note(e, i) + 1)
                if own > value:
                    best, value = i, own
        if best < 0:
            break
        set_note(e, best, note(e, best) + 1)
        left -= 1
    for n in range(num_running(e)):
        i = running(e, n)
        token = note(e, i) if option(e, SELECT) == 1.0 else k
        propose_token(e, i, token, k + extra, 1)
    return 0


def accept(e: Engine, i: int, num_token: int) -> int:
    first, count = position(e, i), 0
    while count < num_token and chance(e, i, first + count, 0) < share(e, i, first + count):
        count += 1
    return count
