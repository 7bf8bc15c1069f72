"""The records of a run on a pool that prefills and one that decodes (or on one that does both), as those of
`sim.record.records`: of the whole, of the steps of each pool's engines, and of every transfer between them."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kernels.engine import records as at
from kernels.units import PS_PER_S
from sim.record.columns import Columns
from sim.record.records import Run, request_columns, seconds, step_columns

if TYPE_CHECKING:
    from sim.cluster.world import ClusterResult
    from workloads.requests import Requests

TRANSFER: dict[str, str] = {
    "request": "index in the load",
    "prefill_engine": "whose KV it is, numbered in its pool",
    "decode_engine": "where it goes, numbered in its pool",
    "begin_s": "when its prefill ended and its KV was handed over",
    "end_s": "when the KV was there",
}


class PoolRuns(NamedTuple):
    """Requests from their arrival to their last token (`replica`: the engine that prefilled); the steps of each pool,
    where they were recorded; transfers (`TRANSFER`)."""

    whole: Run
    step: dict[str, Columns]
    num_block: dict[str, int]
    num_engine: dict[str, int]
    transfer: Columns


def pool_runs(result: "ClusterResult", load: "Requests") -> PoolRuns:
    """The records of a run of pools under `load`."""
    from sim.run.simulate import STATUS, WHY

    first = next(iter(result.pool.values()))
    column: dict[str, Any] = {**first.request, **result.request, "priority": load.priority}
    column["replica"] = result.request["first_replica"]
    column["status"] = np.array([STATUS.get(code, 2) for code in range(len(at.STATUSES))])[column["status"]]
    whole = Run(
        request_columns(column, [WHY[name] for name in at.REASONS]),
        {"num_step": float(sum(pool.counter["num_step"].sum() for pool in result.pool.values()))},
        {"complete": result.complete},
    )
    pools = result.pool.items()
    return PoolRuns(
        whole,
        {name: step_columns(pool.step, at.LOG_COLUMNS) for name, pool in pools if pool.step is not None},
        {name: pool.num_block for name, pool in pools},
        {name: len(pool.stage_busy_ps) for name, pool in pools},
        _transfers(result, np.asarray(first.request["end_ps"])),
    )


def _transfers(result: "ClusterResult", handed_ps: at.Ints) -> Columns:
    """In order of their beginning; those that were under way when a run was stopped are not among them."""
    some = np.flatnonzero(result.request["transfer_ps"] >= 0)
    some = some[np.argsort(handed_ps[some], kind="stable")]
    begin = handed_ps[some]
    return Columns({
        "request": some,
        "prefill_engine": result.request["first_replica"][some],
        "decode_engine": result.request["last_replica"][some],
        "begin_s": seconds(begin),
        "end_s": (begin + result.request["transfer_ps"][some]) / PS_PER_S,
    })  # fmt: skip
