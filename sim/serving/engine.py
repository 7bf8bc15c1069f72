"""`serve`: requests, prices, a policy, a router and limits in; what came of every request and step out."""

import functools
import time
from collections.abc import Callable

import numpy as np

from kernels.errors import InputError
from kernels.serving import layout as at
from kernels.serving.price import StepPrice, pack
from sim.run import warm
from sim.serving import state, stepping
from sim.serving.limits import Limits, Options
from sim.serving.plugin import Plugin, compile_function
from sim.serving.result import Ints, ServeResult, collect

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
    s = state.build(requests, step_price, policy, limits, options)
    plain = next((plugin for plugin in (policy, router) if not plugin.compiled), None)
    if options.engine == "run-ahead" and plain is not None:
        raise InputError(f"this {plain.kind} is plain Python", field="engine", value="run-ahead", allowed=["stepping"])
    one_by_one = plain is not None or options.execute is not None or options.engine == "stepping"
    engine = "stepping" if one_by_one else "run-ahead"
    logs: list[Ints] = []
    complete = _drive(s, step_price, policy, router, engine, options, logs)
    return collect(s, step_price, engine, complete, policy.name, router.name, logs, options.record_steps)


def compile_loop(policy: Plugin, router: Plugin, child: warm.Child | None = None) -> None:
    """Compile the policy and router where they can be, and the loop (or load what was compiled before); `child`
    compiles a part of it at the same time."""
    for plugin in (policy, router):
        if plugin.compiled:
            compile_function(plugin)
    warm.compile_ends(child)
    if policy.compiled and router.compiled:
        _loop()


@functools.cache
def _loop() -> Callable[..., int]:
    from kernels.jit import njit_as
    from kernels.serving.fleet import RUN_SIGNATURE, run

    return njit_as(RUN_SIGNATURE)(run)


def _drive(
    s: at.Stack, price: StepPrice, policy: Plugin, router: Plugin, engine: str, options: Options, logs: list[Ints]
) -> bool:
    """Calls the loop again and again until all is done; False where it was interrupted."""
    from kernels.serving.ahead import ASTRAY, BROKEN, HORIZON, STUCK
    from kernels.serving.types import fleet_of

    run = _loop() if engine == "run-ahead" else functools.partial(stepping.run, execute=options.execute)
    plan = compile_function(policy) if policy.compiled else policy.function
    route = compile_function(router) if router.compiled else router.function
    budget = options.budget if engine == "run-ahead" else STEPPING_BUDGET
    fleet, packed = fleet_of(s, router.vector(), options.seed), pack(price)
    shown = time.monotonic()
    try:
        while True:
            code = run(s, fleet, packed, plan, route, budget)
            flush(s, logs)
            if code == HORIZON:
                return True
            if code == STUCK:
                raise InputError(_who_waits(s, policy.name))
            if code == BROKEN:
                raise InputError("plans more tokens than a step may have", field="policy", value=policy.name)
            if code == ASTRAY:
                raise InputError("names no replica", field="router", value=router.name)
            if options.progress is not None and time.monotonic() - shown > 0.5:
                shown = time.monotonic()
                options.progress(int(s.reg[:, at.NUM_FINISHED].sum()), int(s.reg[:, at.NUM_STEP].sum()))
    except KeyboardInterrupt:
        flush(s, logs)
        return False


def flush(s: at.Stack, logs: list[Ints]) -> None:
    """Moves the logged steps out of the arrays."""
    for k in range(len(s.reg)):
        start, num = int(s.reg[k, at.BOOK_LOG]), int(s.reg[k, at.LOG_NUM])
        if num:
            stop = start + num * at.NUM_LOG_COLUMN
            logs.append(s.book[k, start:stop].reshape(num, at.NUM_LOG_COLUMN).copy())
            s.reg[k, at.LOG_NUM] = 0


def _who_waits(s: at.Stack, policy: str) -> str:
    """Names what waits on the replica that cannot go on, and for what."""
    k = int(s.control[at.STUCK_REPLICA])
    here = s.seq[:, at.REPLICA] == k
    reg = s.reg[k]
    parts = []
    for status, verb in (
        (at.WAITING, "wait"), (at.SWAPPED, "are swapped out"), (at.RUNNING, "hold KV"), (at.DONE, "are done and held"),
    ):  # fmt: skip
        found = np.flatnonzero(here & (s.seq[:, at.STATUS] == status))
        if len(found):
            some = ", ".join(map(str, found[:5])) + (", ..." if len(found) > 5 else "")
            parts.append(f"{len(found)} requests {verb} ({some})")
    free = int(reg[at.FREE_BLOCK] + reg[at.EVICTABLE_BLOCK])
    return (
        f"deadlock on replica {k}: policy {policy} schedules nothing and nothing can change: {'; '.join(parts)};"
        f" {free} of {int(reg[at.NUM_BLOCK])} KV blocks are free"
    )
