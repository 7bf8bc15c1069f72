"""When requests arrive: renewal processes of any burstiness, constant or staged rates, chains that wait.

Gaps are drawn in units of the mean gap (gamma with coefficient of variation `cv`: 1 is Poisson, 0 a constant
rate), summed, and mapped to time through the integral of the rate; a staged load is the same process on a
bent clock, which for Poisson gaps is exactly the inhomogeneous Poisson process.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kernels.errors import InputError
from workloads.requests import MAX_TIME_S, NO_PARENT

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MAX_REQUEST = 20_000_000  # a gigabyte of them


def gaps(rng: np.random.Generator, num: int, cv: float) -> Floats:
    """`num` gaps of mean 1 and coefficient of variation `cv` (gamma distributed; all 1 where `cv` is 0)."""
    if cv == 0.0:
        return np.ones(num)
    shape = 1.0 / (cv * cv)
    return rng.standard_exponential(num) if cv == 1.0 else rng.standard_gamma(shape, num) / shape


def renewal(rng: np.random.Generator, num: int, rate: float, cv: float) -> Floats:
    """Seconds of `num` arrivals at `rate` a second: a constant rate starts at 0, a random one after a gap.

    >>> renewal(np.random.default_rng(0), 3, 2.0, 0.0).tolist()
    [0.0, 0.5, 1.0]
    """
    count = np.cumsum(gaps(rng, num, cv))
    return (count - 1.0 if cv == 0.0 else count) / rate


def within(rng: np.random.Generator, duration_s: float, rate: float, cv: float) -> Floats:
    """Seconds of the arrivals before `duration_s`."""
    return staged(rng, [(rate, duration_s)], cv)


def staged(rng: np.random.Generator, stages: Sequence[tuple[float, float]], cv: float) -> Floats:
    """Seconds of the arrivals through stages of (requests a second, seconds); a rate of 0 is a pause.

    >>> staged(np.random.default_rng(0), [(2.0, 1.0), (0.0, 10.0), (1.0, 2.0)], 0.0).tolist()
    [0.0, 0.5, 11.0, 12.0]
    """
    rate, duration_s = np.array(stages, np.float64).T
    expected = np.concatenate([[0.0], np.cumsum(rate * duration_s)])
    if expected[-1] > MAX_REQUEST:
        raise InputError("too many requests", field="stages", value=float(expected[-1]), allowed=f"up to {MAX_REQUEST}")
    count = np.empty(0)
    while not len(count) or count[-1] < expected[-1]:
        more = gaps(rng, int(1.1 * expected[-1]) + 64, cv)
        more[0] += count[-1] if len(count) else (-1.0 if cv == 0.0 else 0.0)
        count = np.concatenate([count, np.cumsum(more)])
    count = count[count < expected[-1]]
    times = np.concatenate([[0.0], np.cumsum(duration_s)])
    stage = np.searchsorted(expected, count, side="right") - 1  # the last that starts there: skips pauses
    return np.asarray(times[stage] + (count - expected[stage]) / rate[stage])


def chains(first_s: Floats, num_turn: Ints, think_s: Floats) -> tuple[Floats, Ints, Ints]:
    """Chains of turns: earliest arrival of every turn, its parent, and the order that sorts them.

    `first_s`, `num_turn`: a chain's first arrival and length; `think_s`: of every turn, chain after chain (that
    of a first turn is not used). Returns (`arrival_s`, `parent`) in order of arrival, and `order` such that
    entry i of the result is turn `order[i]` of the flat list. A turn comes no sooner than its think time after the
    earliest arrival of the turn before.

    >>> arrival_s, parent, order = chains(np.array([0.0, 1.0]), np.array([2, 1]), np.array([9.0, 5.0, 9.0]))
    >>> arrival_s.tolist(), parent.tolist(), order.tolist()
    ([0.0, 1.0, 5.0], [-1, -1, 0], [0, 2, 1])
    """
    start = np.cumsum(num_turn) - num_turn
    wait = think_s.copy()
    wait[start] = 0.0
    since = np.cumsum(wait)
    arrival_s = np.repeat(first_s - since[start], num_turn) + since
    arrival_s = np.maximum(arrival_s, np.repeat(first_s, num_turn))  # where the sum has rounded
    order = np.argsort(arrival_s, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    parent = np.empty(len(order), np.int64)
    parent[1:] = place[:-1]
    parent[start] = NO_PARENT
    return arrival_s[order], parent[order], order


def check_times(arrival_s: Floats) -> Floats:
    """The same times, refused where integer picoseconds could not hold them."""
    if len(arrival_s) and not arrival_s[-1] <= MAX_TIME_S:
        raise InputError(
            "the last arrival", field="arrival_s", value=float(arrival_s[-1]), allowed=f"0 to {MAX_TIME_S:g}"
        )
    return arrival_s
