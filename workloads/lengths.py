"""How many tokens: length distributions as quantile functions, and the text that names them.

A `Length` is a name and its parameters, `lognormal:mean=1064:max=3000` on a command line, a table with a
`distribution` in TOML, or a bare number. `quantile(length, u)` turns uniform numbers into whole tokens, so that
one uniform number a request makes a length, and two correlated ones a joint pair.

``mean`` is the mean of what comes out, bounds included: the distribution's location is solved for it.
"""

import itertools
import math
import pathlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.errors import InputError
from workloads.normal import normal_quantile
from workloads.requests import MAX_TOKEN

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

DEFAULT_SIGMA = 0.8  # of log length: prompts of the Azure 2023 conversation trace (std 1109 over mean 1155)
MAX_ZIPF = 1 << 20  # lengths that a Zipf table holds


@dataclass(frozen=True)
class Length:
    """A distribution's name and its parameters, in the order of its declaration."""

    distribution: str
    values: tuple[tuple[str, float | str], ...]

    def get(self, key: str) -> Any:
        """The value of a parameter, or None."""
        return dict(self.values).get(key)

    def __str__(self) -> str:
        return ":".join([self.distribution, *(f"{key}={show(value)}" for key, value in self.values)])


def show(value: float | str) -> str:
    """A number as short as it can be and still read back the same.

    >>> show(2.0), show(0.25)
    ('2', '0.25')
    """
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def _fixed(length: Length, u: Floats) -> Ints:
    return np.full(len(u), int(length.get("token")), np.int64)


def _uniform(length: Length, u: Floats) -> Ints:
    low, high = _bounds(length)
    return (low + np.floor(u * (high - low + 1))).astype(np.int64)


def _normal(length: Length, u: Floats) -> Ints:
    location = _solve_normal(length.get("mean"), length.get("std"), *_bounds(length))
    return _rounded(_truncated(u, location, length.get("std"), *_edges(length, log=False)), length)


def _lognormal(length: Length, u: Floats) -> Ints:
    sigma = lognormal_sigma(length)
    mu = math.log(length.get("median")) if length.get("mean") is None else lognormal_mu(length)
    return _rounded(np.exp(_truncated(u, mu, sigma, *_edges(length, log=True))), length)


def _zipf(length: Length, u: Floats) -> Ints:
    low, high = _bounds(length)
    if high - low >= MAX_ZIPF:
        raise InputError("too many lengths", field="max", value=high, allowed=f"less than min + {MAX_ZIPF}")
    weight = np.arange(low, high + 1, dtype=np.float64) ** -length.get("alpha")
    cumulative = np.cumsum(weight)
    return low + np.minimum(np.searchsorted(cumulative, u * cumulative[-1], side="right"), high - low)


def _empirical(length: Length, u: Floats) -> Ints:
    column = np.sort(_read_column(str(length.get("file")), int(length.get("column") or 1)))
    return column[np.minimum((u * len(column)).astype(np.int64), len(column) - 1)]


def _quantiles(length: Length, u: Floats) -> Ints:
    points = _points(str(length.get("at")))
    return np.rint(np.interp(u, np.linspace(0.0, 1.0, len(points)), points)).astype(np.int64)


def _points(text: str) -> list[int]:
    """Lengths parted by "/", each at least the one before."""
    parts = text.split("/")
    found = [int(part) if part.isascii() and part.isdigit() else 0 for part in parts]
    if len(found) < 2 or not all(1 <= a <= b <= MAX_TOKEN for a, b in itertools.pairwise(found)):
        raise InputError(
            "not quantiles", field="at", value=text,
            allowed=f"two or more whole numbers of 1 to {MAX_TOKEN} that never fall, parted by /",
        )  # fmt: skip
    return found


@dataclass(frozen=True)
class Distribution:
    """What a name of a distribution stands for."""

    quantile: Callable[[Length, Floats], Ints]
    help: str
    keys: tuple[str, ...]
    required: tuple[str, ...]


DISTRIBUTIONS: dict[str, Distribution] = {
    "fixed": Distribution(_fixed, "always `token`; a bare number says the same", ("token",), ("token",)),
    "uniform": Distribution(_uniform, "whole numbers from `min` to `max`", ("min", "max"), ("min", "max")),
    "normal": Distribution(_normal, "cut at `min` and `max`", ("mean", "std", "min", "max"), ("mean", "std")),
    "lognormal": Distribution(
        _lognormal,
        f"`mean` or `median`, then `sigma` (of the logarithm; {DEFAULT_SIGMA} where nothing says) or `std`",
        ("mean", "median", "sigma", "std", "min", "max"),
        (),
    ),
    "zipf": Distribution(_zipf, "`min` to `max` with odds length^-alpha", ("alpha", "min", "max"), ("alpha", "max")),
    "empirical": Distribution(
        _empirical, "drawn from column `column` (from 1) of a CSV `file`", ("file", "column"), ("file",)
    ),
    "quantiles": Distribution(
        _quantiles,
        "straight lines between quantiles at equal steps, the least to the largest: `at` 1/80/400",
        ("at",),
        ("at",),
    ),
}


def parse_length(given: Any, field: str = "length") -> Length:
    """A `Length` from text, a number or a TOML table.

    >>> str(parse_length("lognormal:mean=1064:max=3000"))
    'lognormal:mean=1064:max=3000'
    >>> str(parse_length(512))
    'fixed:token=512'
    >>> parse_length("lognormall:mean=3")
    Traceback (most recent call last):
    ...
    kernels.errors.InputError: length = 'lognormall': no such distribution; allowed: ... (nearest: lognormal)
    """
    if isinstance(given, Length):
        return given
    if isinstance(given, Mapping):
        table = dict(given)
        name = str(table.pop("distribution", ""))
    elif isinstance(given, bool) or not isinstance(given, str | int | float):
        raise InputError("a number, a text or a table names a length", field=field, value=given)
    elif not isinstance(given, str):
        name, table = "fixed", {"token": given}
    else:
        text = given.strip()
        name, *parts = text.split(":")
        table = {}
        if not parts and _is_number(name):
            name, table = "fixed", {"token": name}
        for part in parts:
            key, equals, value = part.partition("=")
            if not equals or not key:
                raise InputError("not a key=value", field=field, value=part, allowed="distribution:key=value:...")
            if key in table:
                raise InputError("given twice", field=f"{field}.{key}", value=value)
            table[key] = value
    if name not in DISTRIBUTIONS:
        raise InputError("no such distribution", field=field, value=name, allowed=list(DISTRIBUTIONS))
    return _checked(name, table, field)


def _checked(name: str, table: dict[str, Any], field: str) -> Length:
    shape = DISTRIBUTIONS[name]
    for key in table:
        if key not in shape.keys:
            raise InputError(f"unknown parameter of {name}", field=field, value=key, allowed=shape.keys)
    for key in shape.required:
        if key not in table:
            raise InputError(f"{name} needs {key}=", field=field, value=name, allowed=shape.keys)
    values: dict[str, float | str] = {}
    for key in shape.keys:
        if key in table and key in ("file", "at"):
            values[key] = str(table[key])
        elif key in table:
            values[key] = _number(table[key], f"{field}.{key}", key)
    length = Length(name, tuple(values.items()))
    low, high = _bounds(length)
    if low > high:
        raise InputError("min is above max", field=f"{field}.min", value=low, allowed=f"1 to {high}")
    mean = length.get("mean")
    if mean is not None and not low <= mean <= high:
        raise InputError("outside min and max", field=f"{field}.mean", value=mean, allowed=f"{low} to {high}")
    if name == "lognormal":
        _check_lognormal(length, field)
    if name == "quantiles":
        _points(str(length.get("at")))
    return length


def _check_lognormal(length: Length, field: str) -> None:
    mean, median, sigma, std = (length.get(key) for key in ("mean", "median", "sigma", "std"))
    if mean is None and median is None:
        raise InputError("lognormal needs mean= or median=", field=field, value=str(length))
    if mean is None and std is not None:
        raise InputError("std needs mean=, or give sigma=", field=field, value=str(length))
    widths = [sigma, std, median if mean is not None else None]
    if sum(width is not None for width in widths) > 1:
        raise InputError(
            "the width is given twice", field=field, value=str(length), allowed="one of sigma, std, median"
        )
    lognormal_sigma(length)


def _number(value: Any, field: str, key: str) -> float:
    ranges = {"alpha": (0.0, 20.0), "sigma": (0.0, 5.0), "std": (0.0, float(MAX_TOKEN)), "column": (1.0, 1000.0)}
    low, high = ranges.get(key, (1.0, float(MAX_TOKEN)))
    allowed = f"{show(low)} to {show(high)}"
    try:
        number = float(value)
    except OverflowError:  # a whole number that no float holds
        number = math.inf
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or (isinstance(value, str) and not _is_number(value)) or math.isnan(number):
        raise InputError("not a number", field=field, value=value, allowed=allowed)
    if not low <= number <= high:
        raise InputError("out of range", field=field, value=value, allowed=allowed)
    if key in ("token", "min", "max", "column") and not number.is_integer():
        raise InputError("not a whole number", field=field, value=value, allowed=allowed)
    return number


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def quantile(length: Length, u: Floats) -> Ints:
    """Whole tokens (>= 1) at the uniform numbers `u` in [0, 1).

    >>> quantile(parse_length("uniform:min=1:max=4"), np.array([0.0, 0.3, 0.99])).tolist()
    [1, 2, 4]
    """
    return DISTRIBUTIONS[length.distribution].quantile(length, np.asarray(u, np.float64))


def lognormal_sigma(length: Length) -> float:
    """Standard deviation of the logarithm, before any cut: from `sigma`, `std` and `mean`, `mean` and `median`."""
    mean, median, sigma, std = (length.get(key) for key in ("mean", "median", "sigma", "std"))
    if sigma is not None:
        return float(sigma)
    if std is not None:
        return math.sqrt(math.log1p((std / mean) ** 2))  # of a lognormal: std^2 = mean^2 (exp(sigma^2) - 1)
    if mean is not None and median is not None:
        if median > mean:
            raise InputError("above the mean", field="median", value=median, allowed=f"1 to {show(mean)}")
        return math.sqrt(2.0 * math.log(mean / median))  # of a lognormal: mean = median exp(sigma^2 / 2)
    return DEFAULT_SIGMA


def _bounds(length: Length) -> tuple[int, int]:
    return int(length.get("min") or 1), int(length.get("max") or MAX_TOKEN)


def _edges(length: Length, log: bool) -> tuple[float, float]:
    """Where the continuous distribution is cut, so that rounding gives every whole number its share."""
    low, high = _bounds(length)
    return (math.log(low - 0.5), math.log(high + 0.5)) if log else (low - 0.5, high + 0.5)


def _rounded(values: Floats, length: Length) -> Ints:
    return np.clip(np.rint(values), *_bounds(length)).astype(np.int64)


def _phi(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2.0))


def _truncated(u: Floats, mu: float, sigma: float, low: float, high: float) -> Floats:
    """Quantiles of a normal distribution between two cuts; the point nearest to `mu` where it has no width."""
    if sigma <= 0.0:
        return np.full(len(u), min(max(mu, low), high))
    below, above = _phi((low - mu) / sigma), _phi((high - mu) / sigma)
    if above - below < 1e-12:  # the cut leaves a sliver far from the mean: its nearer end
        return np.full(len(u), low if mu < low else high)
    return np.clip(mu + sigma * normal_quantile(below + u * (above - below)), low, high)


@lru_cache(maxsize=64)
def lognormal_mu(length: Length) -> float:
    """Mean of the logarithm such that the cut lognormal has the mean asked for.

    The mean between cuts a and b is exp(mu + s^2/2) [F((ln b - mu - s^2)/s) - F((ln a - mu - s^2)/s)] over
    [F((ln b - mu)/s) - F((ln a - mu)/s)] (Johnson, Kotz and Balakrishnan 1994, ch. 14); it grows with mu.
    """
    target, sigma = length.get("mean"), lognormal_sigma(length)
    if sigma <= 0.0:
        return math.log(target)
    low, high = _edges(length, log=True)

    def mean(mu: float) -> float:
        share = _phi((high - mu) / sigma) - _phi((low - mu) / sigma)
        if share < 1e-12:
            return math.exp(low if mu < low else high)
        moved = _phi((high - mu) / sigma - sigma) - _phi((low - mu) / sigma - sigma)
        return math.exp(mu + sigma * sigma / 2.0) * moved / share

    return _bisect(mean, target, low - 8.0 * sigma, high + 8.0 * sigma)


@lru_cache(maxsize=64)
def _solve_normal(target: float, sigma: float, low: int, high: int) -> float:
    """Location of a cut normal distribution with the mean asked for: m + s (f(a) - f(b)) / (F(b) - F(a))."""
    if sigma <= 0.0:
        return target
    a, b = low - 0.5, high + 0.5

    def density(z: float) -> float:
        return math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)

    def mean(location: float) -> float:
        za, zb = (a - location) / sigma, (b - location) / sigma
        share = _phi(zb) - _phi(za)
        if share < 1e-12:
            return a if location < a else b
        return location + sigma * (density(za) - density(zb)) / share

    return _bisect(mean, target, a - 6.0 * sigma, b + 6.0 * sigma)


def _bisect(function: Callable[[float], float], target: float, low: float, high: float) -> float:
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if function(middle) < target else (low, middle)
    return 0.5 * (low + high)


@lru_cache(maxsize=8)
def _read_column(file: str, column: int) -> Ints:
    from workloads.traces._table import read_table, tokens

    return tokens(read_table(pathlib.Path(file)), column - 1).astype(np.int64)
