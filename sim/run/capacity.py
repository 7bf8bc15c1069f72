"""The largest request rate at which a scenario still meets its service level objective, by search.

The load is generated again at each rate with the same seed. A rate is good when the stated share of all requests
meets every part of the objective. The search doubles from the start until a rate is bad (or halves until one is
good), then bisects on a logarithmic scale; that the share falls with the rate is what it relies on.
"""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kernels.errors import InputError, NothingServedError
from sim.record.metrics import meets
from sim.record.slo import parse_slo
from sim.run.scenario import Scenario, check_scenarios
from sim.run.simulate import simulate
from workloads.load import load_requests, parse_load
from workloads.requests import Requests, scale_rate

if TYPE_CHECKING:
    import pandas as pd

LOWEST, HIGHEST = 1e-4, 1e5  # requests a second


def capacity(
    scenario: Scenario,
    *,
    share: float = 0.9,
    tolerance: float = 0.02,
    progress: Callable[[float, float], None] = lambda rate, good: None,
) -> "tuple[float, pd.DataFrame]":
    """The largest rate (requests a second, to `tolerance`) with at least `share` of requests within the scenario's
    `goodput` objective; and a frame of every rate tried: `rate, share, goodput, p99_ttft_ms, p99_tpot_ms,
    request_throughput, load_state`.

    Ctrl-C ends the search: the rates tried until then are returned, with `attrs["complete"]` False;
    `attrs["about"]` says whose calibration the runs had, and what of the scenario had no effect.

    A generator's `rate` is varied; a trace is replayed faster or slower. 0 where not even the lowest rate is good.
    Raises `InputError` without an objective, and `NothingServedError` where every request is refused.
    """
    check_scenarios(scenario)
    slo = parse_slo(scenario.goodput)
    if not slo:
        raise InputError(
            "an objective is needed", field="goodput", value=scenario.goodput, allowed="ttft:X tpot:Y e2el:Z"
        )
    if not 0 < share <= 1:
        raise InputError("not a share", field="share", value=share, allowed="above 0, at most 1")
    if not 1e-4 <= tolerance <= 1:
        raise InputError("out of range", field="tolerance", value=tolerance, allowed="0.0001 to 1")
    tried: dict[float, dict[str, Any]] = {}
    about: dict[str, Any] = {}

    def good(rate: float) -> bool:
        done = simulate(scenario, requests=at_rate(scenario, rate))
        if not done.result.complete:
            raise KeyboardInterrupt
        request = done.run.request
        if request.equal("status", "refused").all():
            why = ", ".join(sorted(set(request.words("reason"))))
            raise NothingServedError(f"no request of this load can be served at any rate: {why}")
        met = float(meets(request.rows(request.equal("status", "finished")), slo).sum()) / len(request)
        names = ("request_goodput", "request_throughput", "p99_ttft_ms", "p99_tpot_ms", "load_state")
        about.update({name: done.run.about[name] for name in ("calibration", "note") if name in done.run.about})
        tried[rate] = {"rate": rate, "share": met, **{name: done.metrics[name] for name in names}}
        progress(rate, met)
        return met >= share

    low, high = 0.0, 0.0
    rate = base_rate(scenario)
    complete = True
    try:
        while not high or not low:
            if good(rate):
                low, rate = rate, rate * 2
            else:
                high, rate = rate, rate / 2
            if not LOWEST <= rate <= HIGHEST:
                break
        while low and high and high / low > 1 + tolerance:
            rate = (low * high) ** 0.5
            low, high = (rate, high) if good(rate) else (low, rate)
    except KeyboardInterrupt:
        if not tried:
            raise
        complete = False
    import pandas as pd

    frame = pd.DataFrame([tried[rate] for rate in sorted(tried)])
    frame.attrs |= {"complete": complete, "about": about}
    return low, frame


def base_rate(scenario: Scenario) -> float:
    """The rate that the scenario's load has: a generator's `rate`, else requests over the span of their arrivals."""
    load = parse_load(scenario.requests)
    if load.source == "closed_loop":
        raise InputError("users who wait for their answers have no rate to vary", field="requests",
                         value=scenario.requests, allowed="a load with a rate, or a trace")  # fmt: skip
    given = dict(load.values).get("rate")
    if isinstance(given, int | float):
        return float(given)
    arrival = load_requests(scenario.requests, scenario.seed).arrival_ps
    span_s = (int(arrival[-1]) - int(arrival[0])) * 1e-12
    if span_s <= 0:
        raise InputError(
            "all requests arrive at once: there is no rate to vary", field="requests", value=scenario.requests
        )
    return len(arrival) / span_s


def at_rate(scenario: Scenario, rate: float) -> Requests:
    """The scenario's load at another rate."""
    load = parse_load(scenario.requests)
    values = dict(load.values)
    if isinstance(values.get("rate"), int | float):
        return load_requests(dataclasses.replace(load, values=tuple({**values, "rate": rate}.items())), scenario.seed)
    return scale_rate(load_requests(load, scenario.seed), rate / base_rate(scenario))
