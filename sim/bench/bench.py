"""Benchmarks of the simulator itself: work done, processor seconds of one core, and peak memory.

Each case runs in a process of its own, so that its peak memory is its own; what it compiles is compiled before
the clock starts. `cold_start` and `warm_start` time a whole `ridgeline simulate` from outside: cold begins with an
empty folder of compiled kernels.
"""

import functools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from hw_models.process import child_environment, end_with_parent
from kernels.errors import InputError
from sim.bench.bench_operation import operated, operated_pools
from sim.bench.bench_stepping import plain_policy, stepping
from sim.bench.bench_training import plan_search, schedule_operations, step_on_links
from sim.bench.load import LOAD, MODEL, Row


def _serve(num_request: int, replicas: int = 1, router: str = "round_robin") -> Row:
    """About 1,064 prompt and 247 output tokens at 2 requests a second a replica; Llama-2-7B on an A100, chunks of 512
    tokens, 128 sequences."""
    from sim.run.scenario import Scenario, from_mapping
    from sim.run.simulate import simulate

    def scenario(n: int) -> Scenario:
        return from_mapping(
            {**MODEL, "requests": LOAD.format(rate=2 * replicas, n=n), "dp": replicas, "router": router}
        )

    simulate(scenario(50))  # compiles, or loads what was compiled
    start, wall = time.process_time(), time.perf_counter()
    done = simulate(scenario(num_request))
    cpu_s, wall_s = time.process_time() - start, time.perf_counter() - wall
    count = done.result.counter
    return {"requests": num_request, "steps": int(count["num_step"].sum()), "operators": done.accounts.num_operator,
            "cpu_s": cpu_s, "wall_s": wall_s}  # fmt: skip


def _speculative(num_request: int = 20_000) -> Row:
    """The load of `serve_1k` under a chain of four drafted tokens, 70 % of which hold: no two steps are the same, so
    that none are folded."""
    from sim.run.scenario import from_mapping
    from sim.run.simulate import simulate

    def scenario(num: int) -> Any:
        load = {"requests": LOAD.format(rate=2, n=num), "speculate": "chain:k=4,accept=0.7"}
        return from_mapping({**MODEL, **load})

    simulate(scenario(50))
    start, wall = time.process_time(), time.perf_counter()
    done = simulate(scenario(num_request))
    cpu_s, wall_s = time.process_time() - start, time.perf_counter() - wall
    return {"requests": num_request, "steps": int(done.result.counter["num_step"].sum()), "operators": 0,
            "cpu_s": cpu_s, "wall_s": wall_s}  # fmt: skip


def _sessions(replicas: int, num_request: int = 20_000) -> Row:
    """Sessions of five turns, each prompt holding the history, behind a least-token router; two sessions in ten seconds
    a replica, five seconds of thought. Llama-3-8B on an H100 each."""
    from sim.run.scenario import from_mapping
    from sim.run.simulate import simulate

    def scenario(num: int) -> Any:
        load = f"poisson:rate={0.2 * replicas:g},n={num},turns=5,think_s=5,prompt=200,output=100"
        return from_mapping({"model": "llama-3-8b", "system": "h100_sxm", "dp": replicas, "requests": load,
                             "router": "least_token" if replicas > 1 else "round_robin"})  # fmt: skip

    simulate(scenario(20))
    start, wall = time.process_time(), time.perf_counter()
    done = simulate(scenario(num_request))
    cpu_s, wall_s = time.process_time() - start, time.perf_counter() - wall
    steps = int(done.result.counter["num_step"].sum())
    return {"requests": num_request, "steps": steps, "operators": 0, "cpu_s": cpu_s, "wall_s": wall_s}


def _pools(num_request: int) -> Row:
    """Llama-3-8B on 1,000 H100, 600 that prefill and 400 that decode, prompts of 1,155 and outputs of 211 tokens, least
    tokens first, KV handed over on the ports. The prefill pool does 24,500 prompts a second at most (as many as it did
    with more asked for); 60 % of that are asked for."""
    from sim.cluster.simulate import simulate_pools
    from sim.run.scenario import from_mapping

    def run(num: int, share: int) -> Any:
        load = f"poisson:rate={14_700 // share},n={num},prompt=lognormal:mean=1155:max=7000,output=lognormal:mean=211"
        scenario = from_mapping({"model": "llama-3-8b", "system": "dgx_h100", "requests": f"{load}:max=1000",
                                 "router": "least_token"})  # fmt: skip
        return simulate_pools(scenario, {"dp": 600 // share}, {"dp": 400 // share})

    run(200, 100)
    start, wall = time.process_time(), time.perf_counter()
    done = run(num_request, 1)
    cpu_s, wall_s = time.process_time() - start, time.perf_counter() - wall
    return {"requests": num_request, "steps": int(done.pools["steps"].sum()), "operators": 0,
            "cpu_s": cpu_s, "wall_s": wall_s}  # fmt: skip


def _price() -> Row:
    """Operator rows of decode and prefill steps of Llama-2-7B for 4,000 token counts, priced again and again."""
    import numpy as np

    from hw_models.device import cost
    from kernels import optable
    from sim.run.scenario import from_mapping
    from sim.run.setup import prepare
    from workloads.lowering import lower_dense

    setup = prepare(from_mapping(MODEL))
    ops = lower_dense(setup.model, setup.formats, setup.placement, 0, np.arange(1, 4001)).reshape(-1)
    work = optable.empty(0)[1]
    cost(ops[:10], work, setup.machine)
    start, wall, repeat = time.process_time(), time.perf_counter(), 50
    for _ in range(repeat):
        cost(ops, work, setup.machine)
    return {"requests": 0, "steps": 0, "operators": repeat * len(ops), "cpu_s": time.process_time() - start,
            "wall_s": time.perf_counter() - wall}  # fmt: skip


CASES: dict[str, Callable[[], Row]] = {
    "serve_1k": lambda: _serve(1_000),
    "serve_100k": lambda: _serve(100_000),
    "serve_1m": lambda: _serve(1_000_000),
    "serve_router4_100k": lambda: _serve(100_000, 4, "least_token"),
    "serve_speculative": _speculative,
    "serve_stepping": stepping,
    "serve_plain_policy": plain_policy,
    **{f"serve_sessions_{count}": functools.partial(_sessions, count) for count in (1, 10, 100, 1000)},
    "serve_pools_20k": lambda: _pools(20_000),
    "serve_pools_100k": lambda: _pools(100_000),
    "operate_day": lambda: operated(1),
    "operate_pools_day": lambda: operated_pools(1),
    "price_operators": _price,
    "schedule_operations": schedule_operations,
    "plan_search": plan_search,
    "step_on_links": step_on_links,
}
BY_NAME: dict[str, Callable[[], Row]] = {  # too long to be run with the rest
    "operate_week": lambda: operated(7),
    "operate_pools_week": lambda: operated_pools(7),
    "serve_pools_1m": lambda: _pools(1_000_000),
    "serve_pools_10m": lambda: _pools(10_000_000),
}
STARTS = ("cold_start", "warm_start")  # in this order: the second finds what the first compiled


def bench(names: Sequence[str] = (), progress: Callable[[str], None] = lambda name: None) -> pd.DataFrame:
    """Columns `name, requests, steps, operators, cpu_s, wall_s, peak_rss_byte`, a row a case (by default all but those
    of `BY_NAME`)."""
    usual, known = (*CASES, *STARTS), (*CASES, *BY_NAME, *STARTS)
    for name in names:
        if name not in known:
            raise InputError("no such benchmark", field="name", value=name, allowed=known)
    chosen = [name for name in known if name in (names or usual)]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            progress(name)
            rows.append(_start(name, folder, "cold_start" in chosen) if name in STARTS else _child(name))
    return pd.DataFrame(rows)


def _child(name: str) -> Row:
    done = subprocess.run(
        [sys.executable, "-m", "sim.bench.bench", name],
        capture_output=True, text=True, check=False, env=child_environment(),
    )  # fmt: skip
    if done.returncode:
        raise InputError(f"benchmark {name} failed: {done.stderr.strip().splitlines()[-1]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _start(name: str, folder: str, after_cold: bool) -> Row:
    """A whole `ridgeline simulate` of 1,000 requests, import to exit."""
    words = ["simulate", "--quiet", "--requests", LOAD.format(rate=2, n=1000)]
    words += [word for field, value in MODEL.items() for word in (f"--{field}", value)]
    command = [sys.executable, "-m", "sim.cli", *words]
    environment = {**child_environment(), "RIDGELINE_CACHE_DIR": folder}
    if name == "warm_start" and not after_cold:
        subprocess.run(command, env=environment, check=True)
    wall = time.perf_counter()
    child = subprocess.Popen(command, env=environment, preexec_fn=end_with_parent)  # noqa: PLW1509
    _, code, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(code)  # reaped here, for its own peak memory
    wall_s = time.perf_counter() - wall
    if code:
        raise InputError(f"benchmark {name} failed with status {code}")
    return {"name": name, "requests": 1000, "steps": 0, "operators": 0, "cpu_s": used.ru_utime + used.ru_stime,
            "wall_s": wall_s, "peak_rss_byte": used.ru_maxrss * 1024}  # fmt: skip


def exponent(frame: pd.DataFrame) -> float | None:
    """Growth of processor time with requests between the two largest serving cases: 1 is linear; None without both."""
    import math

    small, large = (frame[frame["name"] == name] for name in ("serve_100k", "serve_1m"))
    if not len(small) or not len(large):
        return None
    ratio = float(large["cpu_s"].iloc[0]) / float(small["cpu_s"].iloc[0])
    return math.log(ratio) / math.log(float(large["requests"].iloc[0]) / float(small["requests"].iloc[0]))


if __name__ == "__main__":
    end_with_parent()
    found = (CASES | BY_NAME)[sys.argv[1]]()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"name": sys.argv[1], **found, "peak_rss_byte": peak}))
