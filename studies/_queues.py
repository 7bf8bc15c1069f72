"""A chain of stages with workers of their own and queues of so many items between them, on SimPy's clock."""

from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

import simpy


class Stage(NamedTuple):
    """What an item takes of one worker, and how many there are."""

    name: str
    second: float
    worker: int = 1


class Flow(NamedTuple):
    """When the last item left, and the share of that time for which a stage's workers were busy, by name."""

    second: float
    busy: dict[str, float]


def flow(stages: Sequence[Stage], num: int, room: int = 2) -> Flow:
    """`num` items through all stages; a worker keeps its item until the next queue has room for it.

    >>> flow([Stage("a", 1.0), Stage("b", 3.0)], 4).second
    13.0
    """
    env = simpy.Environment()
    queues = [simpy.Store(env, num), *(simpy.Store(env, room) for _ in stages[1:]), simpy.Store(env, num)]
    busy = dict.fromkeys((one.name for one in stages), 0.0)

    def work(at: int, stage: Stage) -> Generator[Any, Any, None]:
        while True:
            item = yield queues[at].get()
            yield env.timeout(stage.second)
            busy[stage.name] += stage.second
            yield queues[at + 1].put(item)

    queues[0].items.extend(range(num))
    for at, stage in enumerate(stages):
        for _ in range(stage.worker):
            env.process(work(at, stage))

    def last() -> Generator[Any, Any, None]:
        for _ in range(num):
            yield queues[-1].get()

    env.run(env.process(last()))
    end = float(env.now)
    return Flow(end, {one.name: busy[one.name] / (end * one.worker) for one in stages})
