"""Items through stages of unlike resources (a disk, CPUs, a link, a GPU, a radio) with bounded queues between them.

A stage has servers, each with one item at a time or a batch, and a queue of so many places before it. A server that is
done puts its items into the next queue, and holds them where that is full until there is room: back-pressure, all the
way to the first stage, which takes items as they come, or as fast as it can. Stages may share a resource (decoding and
augmentation the same cores, prompts and answers a GPU): a server then needs a place of it while it works, and batches
what is there once it has it. Items may come back to a stage (an answer's tokens). Time is SimPy's, in integer
picoseconds.
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
Time = Callable[[Sequence[int]], float]  # of the indices of the items that a server takes at once


@dataclasses.dataclass(frozen=True)
class Stage:
    """What happens to items: `time_s` on one of `num_server`, a number or a function of the items that it has."""

    name: str
    time_s: float | Time
    num_server: int = 1
    num_place: int = 1  # of the queue before it; 0: only who can begin at once is taken
    resource: str = ""  # whose places its servers need to work; empty: they are its own
    num_batch: int = 1  # items that a server takes at once, as many as are there
    num_least: int = 1  # that it waits for
    num_visit: int = 1  # times that a server has an item before it goes on; between them it stands last in the queue


@dataclasses.dataclass(frozen=True, eq=False)
class Passed:
    """What came of every item: `[stage, item]` picoseconds at which it joined a stage's queue, first began to be worked
    on, was done for the last time, and left for the next stage; `[stage]` picoseconds in which servers worked."""

    stages: tuple[Stage, ...]
    join_ps: Ints
    begin_ps: Ints
    done_ps: Ints
    leave_ps: Ints
    busy_ps: Ints
    held_ps: Ints  # server time in which an item was done and could not leave

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
        busy, blocked = float(self.busy_ps[stage]) / whole, float(self.held_ps[stage]) / whole
        return {"busy": busy, "blocked": blocked, "idle": 1.0 - busy - blocked}

    @property
    def slowest(self) -> str:
        """The stage whose servers work the largest share of the time."""
        return max(enumerate(self.stages), key=lambda pair: self.share(pair[0])["busy"])[1].name


def run_stages(
    stages: Sequence[Stage], num_item: int, *, every_s: float | Sequence[float] = 0.0,
    resources: dict[str, int] | None = None,
) -> Passed:  # fmt: skip
    """Passes `num_item` items through the stages; the first is offered one every `every_s` seconds (0: as fast as it
    takes them), or each at its time. `resources`: places of what stages share. Raises `InputError` for what cannot be.

    >>> run_stages([Stage("disk", 2.0), Stage("cpu", 6.0, num_server=2)], 101).item_per_s(50)  # the CPUs: 2 in 6 s
    0.3333333333333333
    """
    places = resources or {}
    offered_s = _offered(every_s, num_item)
    _check(stages, num_item, offered_s, places)
    env = simpy.Environment(initial_time=0)
    shared = {name: simpy.Resource(env, num) for name, num in places.items()}
    queues = [simpy.Store(env) for _ in stages]
    gathers = [simpy.Resource(env) for _ in stages]  # one server of a stage at a time: else each might hold too few
    room = [
        simpy.Resource(env, stage.num_place + stage.num_server * stage.num_batch) for stage in stages
    ]  # in the queue or a server
    join, begin, done, leave = np.zeros((4, len(stages), num_item), np.int64)
    left = np.array([[stage.num_visit] * num_item for stage in stages])
    busy, blocked = np.zeros((2, len(stages)), np.int64)

    def enter(s: int, i: int) -> Generator[simpy.Event, Any, None]:
        """Item i waits for a place at stage s, in its queue or a server, and joins."""
        place = room[s].request()
        yield place
        join[s, i] = env.now
        queues[s].put((i, place))

    def source() -> Generator[simpy.Event, Any, None]:
        for i, due_s in enumerate(offered_s):
            due_ps = to_ps(due_s)
            if due_ps > env.now:
                yield env.timeout(due_ps - int(env.now))
            yield from enter(0, i)

    def server(s: int) -> Generator[simpy.Event, Any, None]:
        stage = stages[s]
        while True:
            taken = []
            turn = gathers[s].request() if stage.num_least > 1 else None
            if turn is not None:
                yield turn
            for _ in range(stage.num_least):
                one = yield queues[s].get()
                taken.append(one)
            if turn is not None:
                gathers[s].release(turn)
            held = shared[stage.resource].request() if stage.resource else None
            if held is not None:
                yield held
            while len(taken) < stage.num_batch and queues[s].items:
                taken.append((yield queues[s].get()))
            now, own = int(env.now), [i for i, _ in taken]
            fresh = [i for i in own if left[s, i] == stage.num_visit]
            begin[s, fresh] = now
            left[s, own] -= 1
            yield env.timeout(to_ps(stage.time_s(own) if callable(stage.time_s) else stage.time_s))
            busy[s] += env.now - now
            if held is not None:
                shared[stage.resource].release(held)
            for pair in taken:
                if left[s, pair[0]]:
                    queues[s].put(pair)
            over = [pair for pair in taken if not left[s, pair[0]]]
            now = done[s, [i for i, _ in over]] = int(env.now)
            for i, place in over:
                if s + 1 < len(stages):
                    yield from enter(s + 1, i)
                leave[s, i] = env.now
                room[s].release(place)
            blocked[s] += env.now - now

    env.process(source())
    for s, stage in enumerate(stages):
        for _ in range(stage.num_server):
            env.process(server(s))
    env.run()
    for stage, ends in zip(stages, left, strict=True):
        if ends.any():
            raise InputError(f"of stage {stage.name}: {np.count_nonzero(ends)} items never begin, too few are left",
                             field="num_least", value=stage.num_least, allowed="1; or num_batch")  # fmt: skip
    return Passed(tuple(stages), join, begin, done, leave, busy, blocked)


def _offered(every_s: float | Sequence[float], num_item: int) -> list[float]:
    if not isinstance(every_s, int | float):
        return list(every_s)
    if not 0 <= every_s < 1e6:
        raise InputError("not a time", field="every_s", value=every_s, allowed="0 to 1e6")
    return [i * every_s for i in range(num_item)]


def _check(stages: Sequence[Stage], num_item: int, offered_s: Sequence[float], places: dict[str, int]) -> None:
    if not stages or num_item < 1:
        raise InputError("nothing to pass", field="num_item", value=num_item, allowed="1 or more, through a stage")
    if len(offered_s) != num_item or not all(0 <= one < 1e12 for one in offered_s) or sorted(offered_s) != offered_s:
        raise InputError("not the times of all items, in order", field="every_s", value=len(offered_s),
                         allowed=f"{num_item} times of 0 to 1e12")  # fmt: skip
    for stage in stages:
        for name, low in (("num_server", 1), ("num_place", 0), ("num_batch", 1), ("num_least", 1), ("num_visit", 1)):
            if (value := getattr(stage, name)) < low:
                raise InputError(f"of stage {stage.name}", field=name, value=value, allowed=f"{low} or more")
        if stage.num_least > stage.num_batch or num_item % stage.num_least or stage.num_least > 1 < stage.num_visit:
            raise InputError(
                f"of stage {stage.name}: some items would never begin", field="num_least", value=stage.num_least,
                allowed=f"a divisor of {num_item}, at most num_batch; 1 where items come back",
            )  # fmt: skip
        if not callable(stage.time_s) and not 0 <= stage.time_s < 1e6:
            raise InputError(f"of stage {stage.name}", field="time_s", value=stage.time_s, allowed="0 to 1e6")
        if stage.resource and stage.resource not in places:
            raise InputError(f"of stage {stage.name}", field="resource", value=stage.resource, allowed=list(places))
    for name, num in places.items():
        if num < 1:
            raise InputError("a resource has a place", field=name, value=num, allowed="1 or more")
        if name not in {stage.resource for stage in stages}:
            raise InputError("has no effect: no stage needs it", field="resources", value=name)
