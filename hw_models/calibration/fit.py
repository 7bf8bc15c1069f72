"""A deterministic fit of a price function's parameters to measured times, and the honest summary of its error.

The loss is the logarithm of predicted over measured time, so that a microsecond kernel and a millisecond kernel
count alike. Parameters move on a logarithmic scale inside their bounds. Shapes are divided into a fitting half
and a checking half by a hash of the shape alone: the two never share a shape, whatever the order, the format or
the kernel name of the rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, differential_evolution, least_squares, minimize

Floats = npt.NDArray[np.float64]
Predict = Callable[[Floats], Floats]  # parameter values (in the order given) -> seconds a row

SIZE_CLASSES: tuple[tuple[str, float], ...] = (  # by measured time, upper end in seconds
    ("under_10us", 10e-6),
    ("10us_100us", 100e-6),
    ("100us_1ms", 1e-3),
    ("over_1ms", np.inf),
)
PRIOR_WEIGHT = 0.1  # a parameter one sigma off its prior weighs as a row that is 10 % off


@dataclass(frozen=True)
class Parameter:
    """One constant to be found; `low == high` holds it fixed. Positive unless `linear`.

    `prior`: standard deviation of the knowledge that `start` is right, on the parameter's own scale (logarithmic
    unless `linear`), as where it comes from a relative and there are few probes; 0 for none.
    """

    name: str
    start: float
    low: float
    high: float
    linear: bool = False
    prior: float = 0.0


@dataclass(frozen=True)
class Error:
    """Error of a prediction: fractions of the measured time; `bias` is the mean of predicted / measured - 1."""

    n: int
    mape: float
    median: float
    p90: float
    bias: float
    sigma: float  # standard deviation of log(predicted / measured), outliers beyond 3 robust sigmas left out


def half(*columns: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """True for the rows of the fitting half: a hash of the integer shape columns (splitmix64 rounds).

    >>> half([1, 1, 2, 3], [8, 8, 8, 8]).tolist()
    [False, False, True, False]
    """
    mixed: npt.NDArray[np.uint64] = np.zeros(len(np.asarray(columns[0])), np.uint64)
    with np.errstate(over="ignore"):
        for column in columns:
            mixed = mixed + np.asarray(column).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            mixed = mixed ^ (mixed >> np.uint64(31))
    return (mixed & np.uint64(1)) == 0


def fit(
    predict: Predict,
    measured_s: Floats,
    parameters: Sequence[Parameter],
    *,
    weight: Floats | None = None,
    search: int = 0,
    polish: bool = True,
    seed: int = 0,
) -> dict[str, float]:
    """Parameter values that minimise the robust log error of `predict` against `measured_s`.

    Least squares with a soft-L1 loss from the start point (`search` > 0: from the best of a differential
    evolution of that many generations, seeded), then, with `polish`, Nelder-Mead on the mean absolute log
    error, which sees the steps of tiles and waves that a gradient does not.
    """
    free = [p for p in parameters if p.high > p.low]
    values = np.array([p.start for p in parameters], float)
    where = [i for i, p in enumerate(parameters) if p.high > p.low]
    low = np.array([_inside(p, p.low) for p in free])
    high = np.array([_inside(p, p.high) for p in free])
    start = np.clip([_inside(p, p.start) for p in free], low, high)
    goal = np.log(measured_s)
    scale = np.ones(len(goal)) if weight is None else np.asarray(weight) / np.mean(weight)

    centre = start.copy()
    known = np.array([p.prior > 0 for p in free], bool)
    sigma = np.array([p.prior for p in free if p.prior > 0])

    def residual(point: Floats) -> Floats:
        trial = values.copy()
        for i, p, x in zip(where, free, np.clip(point, low, high), strict=True):
            trial[i] = _outside(p, float(x))
        miss = (np.log(predict(trial)) - goal) * scale
        if not len(sigma):
            return miss
        return np.concatenate([miss, PRIOR_WEIGHT * (point - centre)[known] / sigma])

    def absolute(point: Floats) -> float:
        miss = residual(point)
        rows = len(goal)
        return float(np.sum(np.abs(miss[:rows])) + np.sum(miss[rows:] ** 2) / PRIOR_WEIGHT) / rows

    margin = 1e-6 * (high - low)
    if free and search > 0:
        inside = np.clip(start, low + margin, high - margin)
        found = differential_evolution(
            absolute, Bounds(low, high), x0=inside, maxiter=search, popsize=8, rng=seed, tol=0.0, polish=False
        )
        start = np.asarray(found.x)
    if free:
        solved = least_squares(
            residual, np.clip(start, low + margin, high - margin), bounds=(low, high), loss="soft_l1", f_scale=0.05,
            diff_step=np.full(len(free), 1e-3), x_scale=high - low, max_nfev=60,
        )  # fmt: skip
        best = min((start, solved.x), key=absolute)
        if polish:
            simplex = np.vstack([best] + [best + 0.04 * (high - low) * row for row in np.eye(len(free))])
            simplex = np.where(simplex > high, 2 * best - simplex, simplex)
            options: Any = {"initial_simplex": simplex, "maxfev": 150 * len(free), "xatol": 1e-4, "fatol": 1e-6}
            polished = minimize(absolute, best, method="Nelder-Mead", options=options)
            best = min((best, polished.x), key=absolute)
        for i, p, x in zip(where, free, np.clip(best, low, high), strict=True):
            values[i] = _outside(p, float(x))
    return {p.name: float(f"{v:.5g}") for p, v in zip(parameters, values, strict=True)}


def _inside(p: Parameter, value: float) -> float:
    return value if p.linear else float(np.log(value))


def _outside(p: Parameter, value: float) -> float:
    return value if p.linear else float(np.exp(value))


def error(predicted_s: Floats, measured_s: Floats) -> Error:
    """Summary of a prediction; all zeros for no rows.

    >>> error(np.array([1.1, 0.9]), np.array([1.0, 1.0])).mape
    0.1
    """
    if len(measured_s) == 0:
        return Error(0, 0.0, 0.0, 0.0, 0.0, 0.0)
    ratio = predicted_s / measured_s
    miss = np.abs(ratio - 1.0)
    log = np.log(ratio)
    middle = np.median(log)
    robust = 1.4826 * np.median(np.abs(log - middle)) + 1e-12  # MAD of a normal distribution
    core = log[np.abs(log - middle) <= 3.0 * robust]
    figures = (miss.mean(), np.median(miss), np.quantile(miss, 0.9), (ratio - 1.0).mean(), core.std())
    return Error(len(ratio), *(round(float(x), 4) for x in figures))


def size_class(measured_s: Floats) -> npt.NDArray[np.str_]:
    """Name of the size class of each measured time.

    >>> size_class(np.array([2e-6, 3e-4])).tolist()
    ['under_10us', '100us_1ms']
    """
    names = np.array([name for name, _ in SIZE_CLASSES])
    return names[np.searchsorted([end for _, end in SIZE_CLASSES], measured_s, side="right").clip(0, len(names) - 1)]


def spread(predicted_s: Floats, measured_s: Floats) -> dict[str, float]:
    """Residual sigma (of the log) by size class, for the classes that have at least 8 rows."""
    classes = size_class(measured_s)
    return {
        name: error(predicted_s[classes == name], measured_s[classes == name]).sigma
        for name, _ in SIZE_CLASSES
        if np.sum(classes == name) >= 8
    }
