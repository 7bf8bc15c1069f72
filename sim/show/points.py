"""Points of a sweep or a recommendation: what a user and a device get, at which price, and which no other beats."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

USER, DEVICE = "token_per_s_per_user", "token_per_s_per_device"
USD, JOULE = "usd_per_million_output_token", "energy_j_per_million_output_token"
WALL = "wall_j_per_million_output_token"
LABEL = {
    USER: "tokens/s a user", DEVICE: "tokens/s a GPU", USD: "$ a million output tokens",
    JOULE: "J a million output tokens", WALL: "J at the wall a million output tokens",
    "output_throughput": "output tokens/s", "p99_ttft_ms": "P99 TTFT (ms)", "p99_tpot_ms": "P99 TPOT (ms)",
    "usd_per_h": "$ an hour",
}  # fmt: skip
Row = dict[str, Any]


def with_rates(row: Row) -> Row:
    """A row of a sweep or a recommendation with tokens a second of a user (1 / mean TPOT) and of a device, and
    `concurrency`, the requests that decode at once on average: output tokens a second over those of a user.

    >>> row = with_rates({"output_throughput": 900.0, "mean_tpot_ms": 20.0, "num_device": 2})
    >>> row["token_per_s_per_user"], row["token_per_s_per_device"], row["concurrency"]
    (50.0, 450.0, 18.0)
    """
    rate = row.get("output_throughput")
    if USER not in row:
        tpot_ms = row.get("mean_tpot_ms")
        row = row | {USER: 1e3 / tpot_ms if tpot_ms else None,
                     DEVICE: rate / row["num_device"] if tpot_ms and rate else None}  # fmt: skip
    return row | {"concurrency": rate / row[USER] if row[USER] and rate else None}


def ran(row: Mapping[str, Any]) -> bool:
    """Whether a row has numbers to draw."""
    return all(isinstance(row.get(n), int | float) and math.isfinite(row[n]) for n in (USER, DEVICE))


def front(rows: Sequence[Row], x: str, y: str, least: bool = False) -> list[Row]:
    """The rows that no other beats in both `x` (more is better) and `y` (more, or with `least` less, is better), by
    falling `x`.

    >>> front([{"x": 1, "y": 9}, {"x": 2, "y": 3}, {"x": 2, "y": 5}, {"x": 1, "y": 4}], "x", "y")
    [{'x': 2, 'y': 5}, {'x': 1, 'y': 9}]
    """
    sign = -1.0 if least else 1.0
    best = -math.inf
    kept: list[Row] = []
    for row in sorted(rows, key=lambda one: (-one[x], -sign * one[y])):
        if sign * row[y] > best:
            best = sign * row[y]
            kept.append(row)
    return kept
