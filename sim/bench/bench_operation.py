"""A benchmark of operation: days of a load that breathes, on replicas that are scaled with it and sometimes fail."""

import math
import time
from collections.abc import Callable
from typing import Any

from sim.bench.load import LOAD, MODEL, Row

HOURS_A_DAY = 24
LOW, HIGH = 0.5, 4.5  # requests a second at night and at noon; a replica is good for two
RULES: dict[str, Any] = {"scaler": "outstanding:target=16", "load_GBps": 2.0, "warm_s": 20.0, "mtbf_h": 100.0,
                         "repair_s": 300.0}  # fmt: skip


def stages(num_day: int) -> str:
    """Requests a second of each hour: a sine of a day."""
    middle, swing = (LOW + HIGH) / 2, (HIGH - LOW) / 2
    rates = [middle - swing * math.cos(2 * math.pi * hour / HOURS_A_DAY) for hour in range(HOURS_A_DAY)]
    return "+".join(f"{rate:.4g}:3600" for _ in range(num_day) for rate in rates)


def operated(num_day: int) -> Row:
    """The lengths and the machine of `serve_1k`, 216,000 requests a day on one to eight replicas."""
    from sim.cluster.operation import Operation
    from sim.cluster.simulate_operation import simulate_operation

    def run(scenario: Any) -> tuple[int, int]:
        done = simulate_operation(scenario, Operation(**RULES))
        return len(done.requests), int(done.result.result.counter["num_step"].sum())

    return _timed(run, num_day, {"dp": 8})


def operated_pools(num_day: int) -> Row:
    """The same on one to four replicas that prefill and one to eight that decode."""
    from sim.cluster.operation import Operation, PoolsOperation
    from sim.cluster.simulate_pools_operation import simulate_pools_operation

    rules = PoolsOperation(Operation(**RULES), Operation(**RULES))

    def run(scenario: Any) -> tuple[int, int]:
        done = simulate_pools_operation(scenario, {"dp": 4}, {"dp": 8}, rules)
        return len(done.requests), int(done.pools["steps"].sum())

    return _timed(run, num_day, {})


def _timed(run: Callable[[Any], tuple[int, int]], num_day: int, fields: dict[str, Any]) -> Row:
    """What `run` says of so many days (requests, steps), and how long it takes; the first call compiles."""
    from sim.run.scenario import from_mapping

    lengths = LOAD.partition("n={n},")[2]

    def scenario(text: str) -> Any:
        return from_mapping({
            **MODEL, "requests": f"staged:stages={text},{lengths}", "router": "least_outstanding", **fields
        })  # fmt: skip

    run(scenario("2:20"))
    start, wall = time.process_time(), time.perf_counter()
    num_request, num_step = run(scenario(stages(num_day)))
    cpu_s, wall_s = time.process_time() - start, time.perf_counter() - wall
    return {"requests": num_request, "steps": num_step, "operators": 0, "cpu_s": cpu_s, "wall_s": wall_s}
