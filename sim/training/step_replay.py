"""A training step on the links of its system: compute, hops and data-parallel traffic as a graph with flows.

The same operations as the fast path (`sim.training.traffic`), lowered to streams (a rank computes and has a network
queue), transfers between ranks and collectives among replicas. Each takes its closed-form time where its links are its
own, as bytes over the links of the topology: where hops, gathers and scatters share ports or switches they slow each
other, and compute beside a collective of its own device is slowed by the cores that the collective holds.

All replicas run the same order, so that one engine a pipeline rank stands for its `dp x cp x tp` devices; gathers and
scatters flow for every device, hops for the tensor-parallel ranks of the first `num_replica` replicas. Tensor- and
expert-parallel exchanges are inside the operations: they have the links of their node to themselves.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import networkx as nx
import numpy as np

from hw_models.routes import Routes
from kernels.collective import IDEAL_COLLECTIVE
from kernels.errors import InputError
from kernels.schedule import Ints
from kernels.train_plan import Record
from sim.fabric.collectives import Collective, Collectives
from sim.fabric.overlap import core_share
from sim.fabric.replay import Times, Work, replay, replay_fast, work
from sim.pipeline.pipeline_step import together
from sim.training.price import Site
from sim.training.traffic import Traffic, Unit, collective_times
from workloads.graph import compile_graph
from workloads.pipeline import OpArrays

GATHER, REDUCE, HOP = "gather", "reduce", "hop"


class StepWork(NamedTuple):
    """The graph: what to run, and what each of its rendezvous is."""

    todo: Work
    rank: Ints  # [node] -1: a hop
    last: Ints  # [op]: the node that ends it
    first: Ints  # [op]: the node that begins it
    collective: list[tuple[str, int, int]]  # a rendezvous: what, and stage and rank of its traffic, or ranks of its hop


class _Builder:
    def __init__(self, arrays: OpArrays, table: Ints, hop: int, beside: Traffic) -> None:
        self.arrays, self.table, self.hop, self.beside = arrays, table, hop, beside
        self.num_rank = arrays.rank_start.size - 1
        self.graph: nx.DiGraph[Any] = nx.DiGraph()
        self.stream: list[int] = []
        self.time: list[int] = []
        self.rendezvous: list[int] = []
        self.rank: list[int] = []
        self.name: list[str] = []
        self.collective: list[tuple[str, int, int]] = []
        self.first = np.zeros(arrays.kind.size, np.int64)
        self.last = np.zeros(arrays.kind.size, np.int64)

    def add(self, name: str, stream: int, time: int, rank: int, what: tuple[str, int, int] | None = None) -> int:
        """A node; `what` makes it a rendezvous of its own."""
        self.rendezvous.append(-1 if what is None else len(self.collective))
        if what is not None:
            self.collective.append(what)
        for column, value in zip(
            (self.stream, self.time, self.rank, self.name), (stream, time, rank, name), strict=True
        ):
            column.append(value)  # type: ignore[attr-defined]
        self.graph.add_node(len(self.time) - 1)
        return len(self.time) - 1

    def send(self, what: str, rank: int, op: int, after: int) -> int:
        """A transfer of one unit on the rank's network, after a node (-1: at once)."""
        time = self.beside.gather[op] if what == GATHER else self.beside.reduce[op]
        stage = int(self.arrays.stage[op])
        node = self.add(f"{what} of stage {stage}", self.num_rank + rank, int(time), rank, (what, stage, rank))
        if after >= 0:
            self.graph.add_edge(after, node)
        return node

    def run_rank(self, rank: int) -> None:
        """Nodes of a rank in the order of `kernels.traffic_replay`: which transfer is asked for when is no matter of
        time."""
        arrays, beside = self.arrays, self.beside
        begin, stop = int(arrays.rank_start[rank]), int(arrays.rank_start[rank + 1])
        wanted = iter([(i, u) for i in range(begin, stop) if beside.gathers[i] for u in range(int(beside.unit[i]))])
        gathered: dict[tuple[int, int], int] = {}
        held = self.ask(rank, wanted, gathered, 0, -1)
        i = begin
        while i < stop:
            pair = [i, i + 1] if arrays.overlap[i] else [i]
            total = int(sum(self.table[arrays.kind[j], arrays.stage[j]] for j in pair))
            parts = int(beside.unit[i]) if len(pair) == 1 else 1
            for u in range(parts):
                node = self.add(arrays.name(i), rank, total // parts + (u < total % parts), rank)
                self.first[pair] = self.first[pair] if u else node
                units = [(j, n) for j in pair if beside.gathers[j] for n in range(int(beside.unit[j]))]
                self.graph.add_edges_from((gathered[at], node) for at in (units if len(pair) > 1 else units[u : u + 1]))
                for j in pair:
                    for _ in range(1 if len(pair) == 1 else int(beside.unit[j])):
                        if beside.frees[j]:
                            held = self.ask(rank, wanted, gathered, held - 1, node)
                        if beside.reduces[j]:
                            self.send(REDUCE, rank, j, node)
            self.last[pair] = node
            i = pair[-1] + 1

    def ask(
        self, rank: int, wanted: Iterator[tuple[int, int]], gathered: dict[tuple[int, int], int], held: int, after: int
    ) -> int:
        while held < self.beside.capacity:
            at = next(wanted, None)
            if at is None:
                break
            gathered[at] = self.send(GATHER, rank, at[0], after)
            held += 1
        return held

    def hops(self) -> None:
        for op in np.flatnonzero(self.arrays.dep >= 0).tolist():
            source = int(self.arrays.dep[op])
            a, b = int(self.arrays.rank[source]), int(self.arrays.rank[op])
            before, after = int(self.last[source]), int(self.first[op])
            if a == b:
                if before != after:
                    self.graph.add_edge(before, after)
                continue
            between = self.add(f"hop to {self.arrays.name(op)}", -1, self.hop, -1, (HOP, a, b))
            self.graph.add_edges_from([(before, between), (between, after)])


def step_work(arrays: OpArrays, table: Ints, hop: int, beside: Traffic) -> StepWork:
    """The graph of one step; its times without shared links are those of `replay_with_traffic`."""
    made = _Builder(arrays, table, hop, beside)
    for rank in range(made.num_rank):
        made.run_rank(rank)
    made.hops()
    todo = work(compile_graph(made.graph), made.stream, made.time, made.rendezvous, made.name.__getitem__)
    return StepWork(todo, np.array(made.rank, np.int64), made.last, made.first, made.collective)


def flows(
    graph: StepWork, found: dict[str, list[list[Unit]]], record: Record, hop_s: float, routes: Routes, where: Site,
    num_replica: int = 1,
) -> dict[int, Collective]:  # fmt: skip
    """The collective of every rendezvous on the links of `routes`. Raises `InputError` for groups that hold more
    devices of one node than of another."""
    tp, group = int(record["tp"]), int(record["dp"] * record["cp"])
    if not 1 <= num_replica <= group:
        raise InputError("out of range", field="num_replica", value=num_replica, allowed=f"1 to {group}")
    made = Collectives(routes, np.array(IDEAL_COLLECTIVE))
    known: dict[tuple[str, int, int], Collective] = {}

    def build(what: str, a: int, b: int) -> Collective:
        if what == HOP:
            ends = [((a * group + d) * tp + n, (b * group + d) * tp + n) for d in range(num_replica) for n in range(tp)]
            return together([made.transfer(*pair, 0.0, hop_s) for pair in ends])
        fixed_s = inside_s = between_s = 0.0
        for one in found[what][a]:
            parts = collective_times(one, record, where)
            fixed_s, inside_s, between_s = fixed_s + parts[0], inside_s + parts[1], between_s + parts[2]
        groups = [[(b * group + d) * tp + n for d in range(group)] for n in range(tp)]
        return together([made.timed(members, fixed_s, inside_s, between_s) for members in groups])

    out = {}
    for number, key in enumerate(graph.collective):
        if key not in known:
            known[key] = build(*key)
        out[number] = known[key]
    return out


def run_on_links(graph: StepWork, collective: dict[int, Collective], routes: Routes, *, slowed: bool = True) -> Times:
    """Times with shared links; `slowed`: compute beside a gather or scatter of its rank takes longer by the cores that
    the collective holds (`sim.fabric.overlap`)."""
    if not slowed:
        return replay(graph.todo, collective, routes.byte_per_s)
    factor = np.where(graph.todo.rendezvous < 0, 1 / (1 - core_share(routes.system.device)), 1.0)
    device = np.where(graph.rank < 0, graph.rank.max() + 1, graph.rank)  # hops are nobody's
    return replay(graph.todo, collective, routes.byte_per_s, slowdown=factor, device=device)


def run_alone(graph: StepWork) -> Times:
    """Times with links of its own for every transfer."""
    return replay_fast(graph.todo)
