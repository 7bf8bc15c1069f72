"""Does a network learn faster from simulations that stream in than from their files? (Deep surrogates, SC 2023)"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import simpy

from kernels.units import PS_PER_S
from sim.pipeline.bounded import Stage, run_stages
from sim.show.plot_style import BLUE, PALETTE, new_figure, styled, suptitle
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from collections.abc import Generator

    from matplotlib.figure import Figure

CLAIM = (
    "Deep surrogates (Meyer et al. 2023): 8 TB streamed through a reservoir in 2 hours, 13 times the batches of files"
)
SMALL: dict[str, Any] = {}
DATA_BYTE, HOURS = 8e12, 2.0
BATCH = 10  # fields of a batch
FIELD_BYTE = 4e6  # a field of a million cells in 32 bits
STEP_S = (
    BATCH * FIELD_BYTE / (DATA_BYTE / (HOURS * 3600)) / 4
)  # a batch is learned four times as fast as its fields come
FASTER = 13.0
CAPACITY, FLOOR = 500, 50  # fields in the reservoir; those that must be there before the first batch
ONLINE, FILES, QUEUE = "reservoir", "files", "queue"
FIELD_PER_S = DATA_BYTE / (HOURS * 3600) / FIELD_BYTE  # of all simulations together
FILE_BYTE_PER_S = 0.25e9  # of one reader of a parallel file system, assumed (none is published)
WAYS = {ONLINE: FIELD_PER_S, QUEUE: FIELD_PER_S, FILES: FILE_BYTE_PER_S / FIELD_BYTE}
NOTE = "fields of 4 MB, batches of 10, a trainer four times as fast as the simulations (none of it is published)"
RATE, HELD = "batches/s", "fields in the reservoir"


class Seen(NamedTuple):
    """A run: batches a second, distinct fields, share of fields that were lost unseen, and what was held when."""

    batch_per_s: float
    fields: int
    unseen: float
    held: list[tuple[float, int]]


def stream(way: str, field_per_s: float, num_batch: int, capacity: int = CAPACITY, seed: int = 0) -> Seen:
    """Producers put fields at a rate; a trainer takes batches, out of a reservoir or a queue of so many places."""
    rng = np.random.default_rng(seed)
    if way == ONLINE:
        return reservoir(field_per_s, num_batch, capacity, rng)
    gap_s = rng.exponential(1 / field_per_s, num_batch * BATCH)
    stages = [Stage("simulations", lambda own: float(gap_s[own[0]])),
              Stage("trainer", STEP_S, num_place=capacity - BATCH, num_batch=BATCH, num_least=BATCH)]  # fmt: skip
    passed = run_stages(stages, num_batch * BATCH)
    return Seen(num_batch * PS_PER_S / float(passed.leave_ps.max()), num_batch * BATCH, 0.0, [])


def reservoir(field_per_s: float, num_batch: int, capacity: int, rng: np.random.Generator) -> Seen:
    """Batches are drawn with repetition; once it is full, a field that was seen makes room for a new one, and where
    none was the producers wait."""
    env = simpy.Environment()
    held: list[list[int]] = []  # times that a field was drawn
    trace: list[tuple[float, int]] = []
    fields = 0
    room, wake = env.event(), env.event()

    def produce() -> "Generator[simpy.Event, Any, None]":
        nonlocal room, wake, fields
        while True:
            yield env.timeout(rng.exponential(1 / field_per_s))
            while len(held) >= capacity:
                if seen := [at for at, one in enumerate(held) if one[0]]:
                    held.pop(seen[int(rng.integers(len(seen)))])
                    break
                room = env.event()
                yield room
            held.append([0])
            fields += 1
            if not wake.triggered:
                wake.succeed()

    def train() -> "Generator[simpy.Event, Any, None]":
        nonlocal room, wake
        for _ in range(num_batch):
            while len(held) < FLOOR:
                wake = env.event()
                yield wake
            for at in rng.integers(len(held), size=BATCH):
                held[int(at)][0] += 1
            if not room.triggered:
                room.succeed()
            yield env.timeout(STEP_S)
            trace.append((env.now, len(held)))

    env.process(produce())
    env.run(env.process(train()))
    return Seen(num_batch / env.now, fields, sum(not one[0] for one in held) / max(fields, 1), trace)


def run(num_batch: int = 3000) -> pd.DataFrame:
    """Batches a second by how fast fields come, and what a reservoir holds and loses."""
    need = 1 / STEP_S  # batches a second that the trainer can take
    rows: list[dict[str, Any]] = []
    rates = {name: stream(name, field_per_s, num_batch) for name, field_per_s in WAYS.items()}
    online, queue, files = (rates[name] for name in WAYS)
    rows += [
        row(
            ONLINE,
            "batches over those from files",
            "one trainer",
            FASTER,
            online.batch_per_s / files.batch_per_s,
            f"the machine's file rate is not published: {FILE_BYTE_PER_S / 1e6:.0f} MB/s here; {NOTE}",
            tag="approx",
            said=True,
        ),
        order(
            ONLINE,
            "order: the trainer never waits once the reservoir is filled",
            "one trainer",
            online.batch_per_s > 0.95 * need,
            f"{online.batch_per_s / need:.1%} of its own rate; {NOTE}",
        ),
        order(
            ONLINE,
            "order: faster than a queue that hands each field out once",
            "the same producers",
            online.batch_per_s > 1.5 * queue.batch_per_s,
            f"{online.batch_per_s / queue.batch_per_s:.2f} times; {NOTE}",
        ),
    ]
    rows += [point(name, RATE, "one trainer", one.batch_per_s) for name, one in rates.items()]
    for second, count in online.held[:: max(1, num_batch // 60)]:
        rows.append(point(ONLINE, HELD, f"{second:.4g}", float(count)))
    return frame(rows)


@styled
def plot(table: pd.DataFrame) -> "Figure":
    """Batches a second of the three ways, and what the reservoir holds over time."""
    figure, (rate, held) = new_figure(1, 2, (9.5, 3.4))
    part = table[table["claim"] == RATE]
    rate.bar(part["system"], part["simulated"], color=[BLUE, PALETTE[1], PALETTE[2]][: len(part)])
    rate.set_ylabel(RATE)
    own = table[table["claim"] == HELD]
    held.plot(own["setup"].astype(float), own["simulated"], "-", color=BLUE)
    held.set(xlabel="seconds", ylabel=HELD)
    held.set_ylim(bottom=0)
    suptitle(figure, "Deep surrogates: learning from a stream of simulations")
    return figure
