"""What do vector queries gain that visit a partition together? (HQI, Mohoney et al. 2023, hybrid queries in batches)"""

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from studies._kernels import product, seconds, stream
from studies._panels import Panel, panels
from studies._steps import arrays
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "HQI (Mohoney et al. 2023): partitions by the workload and products of batches, 31 times the throughput"
SMALL: dict[str, Any] = {"queries": (64, 1024)}
SYSTEM = "epyc_9554"  # the machine is not published in the abstract; a 64-core socket at its peak rates
ROWS, DIM, FMT = 1_000_000, 128, "fp32"
PARTITION, PROBE = 1000, 32  # parts of an index by vector, and how many a query looks into
VALUES = (1, 4, 16)  # values of the attribute that queries ask for, one each: 1 is no attribute at all
QUERIES = (16, 64, 256, 1024, 4096)
ALONE, BATCHED, BOTH = "one by one", "batched by partition", "batched, partitions by attribute too"
RATE, GAIN, VISIT = "thousand queries/s", "throughput over one by one", "queries that share a visit"
NOTE = (
    "a million vectors of 128 32-bit values, 1,000 partitions, 32 looked into; queries Zipf over partitions, each with "
    "one of 1 to 16 values of an attribute; distances read a partition's rows once a visit; sizes, machine, workload "
    "of the claim are not published here"
)


class Visits(NamedTuple):
    """Pairs of a query and a partition, and how many of them each visited partition has."""

    pair: int
    each: np.ndarray


def visits(num_query: int, *, skew: float = 1.0, seed: int = 0) -> Visits:
    """Partitions of every query: its first by popularity, the others its neighbours in order."""
    random = np.random.default_rng(seed)
    weight = 1 / np.arange(1, PARTITION + 1) ** skew
    first = random.choice(PARTITION, num_query, p=weight / weight.sum())
    every = (first[:, None] + np.arange(PROBE)[None, :]) % PARTITION
    count = np.bincount(every.ravel(), minlength=PARTITION)
    return Visits(int(every.size), count[count > 0])


@functools.cache
def distance_s(query: int, row_count: int) -> float:
    """Distances of so many queries to the rows of a partition, and the least of each query's."""
    where = arrays(SYSTEM)
    kernel = product(query, row_count, DIM, fmt=FMT)
    return seconds(where, kernel, stream(4.0 * query * row_count, 0.0, flop=2.0 * query * row_count))


def batch_s(kind: str, num_query: int, values: int) -> float:
    """Seconds of all queries: every pair by itself over a partition's rows, whose attribute is looked at afterwards;
    all of a partition's queries at once; or also over the rows of their own value alone."""
    found = visits(num_query)
    rows = ROWS // PARTITION
    if kind == ALONE:
        return found.pair * distance_s(1, rows)
    if kind == BATCHED:
        return sum(distance_s(int(count), rows) for count in found.each)
    total = 0.0
    for count in found.each:
        shared, rest = divmod(int(count), values)
        total += rest * distance_s(shared + 1, rows // values)
        total += (values - rest) * distance_s(shared, rows // values) if shared else 0.0
    return total


def run(queries: tuple[int, ...] = QUERIES, values: tuple[int, ...] = VALUES) -> pd.DataFrame:
    """Queries a second and what batches gain, by queries of a batch and values of the attribute."""
    rows: list[dict[str, Any]] = []
    gain: dict[tuple[int, int], float] = {}
    for value in values:
        for num in queries:
            setup = f"{value} value{'s' * (value > 1)}, {num} queries"
            each = {kind: batch_s(kind, num, value) for kind in (ALONE, BATCHED, BOTH)}
            rows += [point(kind, RATE, setup, num / second / 1e3, NOTE) for kind, second in each.items()]
            rows += [point(kind, GAIN, setup, each[ALONE] / each[kind], NOTE) for kind in (BATCHED, BOTH)]
            gain[value, num] = each[ALONE] / each[BOTH]
        where = f"{value} value{'s' * (value > 1)}, {queries[0]} to {queries[-1]} queries"
        own = [gain[value, num] for num in queries]
        rows.append(order(BOTH, "order: larger batches gain more", where, own == sorted(own) and own[0] >= 1, NOTE))
    for num in queries:
        found = visits(num)
        rows.append(point("Zipf", VISIT, f"{num} queries", found.pair / len(found.each), NOTE))
    middle, last = values[len(values) // 2], queries[-1]
    rows.append(row(BOTH, "throughput, over one by one", "workload of the paper", 31.0, gain[middle, last], NOTE,
                    tag="approx", null=1.0, said=True, spread=[gain[value, last] for value in values]))  # fmt: skip
    rows.append(order(BOTH, "order: more values to leave out, more gained", f"{last} queries",
                      [gain[value, last] for value in values] == sorted(gain[value, last] for value in values),
                      NOTE))  # fmt: skip
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Gains by batch for each number of values, and how many queries share a visit."""
    shown = [Panel(GAIN, f"{value} value{'s' * (value > 1)} of the attribute", GAIN,
                   f"{value} value{'s' * (value > 1)}, ", curve=True, log=True) for value in VALUES]  # fmt: skip
    return panels(table, [*shown, Panel(VISIT, "a partition's queries", VISIT)], "HQI: hybrid queries on a CPU")
