"""`serve`: requests, prices, a policy, a router and limits in; what came of every request and step out."""

import functools
import time
from collections.abc import Callable

import numpy as np

from kernels import blame
from kernels.engine import records as at
from kernels.engine.price import PackedPrice, StepPrice, pack
from kernels.errors import InputError
from kernels.units import FOREVER_PS
from sim.run import warm
from sim.serving import place, state, stepping
from sim.serving.limits import Limits, Options
from sim.serving.plugin import Plugin, compile_function
from sim.serving.result import Ints, ServeResult, collect

BROKEN_PLAN = (
    "plans more tokens than a step may have, or than its progress model may verify or commit, or idle sequences alone"
)
STEPPING_BUDGET = 20_000  # about half a second of plain Python


def serve(
    requests: state.Requests,
    step_price: StepPrice,
    policy: Plugin,
    router: Plugin,
    limits: Limits,
    options: Options | None = None,
) -> ServeResult:
    """Serves `requests` (in order of arrival) on a fleet and returns the accounts.

    Ctrl-C ends the run early: what was done until then is returned, marked as not complete. Raises `InputError`
    where the parts do not fit each other, where a policy breaks a limit, and where sequences wait for something
    that can no longer happen (it names them).
    """
    options = options or Options()
    w = state.build(requests, step_price, policy, limits, options)
    plain = next((plugin for plugin in (policy, router) if not plugin.compiled), None)
    if options.engine == "run-ahead" and plain is not None:
        raise InputError(f"this {plain.kind} is plain Python", field="engine", value="run-ahead", allowed=["stepping"])
    outside = plain is not None or options.execute is not None
    engine = "stepping" if outside or options.engine == "stepping" else "run-ahead"
    logs: list[Ints] = []
    packed = pack(step_price)
    call = _caller(packed, policy, router, options, outside, engine == "run-ahead")
    try:
        complete = _drive(w, policy, router, options, STEPPING_BUDGET if outside else options.budget, call, logs)
    except InputError:
        raise
    except Exception as error:
        if outside or not (place.is_users(policy) or place.is_users(router)) or blame.blame(error) is not None:
            raise
        again = state.build(requests, step_price, policy, limits, options)
        raise place.of_error(error, w, again, packed, policy, router, options.seed, call) from error
    return collect(w, step_price, engine, complete, policy.name, router.name, logs, options.record_steps)


def compile_loop(policy: Plugin, router: Plugin, child: warm.Child | None = None) -> None:
    """Compile the policy and router where they can be, and the loop (or load what was compiled before); `child`
    compiles a part of it at the same time."""
    for plugin in (policy, router):
        if plugin.compiled:
            compile_function(plugin)
    warm.compile_ends(child)
    if policy.compiled and router.compiled:
        compiled_loop()


@functools.cache
def compiled_loop() -> Callable[..., int]:
    """The run-ahead loop, compiled for whatever policy and router (see `kernels.engine.party.run`)."""
    from kernels.engine.party import RUN_SIGNATURE, run
    from kernels.jit import njit_as

    return njit_as(RUN_SIGNATURE)(run)


def _caller(
    price: PackedPrice, policy: Plugin, router: Plugin, options: Options, outside: bool, folds: bool
) -> Callable[[at.World, at.Fleet, int], int]:
    """What runs a world for a budget of steps and arrivals."""
    from kernels.engine.handle import address_of
    from kernels.engine.types import PLAN_SIGNATURE, ROUTE_SIGNATURE

    plan = compile_function(policy) if policy.compiled else policy.function
    route = compile_function(router) if router.compiled else router.function
    places = () if outside else (address_of(plan, PLAN_SIGNATURE), address_of(route, ROUTE_SIGNATURE))
    asked = address_of(plan, PLAN_SIGNATURE) if outside and policy.compiled else plan

    def call(w: at.World, fleet: at.Fleet, budget: int) -> int:
        if outside:
            return stepping.run(w, fleet, price, asked, route, budget, options.execute)
        return compiled_loop()(w, fleet, price, *places, budget, folds, FOREVER_PS)

    return call


def _drive(
    w: at.World, policy: Plugin, router: Plugin, options: Options, budget: int,
    call: Callable[[at.World, at.Fleet, int], int], logs: list[Ints],
) -> bool:  # fmt: skip
    """Calls the loop again and again until all is done; False where it was interrupted."""
    from kernels.engine.advance import ASTRAY, BROKEN, HORIZON, STUCK
    from kernels.engine.types import fleet_of

    fleet = fleet_of(w, router.vector(), options.seed)
    shown = time.monotonic()
    try:
        while True:
            code = call(w, fleet, budget)
            flush(w, logs)
            if code == HORIZON:
                return True
            if code == STUCK:
                raise InputError(who_waits(w, policy.name))
            if code == BROKEN:
                raise place.of_function(BROKEN_PLAN, policy)
            if code == ASTRAY:
                raise place.of_function(f"names no replica; allowed: 0 to {len(w.engine) - 1}", router)
            if options.progress is not None and time.monotonic() - shown > 0.5:
                shown = time.monotonic()
                options.progress(int(w.engine["num_finished"].sum()), int(w.engine["num_step"].sum()))
    except KeyboardInterrupt:
        flush(w, logs)
        return False


def flush(w: at.World, logs: list[Ints]) -> None:
    """Moves the logged steps out of the arrays."""
    num = int(w.book[0])
    if num:
        start = int(w.engine["book_log"][0])
        logs.append(w.book[start : start + num * at.NUM_LOG_COLUMN].reshape(num, at.NUM_LOG_COLUMN).copy())
        w.book[0] = 0


def who_waits(w: at.World, policy: str) -> str:
    """Names what waits on the replica that cannot go on, and for what."""
    k = int(w.control[at.STUCK_ENGINE])
    here = w.seq["replica"] == k
    me = w.engine[k]
    if (w.lane[k]["free_ps"] >= FOREVER_PS).any():
        return f"a step of replica {k} takes longer than the clock reaches (52 days), or 2.5 hours in attention"
    parts = []
    for status, verb in (
        (at.WAITING, "wait"), (at.SWAPPED, "are swapped out"), (at.RUNNING, "hold KV"), (at.DONE, "are done and held"),
    ):  # fmt: skip
        found = np.flatnonzero(here & (w.seq["status"] == status))
        if len(found):
            some = ", ".join(map(str, found[:5])) + (", ..." if len(found) > 5 else "")
            parts.append(f"{len(found)} requests {verb} ({some})")
    free = int(me["free_block"] + me["evictable_block"])
    return (
        f"deadlock on replica {k}: policy {policy} schedules nothing and nothing can change: {'; '.join(parts)};"
        f" {free} of {int(me['num_block'])} KV blocks are free"
    )
