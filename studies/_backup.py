"""A parameter server that waits for the k fastest of n workers: order statistics, and how k should move with the loss.

Stochastic gradient descent of a smooth loss with the Polyak-Lojasiewicz property, in expectation: a step shrinks the
gap to the lowest loss by a share `shrink`, and the noise of k averaged gradients adds `noise / k`,

    gap' = gap (1 - shrink) + noise / k.

Far from the floor one gradient is as good as sixteen and comes sooner; near it only more gradients help. A static k is
the best compromise; the dynamic rule takes, every step, the k with the largest expected gain a second (Xu, Neglia and
Sebastianelli 2020, "Dynamic backup workers for parallel machine learning"). Workers that are too late start afresh.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import gammaln

from kernels.errors import InputError
from kernels.train_plan import Floats


class Descent(NamedTuple):
    """A loss from `gap` 1 to `target`; `shrink` and `noise` of a step as above."""

    target: float
    shrink: float
    noise: float


class Phase(NamedTuple):
    """Mean times of the 1st, 2nd ... nth fastest worker of a step that begins before `until_s`."""

    until_s: float
    order_s: Floats


def exponential_order_s(num_worker: int, mean_s: float, shift_s: float = 0.0) -> Floats:
    """Means of all order statistics of n workers with times `shift_s` + exponential: shift + mean (H_n - H_(n-k)).

    >>> exponential_order_s(2, 1.0).tolist()
    [0.5, 1.5]
    """
    _check(num_worker, mean_s)
    return np.asarray(shift_s + mean_s * np.cumsum(1 / np.arange(num_worker, 0, -1)))


def pareto_order_s(num_worker: int, least_s: float, shape: float) -> Floats:
    """Means of all order statistics of n Pareto times (least time, shape a > 1):
    least G(n+1) G(n-k+1-1/a) / (G(n-k+1) G(n+1-1/a)), G the gamma function.

    >>> pareto_order_s(1, 1.0, 2.0).round(9).tolist()  # the mean, a / (a - 1)
    [2.0]
    """
    _check(num_worker, least_s)
    if shape <= 1:
        raise InputError("the slowest has no mean", field="shape", value=shape, allowed="above 1")
    n, left = num_worker, num_worker - np.arange(1, num_worker + 1) + 1
    return np.asarray(
        least_s * np.exp(gammaln(n + 1) - gammaln(n + 1 - 1 / shape) + gammaln(left - 1 / shape) - gammaln(left))
    )


def sampled_order_s(sample_s: Floats) -> Floats:
    """The same from drawn times `[num_draw, num_worker]`, of whatever workers."""
    return np.asarray(np.sort(sample_s, axis=1).mean(axis=0))


def _check(num_worker: int, time_s: float) -> None:
    if num_worker < 1:
        raise InputError("too few", field="num_worker", value=num_worker, allowed=">= 1")
    if time_s <= 0:
        raise InputError("must be above 0", field="time_s", value=time_s)


def best_wait(descent: Descent, gap: float, order_s: Floats) -> int:
    """How many workers a step should wait for: the most expected gain a second. Where no number gains anything, all."""
    count = np.arange(1, len(order_s) + 1)
    gain = gap * descent.shrink - descent.noise / count
    return int(np.argmax(gain / order_s)) + 1 if gain[-1] > 0 else len(order_s)


def time_to_target_s(
    descent: Descent, phases: Sequence[Phase], wait: int = 0, *, max_step: int = 100_000
) -> tuple[float, list[tuple[float, float, int]]]:
    """(seconds to the target, infinite where it is never reached; (begin, gap, workers waited for) of every step) with
    `wait` workers, or with the dynamic rule where it is 0."""
    if not 0 < descent.target < 1 or not 0 < descent.shrink < 1 or descent.noise < 0:
        raise InputError("out of range", field="descent", value=tuple(descent), allowed="target and shrink in 0 to 1")
    num_worker = len(phases[0].order_s)
    if not 0 <= wait <= num_worker:
        raise InputError("out of range", field="wait", value=wait, allowed=f"0 to {num_worker}")
    gap, now, at, history = 1.0, 0.0, 0, []
    for _ in range(max_step):
        while at + 1 < len(phases) and now >= phases[at].until_s:
            at += 1
        order_s = phases[at].order_s
        chosen = wait or best_wait(descent, gap, order_s)
        history.append((now, gap, chosen))
        following = gap * (1 - descent.shrink) + descent.noise / chosen
        now += float(order_s[chosen - 1])
        if following <= descent.target:
            return now, history
        if wait and following >= gap:  # at the floor of its noise
            return np.inf, history
        gap = following
    return np.inf, history


def best_static(descent: Descent, phases: Sequence[Phase]) -> tuple[int, float]:
    """(workers waited for, seconds) of the best number that never changes."""
    times = [time_to_target_s(descent, phases, k)[0] for k in range(1, len(phases[0].order_s) + 1)]
    best = int(np.argmin(times))
    return best + 1, times[best]
