"""The same schedule as a SimPy simulation: a process a rank, transfers that may share an engine or a link.

Where nothing is shared it ends every operation when the list-scheduling kernel does. Where transfers share
(`share="rank"`: one copy engine sends for a rank; `share="link"`: one transfer at a time from a rank to another) they
queue, first come first served, and the kernel's times are a lower bound.
"""

from collections.abc import Generator
from typing import Any

import numpy as np
import simpy

from kernels.errors import InputError
from kernels.schedule import Ints
from sim.pipeline.schedule import PerStage, deadlock, op_hop
from workloads.pipeline import OpArrays

SHARES = ("nothing", "rank", "link")


def replay_processes(
    arrays: OpArrays, table: Ints, hop: PerStage = 0, overlap_time: int | None = None, share: str = "nothing"
) -> Ints:
    """End of every operation (integer time). Raises `InputError` on deadlock, as the kernel's wrapper does."""
    if share not in SHARES:
        raise InputError("unknown way to share transfers", field="share", value=share, allowed=SHARES)
    env = simpy.Environment()
    num_op = arrays.kind.size
    arrived = [env.event() for _ in range(num_op)]  # the input of operation i is on its rank
    consumers: list[list[int]] = [[] for _ in range(num_op)]
    for op, source in enumerate(arrays.dep):
        if source >= 0:
            consumers[source].append(op)
        else:
            arrived[op].succeed()
    hops, end = op_hop(arrays, hop), np.full(num_op, -1, np.int64)
    engines: dict[tuple[int, int], simpy.Resource] = {}

    def send(source: int, op: int) -> Generator[simpy.Event, Any, None]:
        if hops[op] and share != "nothing":
            key = (int(arrays.rank[source]), int(arrays.rank[op]) if share == "link" else -1)
            engine = engines.setdefault(key, simpy.Resource(env))
            with engine.request() as turn:
                yield turn
                yield env.timeout(int(hops[op]))
        else:
            yield env.timeout(int(hops[op]))
        arrived[op].succeed()

    def run_rank(first: int, stop: int) -> Generator[simpy.Event, Any, None]:
        op = first
        while op < stop:
            last = op + 1 if arrays.overlap[op] else op
            yield env.all_of(arrived[op : last + 1])
            times = [int(table[arrays.kind[i], arrays.stage[i]]) for i in range(op, last + 1)]
            paired = last > op and overlap_time is not None
            yield env.timeout(overlap_time if paired else sum(times))
            for i in range(op, last + 1):
                end[i] = env.now
                for consumer in consumers[i]:
                    env.process(send(i, consumer))
            op = last + 1

    for first, stop in zip(arrays.rank_start, arrays.rank_start[1:], strict=False):
        env.process(run_rank(int(first), int(stop)))
    env.run()
    if (end < 0).any():
        raise InputError(deadlock(arrays, end))
    return end
