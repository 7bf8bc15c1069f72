"""Layers on the move while their states are split over replicas: who sends what to whom, and how long that takes.

A stage's states (ZeRO) lie on its replicas in one of two ways. Contiguous: all of its layers in a row, cut once; when a
layer comes or a replica goes, every cut shifts and most bytes change hands. Interleaved: every layer is cut by itself,
so that only layers that move, and stages that lose a replica, send anything. What a lost worker held comes from the
snapshot that the next replica of its stage keeps.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from kernels.errors import InputError

Worker = tuple[int, int]  # replica, stage


class Holding(NamedTuple):
    """A run of layers (in layers, fractions too) that a worker holds the states of."""

    begin: float
    end: float
    worker: Worker


def holdings(layer: Sequence[int], num_replica: int, failed: Collection[Worker], interleaved: bool) -> list[Holding]:
    """Who holds what when stages have `layer` layers and the workers `failed` are gone."""
    out, begin, gone = [], 0, set(failed)
    for stage, count in enumerate(layer):
        alive = [replica for replica in range(num_replica) if (replica, stage) not in gone]
        if not alive:
            raise InputError("no replica is left of a stage", field="failed", value=stage)
        cuts = [(begin + at, 1) for at in range(count)] if interleaved else [(begin, count)]
        for low, width in cuts:
            edge = low + width * np.arange(len(alive) + 1) / len(alive)
            out += [Holding(float(edge[at]), float(edge[at + 1]), (replica, stage)) for at, replica in enumerate(alive)]
        begin += count
    return out


def flows(
    before: Sequence[int], after: Sequence[int], num_replica: int, failed: Collection[Worker], *, interleaved: bool
) -> dict[tuple[Worker, Worker], float]:
    """Layers (fractions too) that each worker sends each other one, from `before` on all to `after` on the survivors.

    >>> moves = flows([2, 2], [1, 3], 2, [], interleaved=True)  # one layer goes from stage 0 to stage 1, halves at once
    >>> moves == {((0, 0), (0, 1)): 0.5, ((1, 0), (1, 1)): 0.5}
    True
    """
    if sum(before) != sum(after) or len(before) != len(after) or min([*before, *after]) < 0:
        raise InputError("as many layers and stages as before", field="after", value=list(after))
    gone = set(failed)
    out: dict[tuple[Worker, Worker], float] = {}
    old = holdings(before, num_replica, [], interleaved)
    for new in holdings(after, num_replica, failed, interleaved):
        for one in old:
            share = min(one.end, new.end) - max(one.begin, new.begin)
            if share <= 1e-12:
                continue
            source = one.worker
            if source in gone:
                source = _snapshot(source, num_replica, gone)
            if source != new.worker:
                out[source, new.worker] = out.get((source, new.worker), 0.0) + share
    return out


def _snapshot(worker: Worker, num_replica: int, gone: set[Worker]) -> Worker:
    """The next replica of the same stage that is alive: it keeps the snapshot."""
    replica, stage = worker
    return next(
        ((replica + step) % num_replica, stage)
        for step in range(1, num_replica + 1)
        if ((replica + step) % num_replica, stage) not in gone
    )


def migration_s(
    before: Sequence[int], after: Sequence[int], num_replica: int, failed: Collection[Worker], layer_byte: float,
    link_byte_per_s: float, *, interleaved: bool,
) -> float:  # fmt: skip
    """Seconds of that, all at once: the worker that sends or receives most bounds it."""
    sent: dict[Worker, float] = {}
    received: dict[Worker, float] = {}
    for (source, to), share in flows(before, after, num_replica, failed, interleaved=interleaved).items():
        sent[source] = sent.get(source, 0.0) + share
        received[to] = received.get(to, 0.0) + share
    return max([*sent.values(), *received.values(), 0.0]) * layer_byte / link_byte_per_s
