"""Benchmarks of training: schedule operations replayed, plans searched, one step of ten thousand devices on links."""

import time
from collections.abc import Callable
from typing import Any

Row = dict[str, Any]


def _timed(work: Callable[[], int], column: str) -> Row:
    """Processor and wall seconds of `work`, whose result is counted in `column`."""
    start, wall = time.process_time(), time.perf_counter()
    count = work()
    spent = {"cpu_s": time.process_time() - start, "wall_s": time.perf_counter() - wall}
    return {"requests": 0, "steps": 0, "operators": 0} | {column: count} | spent


def schedule_operations(repeat: int = 100) -> Row:
    """Operators: those of interleaved 1F1B (16 ranks, 4 chunks, 512 microbatches) through the fixed-order kernel."""
    import numpy as np

    from kernels.schedule import replay
    from sim.pipeline.schedule import duration_table, op_hop
    from workloads.pipeline import compile_order
    from workloads.schedules import load

    arrays = compile_order(load("interleaved-1f1b").build(16, 512, num_chunk=4))
    duration = duration_table(arrays.num_stage, 5, 6, 4)[arrays.kind, arrays.stage]
    hop, end = op_hop(arrays, 1), np.empty(duration.size, np.int64)
    replay(arrays.rank_start, arrays.dep, hop, duration, arrays.overlap, end)  # compiles

    def work() -> int:
        return sum(replay(arrays.rank_start, arrays.dep, hop, duration, arrays.overlap, end) for _ in range(repeat))

    return _timed(work, "operators")


def plan_search(num_device: int = 512, batch: int = 1536) -> Row:
    """Steps: plans of the space `execution` for GPT-3 175B, every one scored, memory first."""
    from sim.training.search import exhaustive
    from sim.training.space import Space, named_space

    exhaustive("gpt2", "dgx_a100", Space(8, 8), stack="megatron-2022", top=1)  # compiles
    space = named_space("execution", num_device, batch)
    return _timed(lambda: exhaustive("gpt3-175b", "dgx_a100", space, stack="megatron-2022")[2]["plan"], "steps")


def step_on_links(dp: int = 80) -> Row:
    """Operators: those of one step of GPT-3 175B on 16 x 8 x `dp` devices whose traffic flows on shared links."""
    from sim.training.step import train
    from workloads.training import TrainPlan

    def run(replicas: int) -> int:
        plan = TrainPlan(8, 16, replicas, batch=128 * replicas, interleave=2, recompute="full", zero=1)
        return len(train("gpt3-175b", "dgx_a100", plan, stack="megatron-2022", fidelity="replay").op)

    run(1)  # compiles
    return _timed(lambda: run(dp), "operators")
