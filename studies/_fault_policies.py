"""Training goes on without some workers: what a step takes under each published answer.

A worker is a pipeline stage of one data-parallel replica: a tensor-parallel group, lost with any device of it.

- `drop_replica` (TorchFT): a replica with a failed worker stops; the batch shrinks, the step does not.
- `reroute` (ReCycle): the failed worker's microbatches go to the same stage of other replicas; backward passes are
  split, so that weight gradients wait for bubbles; the batch is kept.
- `rebalance` (ElasWave): the failed stage's samples are shared evenly by its peers, layers migrate until all stages are
  as quick as one another, and what is left is made up for by higher clocks; the batch is kept.

Steps are replayed: a worker takes the oldest input gradient that is ready, then the oldest forward pass that its memory
allows, then weight gradients that wait.
"""

import heapq
from collections.abc import Collection, Sequence
from typing import NamedTuple

from kernels.errors import InputError
from sim.faults.dvfs import make_up
from sim.faults.elastic import split_layers

POLICIES = ("drop_replica", "reroute", "rebalance")
TICK = 1000  # ticks of a layer's forward pass: rounding below a thousandth
Worker = tuple[int, int]  # replica, stage


class Cluster(NamedTuple):
    """Replicas, stages, microbatches of a replica, layers; times of a layer relative to its forward pass."""

    dp: int
    pp: int
    num_microbatch: int
    num_layer: int
    input_grad: float = 1.0
    weight_grad: float = 1.0


class Outcome(NamedTuple):
    """`throughput`: samples a second relative to the healthy cluster; `step`: its time relative to that; layers and
    clock of every stage."""

    throughput: float
    step: float
    layer: list[int]
    clock: list[float]


def check(cluster: Cluster, failed: Collection[Worker]) -> None:
    """Raise `InputError` for failures that no policy survives, and workers that there are not."""
    for replica, stage in failed:
        if not (0 <= replica < cluster.dp and 0 <= stage < cluster.pp):
            raise InputError("no such worker", field="failed", value=(replica, stage),
                             allowed=f"replica < {cluster.dp}, stage < {cluster.pp}")  # fmt: skip
    alive = alive_peers(cluster, failed)
    if min(alive) == 0:
        raise InputError("no replica is left of a stage", field="failed", value=alive.index(0))


def alive_peers(cluster: Cluster, failed: Collection[Worker]) -> list[int]:
    """Workers left of every stage."""
    return [cluster.dp - sum(1 for _, stage in set(failed) if stage == s) for s in range(cluster.pp)]


def survive(cluster: Cluster, failed: Collection[Worker], policy: str, *, max_clock: float = 1.1) -> Outcome:
    """A step after `failed` workers are gone.

    >>> survive(Cluster(4, 4, 8, 32), [(0, 1)], "drop_replica").throughput
    0.75
    """
    if policy not in POLICIES:
        raise InputError("unknown", field="policy", value=policy, allowed=POLICIES)
    check(cluster, failed)
    even = split_layers(cluster.num_layer, [1.0] * cluster.pp)
    healthy = makespan(cluster, [float(count) for count in even], {}, split=False)
    layer, clock, rate = even, [1.0] * cluster.pp, 1.0
    if policy == "drop_replica":
        step = healthy
        rate = (cluster.dp - len({replica for replica, _ in failed})) / cluster.dp
    elif policy == "reroute":
        step = makespan(cluster, [float(count) for count in even], reroute(cluster, failed), split=True)
    else:
        alive = alive_peers(cluster, failed)
        usual = max(even)
        options = []
        for count in (even, split_layers(cluster.num_layer, [float(peers) for peers in alive])):
            load = [n * cluster.dp / peers for n, peers in zip(count, alive, strict=True)]
            made = make_up([value / usual for value in load], max_clock=max_clock)
            stage = [min(value, float(time) * usual) for value, time in zip(load, made["time"], strict=True)]
            options.append((makespan(cluster, stage, {}, split=False), count, made["clock"].tolist()))
        step, layer, clock = min(options, key=lambda one: one[0])
    return Outcome(rate * healthy / step, step / healthy, layer, clock)


def reroute(cluster: Cluster, failed: Collection[Worker]) -> dict[tuple[int, int, int], int]:
    """(replica, stage, microbatch) of a failed worker to the replica that does it, in turn."""
    gone = set(failed)
    out: dict[tuple[int, int, int], int] = {}
    for stage in range(cluster.pp):
        peers = [replica for replica in range(cluster.dp) if (replica, stage) not in gone]
        turn = 0
        for replica in range(cluster.dp):
            if (replica, stage) in gone:
                for microbatch in range(cluster.num_microbatch):
                    out[replica, stage, microbatch] = peers[turn % len(peers)]
                    turn += 1
    return out


def makespan(
    cluster: Cluster, stage_layer: Sequence[float], moved: dict[tuple[int, int, int], int], *, split: bool
) -> float:
    """Ticks of a step whose stages do the work of `stage_layer` layers a microbatch, with the operations `moved` to
    other replicas. `split`: weight gradients wait for idle workers; without, a backward pass is one operation."""
    p, m = cluster.pp, cluster.num_microbatch
    forward = [round(count * TICK) for count in stage_layer]
    grad = [round(count * TICK * cluster.input_grad) for count in stage_layer]
    weight = [round(count * TICK * cluster.weight_grad) for count in stage_layer]
    replicas = range(cluster.dp) if moved else range(1)  # nothing moved: all replicas are alike
    load = dict.fromkeys(((r, s) for r in replicas for s in range(p)), 0)
    for r in replicas:
        for s in range(p):
            for b in range(m):
                load[moved.get((r, s, b), r), s] += 1
    # activations: as many microbatches as 1F1B keeps, more where a worker does more
    limit = {worker: -(-(p - worker[1]) * max(count, 1) // m) for worker, count in load.items()}
    ready: dict[Worker, tuple[list[tuple[int, int]], list[tuple[int, int]]]] = {w: ([], []) for w in load}
    waiting = dict.fromkeys(load, 0)
    held = dict.fromkeys(load, 0)
    busy = dict.fromkeys(load, False)
    queue: list[tuple[int, int, Worker, str, int, int]] = []  # end, number, worker, kind, microbatch, replica
    number, now, last, done = 0, 0, 0, 0
    for r in replicas:
        for b in range(m):
            heapq.heappush(ready[moved.get((r, 0, b), r), 0][0], (b, r))

    def start(worker: Worker) -> None:
        nonlocal number
        if busy[worker]:
            return
        forwards, grads = ready[worker]
        stage = worker[1]
        if grads:
            microbatch, replica = heapq.heappop(grads)
            kind, time = "I", grad[stage] + (0 if split else weight[stage])
        elif forwards and held[worker] < limit[worker]:
            microbatch, replica = heapq.heappop(forwards)
            kind, time = "F", forward[stage]
            held[worker] += 1
        elif waiting[worker]:
            microbatch, replica, kind, time = 0, 0, "W", weight[stage]
            waiting[worker] -= 1
        else:
            return
        busy[worker] = True
        heapq.heappush(queue, (now + time, number, worker, kind, microbatch, replica))
        number += 1

    for worker in load:
        start(worker)
    while queue:
        now, _, worker, kind, microbatch, replica = heapq.heappop(queue)
        done += 1
        last, busy[worker], stage = now, False, worker[1]
        touched = [worker]
        if kind == "F":
            to = stage + 1 if stage + 1 < p else stage
            other = (moved.get((replica, to, microbatch), replica), to)
            heapq.heappush(ready[other][0 if to > stage else 1], (microbatch, replica))
            touched.append(other)
        elif kind == "I":
            held[worker] -= 1
            waiting[worker] += split
            if stage:
                other = (moved.get((replica, stage - 1, microbatch), replica), stage - 1)
                heapq.heappush(ready[other][1], (microbatch, replica))
                touched.append(other)
        for one in touched:
            start(one)
    if done < sum(load.values()) * (3 if split else 2):
        raise InputError("workers wait for one another", field="moved", value=len(moved))
    return float(last)
