"""A benchmark of operation: days of a load that breathes, on replicas that are scaled with it and sometimes fail."""

import math
import time
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
    from sim.run.scenario import from_mapping

    lengths = LOAD.partition("n={n},")[2]

    def run(text: str) -> Any:
        scenario = {**MODEL, "requests": f"staged:stages={text},{lengths}", "dp": 8, "router": "least_outstanding"}
        return simulate_operation(from_mapping(scenario), Operation(**RULES))

    run("2:20")
    start, wall = time.process_time(), time.perf_counter()
    done = run(stages(num_day))
    cpu_s, wall_s = time.process_time() - start, time.perf_counter() - wall
    return {"requests": len(done.requests), "steps": int(done.result.result.counter["num_step"].sum()),
            "operators": 0, "cpu_s": cpu_s, "wall_s": wall_s}  # fmt: skip
