"""Whether a system keeps up with its load: stable, backlogged or overloaded, by the drift of its queue over the run.

The queue is every request that has arrived and has no first token yet. Its average is taken over each quarter of the
time in which requests arrive (the first quarter, in which the system fills, counts for nothing):

==========  ========================================================================================================
overloaded  the queue grows from the second quarter to the third to the fourth, by more than three of its own
            standard deviations (a queue's of so many, taken as Poisson's) and by 2 % of what arrives: it would not end
backlogged  not that, but in the second half there are more than two requests without a token at each engine, the one
            that it serves and more than one behind it: it ends, and whoever comes waits
stable      neither
==========  ========================================================================================================

`queue_drift` is the share of the arriving requests that the queue grew by between the middles of the second and the
fourth quarter: 1 - capacity / load of a fluid that is offered more than the capacity, 0 of one that is not. Near
saturation it needs a long run: a queue of utilisation u forgets its past in about 1 / (1 - u)^2 services, and a run
shorter than that may be called stable or backlogged by chance.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
STABLE, BACKLOGGED, OVERLOADED = STATES = ("stable", "backlogged", "overloaded")
LEAST_DRIFT = 0.02
NUM_DEVIATION = 3.0
AT_ENGINE = 2.0  # requests without a first token


class LoadState(NamedTuple):
    """One of `STATES`, and the drift (requests a request)."""

    state: str
    queue_drift: float


def load_state(arrival_s: npt.ArrayLike, first_token_s: npt.ArrayLike, num_engine: int = 1) -> LoadState:
    """The verdict on a run; a request that never had a token (NaN) waits for ever.

    >>> load_state(np.arange(100.0), np.arange(100.0) + 0.5).state
    'stable'
    """
    arrival = np.asarray(arrival_s, np.float64)
    first = np.nan_to_num(np.asarray(first_token_s, np.float64), nan=np.inf)
    begin, end = float(arrival.min(initial=np.inf)), float(arrival.max(initial=-np.inf))
    if not end > begin:  # all at once: there is no rate that a queue could drift against
        return LoadState(STABLE, 0.0)
    edge = np.linspace(begin, end, 5)
    second, third, fourth = (mean_waiting(arrival, first, edge[k], edge[k + 1]) for k in (1, 2, 3))
    rate = (len(arrival) - 1) / (end - begin)
    grown = fourth - second
    drift = grown / (rate * (end - begin) / 2)
    if second < third < fourth and drift > LEAST_DRIFT and grown > NUM_DEVIATION * np.sqrt(second + 1.0):
        return LoadState(OVERLOADED, drift)
    behind = (third + fourth) / 2 > AT_ENGINE * num_engine
    return LoadState(BACKLOGGED if behind else STABLE, drift if abs(drift) > 1e-9 else 0.0)


def mean_waiting(arrival_s: Floats, first_token_s: Floats, start_s: float, stop_s: float) -> float:
    """Time average of the requests that have arrived and have no token, from `start_s` to `stop_s`."""
    spent = np.minimum(first_token_s, stop_s) - np.maximum(arrival_s, start_s)
    return float(np.maximum(spent, 0.0).sum() / (stop_s - start_s))
