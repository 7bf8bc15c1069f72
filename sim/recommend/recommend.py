"""Which machines, how many, in which pools and with which engine options: the cheapest, or the least power, for a load
at an objective."""

import dataclasses
import itertools
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hw_models import catalog
from kernels.errors import InputError
from sim.recommend.bounds import Demand, Engine, demand_of
from sim.recommend.search import DOMINATED, MEETS, REJECTED, Candidate, Progress, Search, Target, pairs
from sim.recommend.table import COLUMNS, SHOWN, candidate_row
from sim.run.ffn_part import one_machine
from sim.run.scenario import Scenario
from sim.sweep.axes import at, grid, parse_axes
from workloads import models
from workloads.load import load_requests

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

OBJECTIVES = ("cost", "power")
POOLS = ("mixed", "split", "mix")
TOKEN_BUDGETS = (0, 512, 2048)  # tokens a step: the engine's own, and two that favour the next token and the first
NUM_ENGINE = 3  # of each system, that split pools are made of


@dataclasses.dataclass(frozen=True, eq=False)
class Recommendation:
    """What was looked at. `candidates` in order: those that meet the target, the best first, then the others."""

    candidates: list[Candidate]
    target: Target
    demand: Demand
    num_run: int
    complete: bool  # False: it was interrupted

    def __repr__(self) -> str:
        best = self.best
        said = f"the best {best.deployment.words}" if best else "none meets the target"
        return f"<Recommendation: {len(self.candidates):,} candidates, {self.num_run:,} simulated, {said}>"

    def _repr_html_(self) -> str:
        from sim.show.tables import html_frame

        return html_frame(repr(self).strip("<>"), self.frame[list(SHOWN)])

    @property
    def best(self) -> Candidate | None:
        """The best that meets the target."""
        return next((one for one in self.candidates if one.status == MEETS), None)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row a candidate: `sim.recommend.table.COLUMNS`."""
        return [candidate_row(one, self.target, rank) for rank, one in enumerate(self.candidates, 1)]

    @property
    def frame(self) -> "pd.DataFrame":
        """The rows as a frame; `attrs["complete"]` says whether the search ended by itself."""
        import pandas as pd

        frame = pd.DataFrame(self.rows, columns=list(COLUMNS))
        frame.attrs["complete"] = self.complete
        return frame

    def page(self) -> str:
        """All of it as one HTML page that needs no network (`ridgeline recommend --html`)."""
        from sim.show.page.points_page import recommend_page

        return recommend_page(self)

    def plot(self) -> "Figure":
        """Pareto plots of what was simulated: tokens/s a user against tokens/s a GPU, $ and joules at the wall, the
        concurrency on the points. Needs the extra `plot`."""
        from sim.show.pareto import pareto

        base = self.candidates[0].deployment.base if self.candidates else None
        return pareto(self.frame, f"Machines for {base.model}" if base else "")

    @property
    def frontier(self) -> "pd.DataFrame":
        """Of what was simulated, those that no other beats in both tokens a second of a user and of a device, with
        dollars and joules a million output tokens; by tokens of a user."""
        frame = self.frame
        ran = frame[frame["token_per_s_per_user"].notna() & (frame["load_state"] != "overloaded")]
        ran = ran.sort_values(["token_per_s_per_user", "token_per_s_per_device"], ascending=False, kind="stable")
        best = ran["token_per_s_per_device"].cummax().shift(fill_value=-1.0)
        return ran[ran["token_per_s_per_device"] > best].reset_index(drop=True)


def recommend(
    scenario: Scenario,
    ttft_p99_s: float,
    tpot_p99_s: float,
    *,
    systems: Sequence[str] | None = None,
    max_devices: int = 64,
    objective: str = "cost",
    tp: Sequence[int] | None = None,
    over: Mapping[str, Any] | Sequence[str] | None = None,
    pools: Sequence[str] = POOLS,
    within: float = 1.5,
    progress: Progress | bool | None = None,
) -> Recommendation:
    """Deployments of the scenario's model that serve its load with these P99 latencies, the cheapest (or that of least
    power) first, and why the others are not among them.

    `systems` are machines of the catalogue or files (the scenario's where none are given), `tp` the tensor parallel
    sizes (all that the model and the node allow), `over` what else varies, as in `sweep` (token budgets of 0, 512 and
    2048 where nothing is said). `pools`: "mixed" engines do both, "split" ones prefill or decode, a "mix" of two
    machines shares the load. Candidates whose bound is beyond `within` times the best are not simulated.
    `progress=True` shows how far it is on the terminal or in the notebook.

    Raises `InputError` for names and values that are not there. Ctrl-C returns what was found until then.
    """
    if isinstance(progress, bool):
        from sim.show.time_left import time_left

        with time_left(progress, "deployments") as shown:
            return recommend(scenario, ttft_p99_s, tpot_p99_s, systems=systems, max_devices=max_devices, tp=tp,
                             objective=objective, over=over, pools=pools, within=within, progress=shown)  # fmt: skip
    one_machine(scenario, "a recommendation counts")
    target = _target(ttft_p99_s, tpot_p99_s, objective, max_devices, within)
    for name in pools:
        if name not in POOLS:
            raise InputError("no such pools", field="pools", value=name, allowed=POOLS)
    if not pools:
        raise InputError("names none", field="pools", value="", allowed=POOLS)
    load = load_requests(scenario.requests, scenario.seed)
    demand = demand_of(load)
    scenario = dataclasses.replace(scenario, goodput=f"ttft:{ttft_p99_s:g} tpot:{tpot_p99_s:g}")
    search = Search(scenario, load, demand, target, progress or (lambda done, found, num: None))
    try:
        _search(search, _scenarios(scenario, systems or [scenario.system], tp, over, max_devices), pools)
    except KeyboardInterrupt:
        if not search.num_run:
            raise
        search.complete = False
    order = {MEETS: 0, REJECTED: 1, DOMINATED: 2}
    ranked = sorted(
        search.found,
        key=lambda one: (
            order[one.status or REJECTED],
            search.value(one.numbers) if one.status == MEETS else 0.0,
            one.numbers.get("p99_ttft_ms") or 0.0 if one.status == MEETS else 0.0,
        ),
    )
    return Recommendation(ranked, target, demand, search.num_run, search.complete)


def _search(search: Search, scenarios: Sequence[Scenario], pools: Sequence[str]) -> None:
    engines = search.engines(scenarios)
    answer: dict[int, Candidate] = {}
    if "mixed" in pools or "mix" in pools:
        for engine in engines:
            found = search.mixed(engine)
            if found is not None:
                answer[id(engine)] = found
    chosen: list[Engine] = []
    by_system: dict[str, list[Engine]] = {}
    for engine in engines:
        by_system.setdefault(engine.scenario.system, []).append(engine)
    if "mix" in pools:
        there = []
        for own in by_system.values():
            good = [engine for engine in own if id(engine) in answer]
            sizes = {engine.num_device: engine for engine in reversed(own)}  # of each size the one of the lowest bound
            there.append([min(good, key=lambda e: search.value(answer[id(e)].numbers))] if good else [*sizes.values()])
        for some, others in itertools.combinations(there, 2):
            for one, other in itertools.product(some, others):
                search.mix(one, other)
    if "split" in pools:
        for own in by_system.values():
            seen: set[int] = set()
            for engine in own:  # in order of their bounds; options of the engine as the base has them
                if engine.num_device not in seen and len(seen) < NUM_ENGINE:
                    seen.add(engine.num_device)
                    chosen.append(engine)
        ways = pairs(chosen)
        slack_s = search.slack_s()
        ways.sort(key=lambda way: search.floor(way[0], way[0].least(search.demand, way[0].prefill_s, slack_s))
                  + search.floor(way[1], way[1].least(search.demand, way[1].decode_s, slack_s)))  # fmt: skip
        for first, last in ways:
            search.split(first, last)


def _target(ttft_s: float, tpot_s: float, objective: str, max_devices: int, within: float) -> Target:
    for field, value in (("ttft_p99_s", ttft_s), ("tpot_p99_s", tpot_s)):
        if not 0 < value < 1e6:
            raise InputError("not a time in seconds", field=field, value=value, allowed="above 0, below 1e6")
    if objective not in OBJECTIVES:
        raise InputError("no such objective", field="objective", value=objective, allowed=OBJECTIVES)
    if not 1 <= max_devices <= 100_000:
        raise InputError("out of range", field="max_devices", value=max_devices, allowed="1 to 100000")
    if not 1 <= within <= 1000:
        raise InputError("out of range", field="within", value=within, allowed="1 to 1000")
    return Target(ttft_s, tpot_s, objective, max_devices, within)


NO_OPTION = (
    "system", "tp", "dp", "requests", "model", "seed", "order", "goodput", "fidelity", "ffn_system",
)  # fmt: skip
"""Fields that no axis of a recommendation varies."""


def _scenarios(
    scenario: Scenario, systems: Sequence[str], tp: Sequence[int] | None,
    over: Mapping[str, Any] | Sequence[str] | None, max_devices: int,
) -> list[Scenario]:  # fmt: skip
    """A scenario of one engine for every machine, parallelism and option."""
    model = models.load(scenario.model)
    axes = parse_axes(over) if over else []
    for axis in axes:
        if axis.field in NO_OPTION:
            raise InputError("is not an option of an engine", field="over", value=axis.name)
    if not axes and not scenario.token_budget and "max_token" not in scenario.policy:
        axes = parse_axes({"token_budget": list(TOKEN_BUDGETS)})
    found = []
    if len(set(systems)) < len(systems):
        raise InputError("given twice", field="systems", value=",".join(systems))
    for system in systems:
        node = catalog.system(system).node
        sizes = tp or [
            n for n in (1, 2, 4, 8, 16) if n <= node.num_device and model.block[0].attention.num_head % n == 0
        ]
        for size in sizes:
            one = dataclasses.replace(scenario, system=system, tp=size, dp=1)
            if _size(one) <= max_devices:
                found += [at(one, axes, values) for values in grid(axes)]
    if not found:
        raise InputError("leaves no room for an engine", field="max_devices", value=max_devices)
    return found


def _size(scenario: Scenario) -> int:
    return scenario.tp * scenario.pp * scenario.attn_dp


def save(found: Recommendation, folder: str | os.PathLike[str]) -> list[pathlib.Path]:
    """Every candidate that meets the target as a scenario that runs, `01.toml` the best: one pool by `ridgeline
    simulate`, several by `ridgeline pools`."""
    import tomli_w

    from sim.record.write import write_files

    place = pathlib.Path(folder)
    files = {
        place / f"{rank:02}.toml": tomli_w.dumps(one.deployment.table()).encode()
        for rank, one in enumerate(found.candidates, 1)
        if one.status == MEETS
    }
    return write_files(files)
