"""Recording a baseline and running it again."""

import os
from collections.abc import Callable, Mapping, Sequence

from kernels.errors import InputError
from sim.regress.baseline import Entry, chosen, read
from sim.regress.judge import Threshold, Verdict, judge
from sim.regress.measure import measure
from sim.run.scenario import Scenario, from_mapping


def record(scenarios: Mapping[str, Scenario], say: Callable[[str], None] = lambda name: None) -> list[Entry]:
    """Runs each scenario; raises `KeyboardInterrupt` where one is stopped, for half a baseline guards nothing."""
    found = []
    for name, scenario in scenarios.items():
        say(name)
        entry = measure(name, scenario)
        if entry is None:
            raise KeyboardInterrupt
        if not entry.metric["completed"]:
            raise InputError("serves no request, so that nothing could be guarded", field="scenario", value=name)
        found.append(entry)
    return found


def regress(
    baseline: str | os.PathLike[str], threshold: Threshold = Threshold(), only: Sequence[str] = (),  # noqa: B008
    say: Callable[[str], None] = lambda name: None,
) -> list[Verdict]:  # fmt: skip
    """Runs the scenarios of a baseline's file (those of the names `only`) and compares: a verdict a scenario.

    Where the work is stopped the verdicts until then are returned: fewer than the baseline has entries.
    """
    found: list[Verdict] = []
    entries = chosen(read(baseline), only)
    scenarios = [from_mapping(entry.scenario, f"{baseline}: {entry.name}") for entry in entries]  # before any runs
    for entry, scenario in zip(entries, scenarios, strict=True):
        say(entry.name)
        now = measure(entry.name, scenario, entry.probe)
        if now is None:
            break
        found.append(judge(entry, now, threshold))
    return found
