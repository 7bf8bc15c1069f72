"""Scenarios side by side: one column a scenario, one row a number, and the ratio to the first."""

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from kernels.errors import InputError
from sim.run.scenario import Scenario, check_scenarios
from sim.run.simulate import simulate

if TYPE_CHECKING:
    import pandas as pd

NUMBERS = (
    "completed", "failed", "duration", "request_throughput", "request_goodput", "output_throughput",
    "mean_ttft_ms", "median_ttft_ms", "p99_ttft_ms", "mean_tpot_ms", "median_tpot_ms", "p99_tpot_ms",
    "mean_e2el_ms", "p99_e2el_ms", "mean_power_w", "energy_j_per_million_output_token",
    "usd_per_million_output_token",
)  # fmt: skip
ABOUT = ("fidelity", "calibration", "formats", "note", "refused")  # of what a run is


def vary(base: Sequence[Scenario], systems: str | None, policies: str | None) -> list[Scenario]:
    """Every scenario on each of `systems` (`a,b`) and under each of `policies` (`a;b`), in that order."""
    found = list(base)
    if systems:
        found = [dataclasses.replace(one, system=name) for one in found for name in systems.split(",") if name]
    if policies:
        found = [dataclasses.replace(one, policy=name) for one in found for name in policies.split(";") if name]
    return found


def label(scenario: Scenario, among: Sequence[Scenario]) -> str:
    """The values of the fields in which the scenarios differ."""
    values = dataclasses.asdict(scenario)
    others = [dataclasses.asdict(one) for one in among]
    differing = [name for name in values if len({str(other[name]) for other in others}) > 1]
    return " ".join(str(values[name]) for name in differing) or scenario.system


def compare(
    scenarios: Sequence[Scenario], naming: Callable[[int], AbstractContextManager[None]] | None = None
) -> "pd.DataFrame":
    """Columns `metric`, one a scenario (named by what it differs in), and with two or more their ratio to the first.
    `attrs["about"]` says of each whose calibration it has, what had no effect and who was refused; `attrs["points"]`
    holds a row a scenario, as a sweep's, which `ridgeline.pareto` draws. Errors of the scenario at a place are raised
    within `naming(place)`.

    Ctrl-C leaves the scenarios that had ended, with `attrs["complete"]` False."""
    import pandas as pd

    check_scenarios(*(scenarios if isinstance(scenarios, list | tuple) else [scenarios]))
    names = [label(one, scenarios) for one in scenarios]
    if len(set(names)) < len(names):
        raise InputError("two of the scenarios are the same", field="scenarios", value=names)
    columns: dict[str, dict[str, Any]] = {}
    about: dict[str, dict[str, Any]] = {}
    points: list[dict[str, Any]] = []
    for place, (name, one) in enumerate(zip(names, scenarios, strict=True)):
        with naming(place) if naming else nullcontext():
            done = simulate(one)
        if not done.result.complete:
            if not columns:
                raise KeyboardInterrupt
            break
        columns[name] = done.metrics
        points.append({"scenario": name, "num_device": int(done.run.totals["num_device"]), **done.metrics})
        about[name] = {key: done.run.about[key] for key in ABOUT if key in done.run.about}
    complete, names = len(columns) == len(names), list(columns)
    frame = pd.DataFrame({"metric": NUMBERS} | {name: [m.get(key) for key in NUMBERS] for name, m in columns.items()})
    for name in names[1:]:
        frame[f"{name} / {names[0]}"] = frame[name].astype(float) / frame[names[0]].astype(float)
    frame.attrs |= {"complete": complete, "about": about, "points": points}
    return frame
