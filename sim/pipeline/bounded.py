"""Items through stages of unlike resources (a disk, CPUs, a link, a GPU, a radio) with bounded queues between them.

A stage has servers, each with one item at a time, and a queue of so many places before it. A server that is done puts
its item into the next queue, and holds it where that is full until there is room: back-pressure, all the way to the
first stage, which takes items as they come, or as fast as it can. Stages may share a resource (decoding and
augmentation the same cores): a server then needs a place of it while it works. Time is SimPy's, in integer picoseconds.
"""

import dataclasses
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import simpy

from kernels.errors import InputError
from kernels.units import PS_PER_S, to_ps

Ints = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Stage:
    """What happens to an item: `time_s` on one of `num_server`, a number or a function of the item's index."""

    name: str
    time_s: float | Callable[[int], float]
    num_server: int = 1
    num_place: int = 1  # of the queue before it; 0: only who can begin at once is taken
    resource: str = ""  # whose places its servers need to work; empty: they are its own


@dataclasses.dataclass(frozen=True, eq=False)
class Passed:
    """What came of every item: `[stage, item]` picoseconds at which it joined a stage's queue, began to be worked on,
    was done, and left for the next stage."""

    stages: tuple[Stage, ...]
    join_ps: Ints
    begin_ps: Ints
    done_ps: Ints
    leave_ps: Ints

    def item_per_s(self, skip: int = 0) -> float:
        """Items a second that leave the last stage, after the first `skip` and one."""
        end_ps = np.sort(self.leave_ps[-1])
        if not 0 <= skip < len(end_ps) - 1:
            raise InputError("leaves fewer than two", field="skip", value=skip, allowed=f"0 to {len(end_ps) - 2}")
        return float((len(end_ps) - 1 - skip) * PS_PER_S / (end_ps[-1] - end_ps[skip]))

    def mean_s(self, stage: int, start: str, stop: str) -> float:
        """Mean seconds between two of join, begin, done and leave of a stage."""
        return float((getattr(self, f"{stop}_ps")[stage] - getattr(self, f"{start}_ps")[stage]).mean() / PS_PER_S)

    def mean_held(self, stage: int, start: str, stop: str) -> float:
        """Time average of the items between two of these until the last one has left, counted event by event."""
        change = np.concatenate([getattr(self, f"{start}_ps")[stage], getattr(self, f"{stop}_ps")[stage]])
        sign = np.repeat([1, -1], len(change) // 2)
        order = np.argsort(change, kind="stable")
        held = np.cumsum(sign[order])
        return float((held[:-1] * np.diff(change[order])).sum() / self.leave_ps[-1].max())

    def share(self, stage: int) -> dict[str, float]:
        """Of the servers' time until the last item has left: working, blocked by what is behind, idle."""
        whole = float(self.leave_ps[-1].max()) * self.stages[stage].num_server
        busy = float((self.done_ps[stage] - self.begin_ps[stage]).sum()) / whole
        blocked = float((self.leave_ps[stage] - self.done_ps[stage]).sum()) / whole
        return {"busy": busy, "blocked": blocked, "idle": 1.0 - busy - blocked}

    @property
    def slowest(self) -> str:
        """The stage whose servers work the largest share of the time."""
        return max(enumerate(self.stages), key=lambda pair: self.share(pair[0])["busy"])[1].name


def run_stages(
    stages: Sequence[Stage], num_item: int, *, every_s: float = 0.0, resources: dict[str, int] | None = None
) -> Passed:
    """Passes `num_item` items through the stages; the first is offered one every `every_s` seconds (0: as fast as it
    takes them). `resources`: places of what stages share. Raises `InputError` for what cannot be.

    >>> run_stages([Stage("disk", 2.0), Stage("cpu", 6.0, num_server=2)], 101).item_per_s(50)  # the CPUs: 2 in 6 s
    0.3333333333333333
    """
    places = resources or {}
    _check(stages, num_item, every_s, places)
    env = simpy.Environment(initial_time=0)
    shared = {name: simpy.Resource(env, num) for name, num in places.items()}
    queues = [simpy.Store(env) for _ in stages]
    room = [simpy.Resource(env, stage.num_place + stage.num_server) for stage in stages]  # in the queue or a server
    join, begin, done, leave = np.zeros((4, len(stages), num_item), np.int64)

    def enter(s: int, i: int) -> Generator[simpy.Event, Any, None]:
        """Item i waits for a place at stage s, and joins."""
        place = room[s].request()
        yield place
        join[s, i] = env.now
        queues[s].put((i, place))

    def source() -> Generator[simpy.Event, Any, None]:
        for i in range(num_item):
            due_ps = to_ps(i * every_s)
            if due_ps > env.now:
                yield env.timeout(due_ps - int(env.now))
            yield from enter(0, i)

    def server(s: int) -> Generator[simpy.Event, Any, None]:
        stage = stages[s]
        while True:
            i, place = yield queues[s].get()
            held = shared[stage.resource].request() if stage.resource else None
            if held is not None:
                yield held
            begin[s, i] = env.now
            yield env.timeout(to_ps(stage.time_s(i) if callable(stage.time_s) else stage.time_s))
            done[s, i] = env.now
            if held is not None:
                shared[stage.resource].release(held)
            if s + 1 < len(stages):
                yield from enter(s + 1, i)
            leave[s, i] = env.now
            room[s].release(place)

    env.process(source())
    for s, stage in enumerate(stages):
        for _ in range(stage.num_server):
            env.process(server(s))
    env.run()
    return Passed(tuple(stages), join, begin, done, leave)


def _check(stages: Sequence[Stage], num_item: int, every_s: float, places: dict[str, int]) -> None:
    if not stages or num_item < 1:
        raise InputError("nothing to pass", field="num_item", value=num_item, allowed="1 or more, through a stage")
    if not 0 <= every_s < 1e6:
        raise InputError("not a time", field="every_s", value=every_s, allowed="0 to 1e6")
    for stage in stages:
        for name, value, low in (("num_server", stage.num_server, 1), ("num_place", stage.num_place, 0)):
            if value < low:
                raise InputError(f"of stage {stage.name}", field=name, value=value, allowed=f"{low} or more")
        if not callable(stage.time_s) and not 0 <= stage.time_s < 1e6:
            raise InputError(f"of stage {stage.name}", field="time_s", value=stage.time_s, allowed="0 to 1e6")
        if stage.resource and stage.resource not in places:
            raise InputError(f"of stage {stage.name}", field="resource", value=stage.resource, allowed=list(places))
    for name, num in places.items():
        if num < 1:
            raise InputError("a resource has a place", field=name, value=num, allowed="1 or more")
        if name not in {stage.resource for stage in stages}:
            raise InputError("has no effect: no stage needs it", field="resources", value=name)
