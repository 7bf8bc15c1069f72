"""Two engines that share memory channels, on SimPy's clock, under the rule of a device with units in its memory.

On each channel the main engine and the units go through lists of work (cycles that each takes alone) from one start.
Under `blocked` only one of them uses a channel at a time, a piece of work each in turn; under `dual_row_buffer` both
do, each at its share of its speed while the other works; under `bank_bundle` neither slows the other.
`fast_cycle` gives the same ends in closed form; a test holds the two together over random lists.
"""

from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

import simpy

from hw_models.pim import Pim
from kernels.overlap import pair_cycle

Work = Sequence[Sequence[float]]  # of each channel, its pieces in order


class Ends(NamedTuple):
    """Cycle in which each channel ends, and how long each engine held it alone or with the other."""

    end: list[float]
    main_busy: list[float]
    pim_busy: list[float]


class Channel:
    """A channel whose engines run at speeds that depend on who else is at work."""

    def __init__(self, env: simpy.Environment, share: tuple[float, float]) -> None:
        self.env, self.share = env, share
        self.active = [False, False]
        self.busy = [0.0, 0.0]
        self.end = 0.0
        self.changed = env.event()

    def speed(self, engine: int) -> float:
        return self.share[engine] if all(self.active) else 1.0

    def turn(self, engine: int, active: bool) -> None:
        """An engine begins or ends: whoever works sees its new speed."""
        self.active[engine] = active
        self.changed.succeed()
        self.changed = self.env.event()

    def work(self, engine: int, pieces: Sequence[float]) -> Generator[Any, Any, None]:
        """An engine goes through its pieces."""
        if not pieces:
            return
        self.turn(engine, True)
        for piece in pieces:
            left = float(piece)
            while left > 0.0:
                begin, speed = float(self.env.now), self.speed(engine)
                done = self.env.timeout(left / speed)
                yield done | self.changed
                self.busy[engine] += float(self.env.now) - begin
                left = 0.0 if done.processed else left - (float(self.env.now) - begin) * speed
        self.turn(engine, False)
        self.end = max(self.end, float(self.env.now))


def _exclusive(
    env: simpy.Environment, channel: Channel, gate: simpy.Resource, engine: int, pieces: Sequence[float]
) -> Generator[Any, Any, None]:
    """An engine goes through its pieces, holding the channel for itself during each."""
    for piece in pieces:
        with gate.request() as hold:
            yield hold
            begin = float(env.now)
            yield env.timeout(float(piece))
            channel.busy[engine] += float(env.now) - begin
            channel.end = float(env.now)


def run_engines(pim: Pim, main: Work, units: Work) -> Ends:
    """Both engines on every channel at once, event by event."""
    env = simpy.Environment()
    channels = [Channel(env, _shares(pim)) for _ in main]
    for channel, *lists in zip(channels, main, units, strict=True):
        gate = simpy.Resource(env)
        for engine, pieces in enumerate(lists):
            if pim.overlap == "blocked":
                env.process(_exclusive(env, channel, gate, engine, pieces))
            else:
                env.process(channel.work(engine, pieces))
    env.run()
    return Ends([one.end for one in channels], [one.busy[0] for one in channels], [one.busy[1] for one in channels])


def fast_cycle(pim: Pim, main: Work, units: Work) -> list[float]:
    """Cycle in which each channel ends."""
    sums = [(float(sum(a)), float(sum(b))) for a, b in zip(main, units, strict=True)]
    if pim.overlap == "blocked":
        return [a + b for a, b in sums]
    return [float(pair_cycle(a, b, *_shares(pim))) for a, b in sums]


def _shares(pim: Pim) -> tuple[float, float]:
    return (1.0, 1.0) if pim.overlap == "bank_bundle" else (pim.npu_share, pim.pim_share)
