"""Which deployments are simulated: those that no bound and no cheaper one rules out.

A candidate is a kind of engine (a machine, its parallelism and its engine's options) and a number of them; or two kinds
and two numbers, one pool that prefills and one that decodes; or two kinds on unlike machines that share the load. Of
each kind the smallest number that meets the objective is what counts: fewer do not, more cost more. It is found by
galloping and bisection between the number that the bounds force and the dearest that is still of interest; that
latencies fall with the number of engines is what this relies on, and the number found has been simulated.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from kernels.errors import InputError
from sim.recommend.bounds import Demand, Engine, engine_of
from sim.recommend.deployment import Deployment, PoolOf
from sim.recommend.outcome import run_deployment
from sim.record.load_state import OVERLOADED
from sim.run.scenario import Scenario
from sim.run.simulate import WHY
from workloads.requests import Requests

MEETS, REJECTED, DOMINATED = "meets", "rejected", "dominated"
PARALLEL = ("system", "tp", "pp", "dp", "attn_dp", "ep")
SPLIT_TRIES = 8
SLOWER = (1.0, 0.5, 0.25)  # of its share by capacity, what the slower machine of a mix gets
Progress = Callable[[int, int, int], None]


@dataclasses.dataclass(frozen=True)
class Target:
    """What must hold, and what is lowered."""

    ttft_s: float
    tpot_s: float
    objective: str = "cost"  # or "power"
    max_device: int = 64
    within: float = 1.5  # candidates whose bound is beyond so many times the best are left out


@dataclasses.dataclass
class Candidate:
    """A deployment and what came of it."""

    deployment: Deployment
    kind: str  # mixed, split, mix
    status: str = ""
    why: str = ""
    numbers: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def num_device(self) -> int:
        return sum(
            own.tp * own.pp * own.attn_dp * own.dp
            for own in (pool.scenario(self.deployment.base) for pool in self.deployment.pools)
        )


class Search:
    """A search over kinds of engines for a scenario under its load."""

    def __init__(self, base: Scenario, load: Requests, demand: Demand, target: Target, progress: Progress) -> None:
        self.base, self.load, self.demand, self.target = base, load, demand, target
        self.progress = progress
        self.found: list[Candidate] = []
        self.num_run = 0
        self.best = float("inf")  # the objective of the best that meets the target
        self.complete = True
        self._least: dict[int, int] = {}  # by kind: engines that meet the target

    # what is lowered -------------------------------------------------------------------------------------------------

    def floor(self, engine: Engine, num: int = 1) -> float:
        """The least that `num` engines can have of the objective: their rent, or their watts while they do nothing."""
        if self.target.objective == "cost":
            return engine.usd_per_h * num
        from kernels.machine import IDLE_W

        return float(engine.setup.machine.rate[IDLE_W]) * engine.num_device * num

    def value(self, numbers: dict[str, Any]) -> float:
        """The objective of a candidate that was simulated."""
        return float(numbers["usd_per_h" if self.target.objective == "cost" else "mean_wall_power_w"])

    def slack_s(self) -> float:
        """After the last arrival, until the last token of a request that meets the target."""
        return self.target.ttft_s + self.target.tpot_s * float(self.load.output_token.max())

    # running ---------------------------------------------------------------------------------------------------------

    def run(self, one: Candidate) -> bool:
        """Simulate a candidate; whether it meets the target."""
        try:
            one.numbers = run_deployment(one.deployment, self.load)
        except InputError as error:
            one.status, one.why = REJECTED, str(error)
            return False
        self.num_run += 1
        self.progress(self.num_run, 0, 0)
        one.why = self.misses(one.numbers)
        one.status = REJECTED if one.why else MEETS
        if one.status == MEETS:
            self.best = min(self.best, self.value(one.numbers))
        return one.status == MEETS

    def misses(self, numbers: dict[str, Any]) -> str:
        """What a simulated candidate misses, in words; empty where it meets the target."""
        target = self.target
        if numbers["failed"]:
            return f"{numbers['failed']} requests not served: {numbers['why']}"
        said = []
        if numbers["load_state"] == OVERLOADED:
            said.append(
                f"cannot reach load: overloaded, its queue grows by {numbers['queue_drift']:.0%} of what arrives"
            )
        for name, limit in (("ttft", target.ttft_s), ("tpot", target.tpot_s)):
            found = numbers[f"p99_{name}_ms"]
            if found is not None and found / 1e3 > limit:
                said.append(f"{name.upper()}: P99 {found / 1e3:.4g} s, above {limit:g} s")
        return "; ".join(said)

    # one pool --------------------------------------------------------------------------------------------------------

    def engines(self, scenarios: Sequence[Scenario]) -> list[Engine]:
        """The kinds that fit and that no bound rules out; the others are rejected with why."""
        kept = []
        for one in scenarios:
            self.progress(self.num_run, 0, 0)
            why = ""
            try:
                engine = engine_of(one, self.demand)
            except InputError as error:
                why = _fits(error)
            else:
                if engine.ttft_s > self.target.ttft_s:
                    why = f"TTFT: a prompt of {self.demand.long_own} tokens takes {engine.ttft_s:.4g} s alone"
                elif engine.tpot_s > self.target.tpot_s:
                    why = f"TPOT: a token takes {engine.tpot_s:.4g} s alone"
            if why:
                self._note(one, range(1, self.most(_devices(one)) + 1), REJECTED, why)
            else:
                kept.append(engine)
        return sorted(kept, key=lambda u: self.floor(u, u.least(self.demand, u.busy_s, self.slack_s())))

    def most(self, num_device: int) -> int:
        """Engines of so many devices that there may be."""
        return self.target.max_device // num_device

    def mixed(self, engine: Engine) -> Candidate | None:
        """The smallest number of engines of a kind that meets the target; all its candidates are accounted for."""
        low = engine.least(self.demand, engine.busy_s, self.slack_s())
        most = self.most(engine.num_device)
        most_rate = f"{1 / engine.busy_s:.3g} requests/s each at most, they come {self.demand.words}"
        ceiling = f"cannot reach load: {low} of these engines at least, {most_rate}"
        for num in range(1, min(low, most + 1)):
            self._note(engine.scenario, [num], REJECTED, ceiling)
        if low > most:
            return None
        high = most
        while high >= low and self.floor(engine, high) > self.best * self.target.within:
            high -= 1
        dear = f"its bound is beyond {self.target.within:g} x the best"
        if high < low:
            self._note(engine.scenario, range(low, most + 1), DOMINATED, dear)
            return None
        ran: dict[int, Candidate] = {}

        def good(num: int) -> bool:
            ran[num] = Candidate(_one(self.base, engine.scenario, num), "mixed")
            return self.run(ran[num])

        answer = _smallest(low, high, good)
        self.found.extend(ran.values())
        for num in range(low, most + 1):
            if num in ran:
                continue
            if answer is not None and num > answer:
                self._note(engine.scenario, [num], DOMINATED, f"{answer} of these engines meet the target")
            elif num > high:
                self._note(engine.scenario, [num], DOMINATED, dear)
            else:
                worse = min(n for n in ran if n > num and ran[n].status == REJECTED)
                self._note(engine.scenario, [num], REJECTED, f"as with {worse} engines: {ran[worse].why}")
        if answer is None:
            return None
        self._least[id(engine)] = answer
        return ran[answer]

    def _note(self, scenario: Scenario, numbers: Sequence[int] | range, status: str, why: str) -> None:
        self.found.extend(Candidate(_one(self.base, scenario, num), "mixed", status, why) for num in numbers or [1])

    # two pools -------------------------------------------------------------------------------------------------------

    def split(self, first: Engine, last: Engine) -> None:
        """A pool of `first` that prefills and one of `last` that decodes: from the numbers that the bounds force, one
        engine more of whichever misses its part."""
        slack_s = self.slack_s()
        num = [first.least(self.demand, first.prefill_s, slack_s), last.least(self.demand, last.decode_s, slack_s)]
        for _ in range(SPLIT_TRIES):
            pools = (
                _pool(first.scenario, num[0], "prefill", self.base),
                _pool(last.scenario, num[1], "decode", self.base),
            )
            one = Candidate(Deployment(self.base, pools), "split")
            if one.num_device > self.target.max_device:
                one.status, one.why = REJECTED, f"needs {one.num_device} devices of {self.target.max_device}"
            elif self.floor(first, num[0]) + self.floor(last, num[1]) > self.best:
                one.status, one.why = DOMINATED, "its bound is beyond the best"
            self.found.append(one)
            if one.status or self.run(one):
                return
            if not one.numbers or (one.numbers["failed"] and one.numbers["why"] != WHY["queue"]):
                return  # more engines of this kind serve no more
            late = one.numbers["failed"] or (one.numbers["p99_ttft_ms"] or 0) / 1e3 > self.target.ttft_s
            slow = (one.numbers["p99_tpot_ms"] or 0) / 1e3 > self.target.tpot_s
            num = [num[0] + bool(late or not slow), num[1] + slow]

    def mix(self, one: Engine, other: Engine) -> None:
        """Pools of both that share the load by what their engines alone can take, the slower ones half or a quarter of
        that where it is too much: for each number of the first, as many of the second as cost less than the best, fewer
        while they meet the target."""
        least = self._least.get(id(one)), self._least.get(id(other))
        known = None not in least  # what an engine takes at this target; else what it takes at all
        weight = [1.0 / float(n or 1) for n in least] if known else [1.0 / one.busy_s, 1.0 / other.busy_s]
        slow = 0 if one.busy_s > other.busy_s else 1
        most = int(least[0]) - 1 if least[0] else self.most(one.num_device)
        for num in range(1, most + 1):
            high = (self.target.max_device - num * one.num_device) // other.num_device
            while high >= 1 and self.floor(one, num) + self.floor(other, high) >= self.best:
                high -= 1
            for count in range(high, 0, -1):
                if not self._shared((one, other), (num, count), weight, slow):
                    break

    def _shared(self, kinds: tuple[Engine, Engine], nums: tuple[int, int], weight: list[float], slow: int) -> bool:
        """Whether so many engines of two kinds meet the target at one of `SLOWER` shares of the slow one."""
        total = sum(num / kind.busy_s for num, kind in zip(nums, kinds, strict=True))
        if total * (self.demand.span_s + self.slack_s()) < 0.99 * self.demand.num:  # both at their bounds
            return False
        for part in SLOWER:
            share = [
                num * each * (part if k == slow else 1.0)
                for k, (num, each) in enumerate(zip(nums, weight, strict=True))
            ]
            pools = tuple(
                dataclasses.replace(
                    _pool(kind.scenario, num, "mixed", self.base), share=float(f"{each / sum(share):.4g}")
                )
                for kind, num, each in zip(kinds, nums, share, strict=True)
            )
            found = Candidate(Deployment(self.base, pools), "mix")
            self.found.append(found)
            if self.run(found):
                return True
        return False


def _smallest(low: int, high: int, good: Callable[[int], bool]) -> int | None:
    """The smallest number from `low` to `high` that is good, where all above a good one are: doubling steps from the
    low end, then bisection between the last bad and the first good."""
    bad, at, step = low - 1, low, 1
    while not good(at):
        if at == high:
            return None
        bad, at, step = at, min(high, at + step), step * 2
    while at - bad > 1:
        middle = (at + bad) // 2
        bad, at = (bad, middle) if good(middle) else (middle, at)
    return at


def _devices(scenario: Scenario) -> int:
    return scenario.tp * scenario.pp * scenario.attn_dp


def _one(base: Scenario, scenario: Scenario, num: int) -> Deployment:
    return Deployment(base, (_pool(scenario, num, "mixed", base),))


def _pool(scenario: Scenario, num: int, role: str, base: Scenario) -> PoolOf:
    own, usual = dataclasses.asdict(scenario), dataclasses.asdict(base)
    change = {name: value for name, value in own.items() if value != usual[name] or name in ("system", "tp")}
    return PoolOf(tuple((change | {"dp": num}).items()), role)


def _fits(error: InputError) -> str:
    return f"does not fit: {error}" if "does not fit" in str(error) else str(error)


def pairs(engines: Sequence[Engine]) -> list[tuple[Engine, Engine]]:
    """Every kind that prefills with every one that decodes."""
    return list(itertools.product(engines, engines))
