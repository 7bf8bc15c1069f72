"""A scenario whose replicas are operated: scaled with the load, drained, lost and replaced."""

import dataclasses
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from kernels.engine.records import FINISHED, LEAVING, REFUSED
from kernels.errors import InputError
from kernels.units import PS_PER_S
from sim.cluster.operate import Operated, Operator
from sim.cluster.operation import Operation
from sim.cluster.parts import pool_part
from sim.record.load_state import load_state
from sim.run.effect import check_load
from sim.run.ffn_part import one_machine
from sim.run.scenario import Scenario, check_scenarios
from sim.run.setup import Setup
from sim.run.simulate import policy_of, prepared
from sim.serving.limits import Options
from workloads.load import load_requests
from workloads.memory import weight_byte
from workloads.requests import Requests, check_no_image

if TYPE_CHECKING:
    import pandas as pd

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


@dataclasses.dataclass(frozen=True, eq=False)
class OperatedRun:
    """What came of requests, and what the pool did."""

    result: Operated
    requests: "pd.DataFrame"  # a row a request: seconds, tokens, engine, how often it was computed anew
    summary: "pd.DataFrame"  # a row a latency: mean, p50, p90, p99 in seconds
    figures: "pd.DataFrame"  # a row a figure: engine hours, dollars, starts, losses, ...
    events: "pd.DataFrame"  # time_s, engine, what
    load_state: str  # stable, backlogged, overloaded (`sim.record.load_state`), of the most engines that were up
    queue_drift: float

    @property
    def complete(self) -> bool:
        """False where it was stopped."""
        return self.result.result.complete

    @property
    def engines(self) -> "dict[str, tuple[pd.DataFrame, np.ndarray[Any, Any]]]":
        """Of each pool: what happened to its engines, and the seconds that each was paid."""
        return {"": (self.events, self.result.paid_s)}

    def page(self) -> str:
        """The run as one HTML page that needs no network (`ridgeline operate --html`). Raises `InputError` where no
        request was served."""
        from sim.show.page.operation_page import operation_page

        return operation_page(self)

    def __repr__(self) -> str:
        return f"OperatedRun({len(self.requests)} requests, {len(self.events)} events)"


def simulate_operation(
    scenario: Scenario, operation: Operation | None = None, *, requests: Requests | None = None, number: int = 0
) -> OperatedRun:
    """Serves the scenario's load (or `requests`) on at most `scenario.dp` replicas under the rules of an operation.

    A replica that is started reads its weights from storage, is warmed up, and begins with an empty cache; without
    rules the run is that of `simulate` to the tick. `number` tells pools beside each other apart, which lose their
    machines at times of their own. Raises `InputError` for what `simulate` refuses, and where nobody
    says how fast weights are read.
    """
    check_scenarios(scenario)
    one_machine(scenario, "operation starts and stops")
    rules = operation or Operation()
    if scenario.fidelity == "replay":
        raise InputError("pools have no operator-by-operator replay", field="fidelity", value="replay")
    if scenario.dp == 1 and scenario.router != Scenario.__dataclass_fields__["router"].default:
        raise InputError("has no effect on one replica", field="router", value=scenario.router)
    part = pool_part(scenario, "mixed", link_byte_per_s=0.0 if rules.spot_move_s else 1.0)  # nothing else is sent
    setup = prepared(scenario, policy_of(scenario))
    load = load_requests(scenario.requests, scenario.seed) if requests is None else requests
    check_load(scenario, load)
    check_no_image(load, "in operation")
    operator = Operator(
        cast(Any, load), part, rules, model_byte(setup), load_byte_per_s(setup, rules),
        Options(order=scenario.order, seed=scenario.seed, engine="auto" if scenario.run_ahead else "stepping"),
        number,
    )  # fmt: skip
    result = operator.run()
    table = request_table(result)
    asked = table[result.result.request["status"] != REFUSED]
    state = load_state(asked["arrival_s"], asked["arrival_s"] + asked["ttft_s"], most_up(result.event, result.paid_s))
    events = _frame(result.event, ["time_s", "engine", "what"])
    return OperatedRun(result, table, summary_table(table), figure_table(result, setup, table), events, *state)


def model_byte(setup: Setup) -> float:
    """Bytes of weights on all devices of a replica."""
    placed = setup.placement
    stages = (sum(weight_byte(setup.model, setup.formats, placed, stage).values()) for stage in range(placed.pp))
    return float(sum(stages) * placed.stage_device)


def load_byte_per_s(setup: Setup, rules: Operation) -> float:
    """Bytes of weights a second into one replica: what the rules say, else the disks of its share of a node."""
    devices = setup.placement.stage_device * setup.placement.pp
    found = rules.load_GBps * 1e9
    if not found:
        found = setup.system.node.disk_read_byte_per_s * min(1.0, devices / setup.system.node.num_device)
    if not found and rules.starts:
        raise InputError(f"{setup.system.node.name} says nothing of its disks", field="load_GBps", value=0.0,
                         allowed="GB/s above 0 from storage to a replica")  # fmt: skip
    return found or 1e9


CHANGES = ("load", "up", "drain", "notice", "fail", "gone", "off")
"""Of what is noted of engines: all but what waits or has no effect."""


def most_up(event: list[tuple[float, int, str]], paid_s: "np.ndarray[Any, Any]") -> int:
    """The most engines that took requests at once."""
    event = [one for one in event if one[2] in CHANGES]
    up = up_at_first(event, paid_s)
    most = len(up)
    for _, k, what in event:
        up = up | {k} if what == "up" else up - {k} if what in ("drain", "notice", "fail", "gone") else up
        most = max(most, len(up))
    return most


def up_at_first(event: list[tuple[float, int, str]], paid_s: "np.ndarray[Any, Any]") -> set[int]:
    """The engines that were up at time 0: to which something else happened first than being loaded, or nothing at all
    while they were paid."""
    begun = {k: what for _, k, what in reversed(event) if what in CHANGES}
    return {k for k, paid in enumerate(paid_s) if begun.get(k, "" if paid > 0 else "load") != "load"}


def request_table(result: Operated) -> "pd.DataFrame":
    """A row a request; empty where it was refused or has no such time."""
    import pandas as pd

    r = result.result.request
    done = np.isin(r["status"], (FINISHED, LEAVING))

    def seconds(end: str) -> Any:
        return np.where(done & (r[end] >= 0), (r[end] - r["arrival_ps"]) / PS_PER_S, np.nan)

    ttft, e2e = seconds("first_token_ps"), seconds("last_token_ps")
    more = np.where(r["output_token"] > 1, r["output_token"] - 1, np.nan)
    return pd.DataFrame({
        "arrival_s": r["arrival_ps"] / PS_PER_S, "ttft_s": ttft, "tpot_s": (e2e - ttft) / more, "e2e_s": e2e,
        "prompt_token": r["prompt_token"], "cached_token": r["cached_token"], "output_token": r["output_token"],
        "produced_token": r["produced_token"], "engine": r["replica"], "num_again": r["num_preempted"], "served": done,
    })  # fmt: skip


def summary_table(requests: "pd.DataFrame") -> "pd.DataFrame":
    """Mean and quantiles of what requests met, seconds."""
    rows = []
    for name in ("ttft_s", "tpot_s", "e2e_s"):
        values = requests[name].dropna().to_numpy(float)
        found = {key: float(np.quantile(values, q)) if len(values) else np.nan for key, q in QUANTILES.items()}
        rows.append((name, float(values.mean()) if len(values) else np.nan, *found.values()))
    return _frame(rows, ["metric", "mean", *QUANTILES])


def figure_table(result: Operated, setup: Setup, requests: "pd.DataFrame") -> "pd.DataFrame":
    """Figures of the whole run."""
    hours = float(result.paid_s.sum()) / 3600
    dp, what = setup.placement.dp, [word for _, _, word in result.event]
    rows = [
        ("requests", len(requests), ""), ("served", int(requests["served"].sum()), ""),
        ("engine_hours", hours, "h"), ("mean_engine", float(result.paid_s.sum()) / max(_span_s(result), 1e-12), ""),
        ("usd", hours * setup.price_usd_per_h / dp, "USD"),
        ("load_s", result.load_s, "s"), ("loads", what.count("load"), ""), ("drains", what.count("drain"), ""),
        ("failures", what.count("fail"), ""), ("spot_losses", what.count("gone"), ""),
        ("resent_requests", result.num_resent, ""), ("moved_requests", result.num_moved, ""),
        ("moved_GB", result.moved_byte / 1e9, "GB"), ("most_engines_up", most_up(result.event, result.paid_s), ""),
        ("cached_token", int(result.result.counter["num_hit_token"].sum()), ""),
        ("steps", int(result.result.counter["num_step"].sum()), ""),
    ]  # fmt: skip
    return _frame(rows, ["figure", "value", "unit"])


def _span_s(result: Operated) -> float:
    return float(result.result.request["end_ps"].max(initial=1)) / PS_PER_S


def _frame(rows: Any, columns: list[str]) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(list(rows), columns=columns)
