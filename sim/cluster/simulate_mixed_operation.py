"""A scenario served by several pools that each prefill and decode, every one under rules of its own.

Requests go to pools by fixed shares, whole chains of them, in turn (`sim.recommend.deployment.split_load`): what
befalls the engines of one pool changes nothing in another.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kernels.engine.records import REFUSED
from kernels.errors import InputError
from sim.cluster.operation import Operation
from sim.cluster.simulate import pool_load
from sim.cluster.simulate_operation import OperatedRun, simulate_operation, summary_table
from sim.recommend.deployment import Deployment, PoolOf, some, split_load
from sim.record.load_state import load_state
from sim.run.scenario import Scenario

if TYPE_CHECKING:
    import pandas as pd

ADDED = ("requests", "served", "engine_hours", "usd", "resent_requests", "moved_requests", "moved_GB")


@dataclasses.dataclass(frozen=True, eq=False)
class MixedOperatedRun:
    """What came of requests, and what the pools did."""

    runs: tuple[OperatedRun, ...]  # of each pool by itself
    requests: "pd.DataFrame"  # a row a request, in the load's order: `pool` (by number), seconds, tokens, engine there
    summary: "pd.DataFrame"  # a row a latency: mean, p50, p90, p99 in seconds
    figures: "pd.DataFrame"  # a row a figure, of the whole (no pool) or of one
    events: "pd.DataFrame"  # time_s, pool, engine, what
    load_state: str  # stable, backlogged, overloaded (`sim.record.load_state`), of the most engines that were up
    queue_drift: float

    @property
    def complete(self) -> bool:
        """False where it was stopped."""
        return all(run.complete for run in self.runs)

    @property
    def engines(self) -> "dict[str, tuple[pd.DataFrame, np.ndarray[Any, Any]]]":
        """Of each pool: what happened to its engines, and the seconds that each was paid."""
        return {f"pool {k}": (run.events, run.result.paid_s) for k, run in enumerate(self.runs)}

    def page(self) -> str:
        """The run as one HTML page that needs no network (`ridgeline operate --html`). Raises `InputError` where no
        request was served."""
        from sim.show.page.operation_page import operation_page

        return operation_page(self)

    def __repr__(self) -> str:
        return f"MixedOperatedRun({len(self.runs)} pools, {len(self.requests)} requests, {len(self.events)} events)"


def simulate_mixed_operation(
    scenario: Scenario, pools: Sequence[Mapping[str, Any]], operation: Sequence[Operation] = (),
    *, share: Sequence[float] = (),
) -> MixedOperatedRun:  # fmt: skip
    """Serves the scenario's load on pools that each do both phases.

    `pools` are fields of a scenario in which each differs from `scenario` (`dp`: the most engines that it has),
    `operation` the rules of each (none: nothing happens), `share` what each takes of the requests, against the others
    (none: as much). A pool is what `simulate_operation` makes of its requests (under its number), to the tick, and paid
    until its own last answer. Raises `InputError` for what that refuses, and for a pool that gets no request.
    """
    rules, part = list(operation) or [Operation()] * len(pools), list(share) or [1.0] * len(pools)
    for name, given in (("operation", rules), ("share", part)):
        if len(given) != len(pools):
            raise InputError("one for each pool", field=name, value=len(given), allowed=str(len(pools)))
    for value in part:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1e6:
            raise InputError("not a share", field="share", value=value, allowed="above 0, at most 1e6")
    each = tuple(PoolOf(tuple(change.items()), "mixed", value) for change, value in zip(pools, part, strict=True))
    own = [one.scenario(scenario) for one in Deployment(scenario, each).pools]
    load = pool_load(scenario)
    if load.max_concurrency:
        raise InputError("pools that know nothing of each other have no cap in common", field="requests",
                         value=scenario.requests, allowed="a load without a cap on concurrency")  # fmt: skip
    places = split_load(load, part)
    for number, index in enumerate(places):
        if not len(index):
            raise InputError(f"pool {number} gets none of {len(load)} requests", field="share", value=part[number])
    runs = tuple(
        simulate_operation(one, rule, requests=some(load, index), number=number)
        for number, (one, rule, index) in enumerate(zip(own, rules, places, strict=True))
    )
    return _together(runs, places)


def _together(runs: tuple[OperatedRun, ...], places: Sequence["np.ndarray[Any, Any]"]) -> MixedOperatedRun:
    import pandas as pd

    asked = np.concatenate([run.result.result.request["status"] != REFUSED for run in runs])
    tables = [run.requests.assign(pool=number) for number, run in enumerate(runs)]
    joined = pd.concat(tables).assign(place=np.concatenate(places), asked=asked).sort_values("place", ignore_index=True)
    requests = joined.drop(columns=["place", "asked"])
    events = pd.concat([run.events.assign(pool=number) for number, run in enumerate(runs)])
    events = events[["time_s", "pool", "engine", "what"]].sort_values("time_s", kind="stable", ignore_index=True)
    by_pool = [run.figures.set_index("figure") for run in runs]
    rows = [(name, "", sum(one["value"][name] for one in by_pool), by_pool[0]["unit"][name]) for name in ADDED]
    for number, one in enumerate(by_pool):
        rows += [(str(name), str(number), one["value"][name], one["unit"][name]) for name in one.index]
    figures = pd.DataFrame(rows, columns=["figure", "pool", "value", "unit"])
    num_engine = int(sum(one["value"]["most_engines_up"] for one in by_pool))
    met = requests[joined["asked"]]
    state = load_state(met["arrival_s"], met["arrival_s"] + met["ttft_s"], num_engine)
    return MixedOperatedRun(runs, requests, summary_table(requests), figures, events, *state)
