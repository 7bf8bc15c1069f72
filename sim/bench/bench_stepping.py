"""Benchmarks of steps that return to Python one by one: for a policy in plain Python, or a step that is carried out."""

import pathlib
import time
from typing import Any

from sim.bench.load import LOAD, MODEL, Row


def _leave(engine: Any, lane: int) -> int:
    """A step that is carried out and takes what it was priced at."""
    return -1


def stepping(num_request: int = 3_000) -> Row:
    """The load of `serve_1k` without running ahead: compiled functions are called a step at a time."""
    return _steps({"requests": LOAD.format(rate=2, n="{n}")}, num_request, _leave)


def plain_policy(num_request: int = 300) -> Row:
    """A policy in plain Python, asked for every step: one sequence after another, its prompt in one chunk."""
    policy = str(pathlib.Path(__file__).parent / "one_by_one.py")
    return _steps({"requests": LOAD.format(rate=0.2, n="{n}"), "policy": policy}, num_request, None)


def _steps(field: dict[str, str], num_request: int, execute: Any) -> Row:
    from sim.run.scenario import from_mapping
    from sim.run.simulate import simulate

    def scenario(num: int) -> Any:
        return from_mapping({**MODEL, **field, "requests": field["requests"].format(n=num)})

    simulate(scenario(5), execute=execute)  # compiles, or loads what was compiled
    start, wall = time.process_time(), time.perf_counter()
    done = simulate(scenario(num_request), execute=execute)
    cpu_s, wall_s = time.process_time() - start, time.perf_counter() - wall
    return {"requests": num_request, "steps": int(done.result.counter["num_step"].sum()), "operators": 0,
            "cpu_s": cpu_s, "wall_s": wall_s}  # fmt: skip
