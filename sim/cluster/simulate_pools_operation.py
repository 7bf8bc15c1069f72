"""A scenario served by two pools in operation: prompts on one, decodes on another, each scaled, drained and lost."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from kernels.errors import InputError
from sim.cluster.operate_pools import OperatedPools, PoolsOperator, Weights
from sim.cluster.operation import PoolsOperation
from sim.cluster.simulate import (
    pool_load,
    pool_parts,
    pool_scenarios,
    pool_table,
    pools_load_state,
    request_table,
    summary_table,
)
from sim.cluster.simulate_operation import load_byte_per_s, model_byte, most_up
from sim.cluster.world import Cluster
from sim.run.ffn_part import one_machine
from sim.run.scenario import Scenario
from sim.run.setup import Setup
from sim.run.simulate import policy_of, prepared
from sim.serving.limits import Options

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


@dataclasses.dataclass(frozen=True, eq=False)
class OperatedPoolsRun:
    """What came of requests, and what the pools did."""

    result: OperatedPools
    requests: "pd.DataFrame"  # a row a request: seconds, tokens, engines, how often it began again
    summary: "pd.DataFrame"  # a row a metric: mean, p50, p90, p99 in seconds
    figures: "pd.DataFrame"  # a row a figure of the whole run, or of one pool
    events: "pd.DataFrame"  # time_s, pool, engine, what
    pools: "pd.DataFrame"  # a row a pool: engines, steps, tokens, busy and KV shares of all that it may have
    load_state: str  # stable, backlogged, overloaded (`sim.record.load_state`), of the most engines that were up
    queue_drift: float

    @property
    def complete(self) -> bool:
        """False where it was stopped."""
        return self.result.result.complete

    @property
    def engines(self) -> "dict[str, tuple[pd.DataFrame, np.ndarray[Any, Any]]]":
        """Of each pool: what happened to its engines, and the seconds that each was paid."""
        return {name: (self.events[self.events["pool"] == name], paid) for name, paid in self.result.paid_s.items()}

    def page(self) -> str:
        """The run as one HTML page that needs no network (`ridgeline operate --html`). Raises `InputError` where no
        request was served."""
        from sim.show.page.operation_page import operation_page

        return operation_page(self)

    def __repr__(self) -> str:
        return f"OperatedPoolsRun({len(self.requests)} requests, {len(self.events)} events)"


def simulate_pools_operation(
    scenario: Scenario,
    prefill: Mapping[str, Any],
    decode: Mapping[str, Any],
    operation: PoolsOperation | None = None,
    *,
    transfer: str = "whole",
    latency_s: float = 0.0,
    link_byte_per_s: float = 0.0,
) -> OperatedPoolsRun:
    """Serves the scenario's load on a pool that prefills and one that decodes, each under its rules of `operation`.

    As `sim.cluster.simulate.simulate_pools`, which it is to the tick without rules; `dp` of a pool is the most engines
    that it has. Raises `InputError` for what `simulate_pools` refuses, where nobody says how fast weights are read, and
    for machines that pools share and that are not of one kind.
    """
    rules = operation or PoolsOperation()
    own = pool_scenarios(scenario, prefill, decode)
    for one in own.values():
        one_machine(one, "operation starts and stops")
    parts = pool_parts(own, link_byte_per_s)
    setups = {role: prepared(one, policy_of(one)) for role, one in own.items()}
    first, last = setups.values()
    if rules.machines and machine_of(first) != machine_of(last):
        words = [f"{devices} x {name}" for name, devices in map(machine_of, (first, last))]
        raise InputError(f"pools share machines of one kind, not {' and '.join(words)}", field="machines",
                         value=rules.machines, allowed="0")  # fmt: skip
    weights = {
        role: Weights(model_byte(setup), load_byte_per_s(setup, rules.of(role))) for role, setup in setups.items()
    }
    load = pool_load(scenario)
    options = Options(order=scenario.order, seed=scenario.seed)
    cluster = Cluster(cast(Any, load), list(parts.values()), transfer, latency_s, options)
    result = PoolsOperator(cluster, rules, weights, weights_of(first) == weights_of(last)).run()
    requests = request_table(result.result)
    again = sum(pool.request["num_preempted"] for pool in result.result.pool.values())
    requests["num_again"] = again
    up = {role: most_up(_events_of(result, role), result.paid_s[role]) for role in own}
    return OperatedPoolsRun(
        result, requests, summary_table(requests), figure_table(result, setups, requests, up), event_table(result),
        pool_table(result.result), *pools_load_state(result.result, requests, sum(up.values())),
    )  # fmt: skip


def machine_of(setup: Setup) -> tuple[str, int]:
    """What an engine runs on."""
    return setup.system.node.name, setup.placement.replica_device


def weights_of(setup: Setup) -> tuple[Any, ...]:
    """What decides which weights lie on which device of an engine."""
    placement = dataclasses.replace(setup.placement, dp=1)
    return setup.system.node.name, setup.model, setup.formats, placement, setup.draft


def _events_of(result: OperatedPools, role: str) -> list[tuple[float, int, str]]:
    return [(time_s, k, what) for time_s, pool, k, what in result.event if pool == role]


def event_table(result: OperatedPools) -> "pd.DataFrame":
    """A row an event: seconds, pool, engine, what."""
    import pandas as pd

    return pd.DataFrame(result.event, columns=["time_s", "pool", "engine", "what"])


def figure_table(
    result: OperatedPools, setups: Mapping[str, Setup], requests: "pd.DataFrame", up: Mapping[str, int]
) -> "pd.DataFrame":
    """Figures of the whole run, and of each pool."""
    import pandas as pd

    span_s = max(float(result.result.request["end_ps"].max(initial=1)) * 1e-12, 1e-12)
    hours = {role: float(paid.sum()) / 3600 for role, paid in result.paid_s.items()}
    usd = sum(hours[role] * setup.price_usd_per_h / setup.placement.dp for role, setup in setups.items())
    rows = [
        ("requests", "", len(requests), ""), ("served", "", int(requests["served"].sum()), ""),
        ("engine_hours", "", sum(hours.values()), "h"), ("usd", "", usd, "USD"),
        ("resent_requests", "", result.num_resent, ""), ("rerouted_transfers", "", result.num_rerouted, ""),
        ("moved_GB", "", result.result.moved_byte / 1e9, "GB"),
    ]  # fmt: skip
    for role, spent in hours.items():
        what = [word for _, _, word in _events_of(result, role)]
        counter = result.result.pool[role].counter
        rows += [
            ("engine_hours", role, spent, "h"), ("mean_engine", role, spent * 3600 / span_s, ""),
            ("most_engines_up", role, up[role], ""), ("load_s", role, result.load_s[role], "s"),
            ("loads", role, what.count("load"), ""), ("drains", role, what.count("drain"), ""),
            ("failures", role, what.count("fail"), ""), ("spot_losses", role, what.count("gone"), ""),
            ("steps", role, int(counter["num_step"].sum()), ""),
        ]  # fmt: skip
    return pd.DataFrame(rows, columns=["figure", "pool", "value", "unit"])
