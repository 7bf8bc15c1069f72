"""A pipelined training step on the links of a whole system: replicas of equal ranks stand for each other.

Devices are numbered as Megatron does it: tensor-parallel ranks next to each other, then data-parallel replicas, then
pipeline ranks. All replicas run the same order on the same kind of node, so one engine a pipeline rank is simulated
for all of its `dp x tp` devices; what differs is the links. Gradients are all-reduced by flows of every device, on the
links that they share. Activations between ranks flow for every tensor-parallel rank of the first `num_replica`
replicas; the others are on links of their own where each node has its own ports and switches do not narrow.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
import pandas as pd

from hw_models.routes import Routes
from kernels.errors import InputError
from kernels.fairness import Floats
from kernels.optable import ALL_REDUCE, P2P
from kernels.schedule import BACKWARD, INPUT_GRAD, OP_KINDS, WEIGHT_GRAD, Ints
from sim.fabric.collectives import Collective, Collectives, Phase
from sim.fabric.flows import pad_routes
from sim.fabric.replay import Work, replay, work
from workloads.graph import compile_graph
from workloads.pipeline import Op, OpArrays, compile_order

HOP, GRADIENT = "hop", "gradient"


class StepResult(NamedTuple):
    op: pd.DataFrame  # name, kind (of the schedule, hop, gradient), rank, start_s, end_s
    link: pd.DataFrame  # links that carried bytes: name, byte, utilisation over the step
    summary: dict[str, float]


class StepGraph(NamedTuple):
    todo: Work
    label: pd.DataFrame  # an operator a row: name, kind, rank
    hop: dict[int, tuple[int, int]]  # rendezvous: from rank, to rank
    gradient: dict[int, list[int]]  # rendezvous: the ranks that hold the stage
    node: Ints  # operation of the order: its operator


def step_graph(arrays: OpArrays, table: Ints, hop_ps: int = 0) -> StepGraph:
    """Operators of one replica: the order's operations (an overlapped pair is one, as long as both), a hop wherever an
    input comes from another rank, and an all-reduce of each stage's gradients after its last backward."""
    graph: nx.DiGraph[Any] = nx.DiGraph()
    second = np.concatenate(([False], arrays.overlap[:-1]))
    node = np.cumsum(~second) - 1
    duration = np.zeros(int(node[-1]) + 1, np.int64)
    np.add.at(duration, node, table[arrays.kind, arrays.stage])
    rank = arrays.rank[~second]
    name = [arrays.name(op) for op in np.flatnonzero(~second).tolist()]
    kind = [OP_KINDS[code] for code in arrays.kind[~second]]
    stream = rank.tolist()
    graph.add_nodes_from(range(len(stream)))
    rendezvous = [-1] * len(stream)
    times, ranks = duration.tolist(), rank.tolist()
    num_rank = arrays.rank_start.size - 1
    hops: dict[int, tuple[int, int]] = {}
    gradients: dict[int, list[int]] = {}

    def add(label: str, what: str, at: int, on: int, number: int, time_ps: int) -> int:
        index = len(stream)
        for column, value in zip(
            (name, kind, ranks, stream, rendezvous, times), (label, what, at, on, number, time_ps), strict=True
        ):
            column.append(value)
        graph.add_node(index)
        return index

    for op in np.flatnonzero(arrays.dep >= 0).tolist():
        source = int(arrays.dep[op])
        a, b = int(arrays.rank[source]), int(arrays.rank[op])
        if a == b:
            graph.add_edge(int(node[source]), int(node[op]))
            continue
        number = len(hops)
        hops[number] = a, b
        between = add(f"{arrays.name(source)}>{arrays.name(op)}", HOP, a, -1, number, hop_ps)
        graph.add_edges_from([(int(node[source]), between), (between, int(node[op]))])
    makes = np.isin(arrays.kind, (BACKWARD, INPUT_GRAD, WEIGHT_GRAD))
    for stage in range(arrays.num_stage):
        own = makes & (arrays.stage == stage)
        holders = sorted(set(arrays.rank[own].tolist()))
        if not holders:
            continue
        number = len(hops) + len(gradients)
        gradients[number] = holders
        for holder in holders:
            last = int(np.flatnonzero(own & (arrays.rank == holder))[-1])
            part = add(f"gradient of stage {stage}", GRADIENT, holder, num_rank + holder, number, 0)
            graph.add_edge(int(node[last]), part)
    label = pd.DataFrame({"name": name, "kind": kind, "rank": ranks})
    todo = work(compile_graph(graph), stream, times, rendezvous, name.__getitem__)
    return StepGraph(todo, label, hops, gradients, node)


def replay_step(
    order: Sequence[Sequence[Op]],
    table: Ints,
    routes: Routes,
    fit: Floats,
    *,
    tp: int = 1,
    dp: int = 1,
    hop_byte: float = 0.0,
    gradient_byte: float | Sequence[float] = 0.0,
    num_replica: int = 1,
) -> StepResult:
    """Replay `order` with times `table[kind, stage]` (integer ps) on `ranks x dp x tp` devices of a system.

    `hop_byte`: activations that one device sends to the next rank; `gradient_byte`: gradients of a device's share of a
    stage (one for all or one a stage); `fit`: of the collectives, as `Collectives` takes it; `num_replica`: replicas
    whose activations flow.
    """
    arrays = compile_order(order)
    for field, value in (("tp", tp), ("dp", dp)):
        if value < 1:
            raise InputError("out of range", field=field, value=value, allowed="1 or more")
    num_rank = arrays.rank_start.size - 1
    needed = num_rank * dp * tp
    if needed > routes.system.num_device:
        raise InputError(
            f"{num_rank} ranks x {dp} replicas x {tp} are {needed} devices",
            field="system", value=routes.system.num_device, allowed=f"{needed} or more",
        )  # fmt: skip
    if not 1 <= num_replica <= dp:
        raise InputError("out of range", field="num_replica", value=num_replica, allowed=f"1 to {dp}")
    byte = np.broadcast_to(np.asarray(gradient_byte, np.float64), (arrays.num_stage,))
    graph = step_graph(arrays, table)
    made = Collectives(routes, fit)
    collective = _hops(made, graph.hop, hop_byte, tp, dp, num_replica)
    for stage, (number, holders) in enumerate(graph.gradient.items()):
        groups = [[(rank * dp + d) * tp + t for rank in holders for d in range(dp)] for t in range(tp)]
        collective[number] = together([made.make(ALL_REDUCE, float(byte[stage]), group) for group in groups])
    times = replay(graph.todo, collective, routes.byte_per_s)
    frame = graph.label.assign(start_s=times.start_ps / 1e12, end_s=times.end_ps / 1e12)
    step_s = float(frame["end_s"].max())
    used = np.flatnonzero(times.link_byte)
    link = pd.DataFrame(
        {
            "link": [routes.name(i) for i in used.tolist()],
            "byte": times.link_byte[used],
            "utilisation": times.link_byte[used] / routes.byte_per_s[used] / max(step_s, 1e-12),
        }
    )
    compute = ~frame["kind"].isin((HOP, GRADIENT))
    return StepResult(
        frame,
        link,
        {
            "step_s": step_s,
            "pipeline_s": float(frame.loc[compute, "end_s"].max()),
            "exposed_gradient_s": step_s - float(frame.loc[compute, "end_s"].max()),
            "num_device": needed,
            "num_op": len(frame),
        },
    )


def _hops(
    made: Collectives, hop: Mapping[int, tuple[int, int]], byte: float, tp: int, dp: int, num_replica: int
) -> dict[int, Collective]:
    known: dict[tuple[int, int], Collective] = {}
    found = {}
    for number, (a, b) in hop.items():
        if (a, b) not in known:
            pairs = [((a * dp + d) * tp + t, (b * dp + d) * tp + t) for d in range(num_replica) for t in range(tp)]
            known[a, b] = together([made.make(P2P, byte, pair) for pair in pairs])
        found[number] = known[a, b]
    return found


def together(parts: Sequence[Collective]) -> Collective:
    """Equal collectives of several groups that start at once, as one: phase by phase."""
    first = parts[0]
    phase = []
    for same in zip(*(part.phase for part in parts), strict=True):
        rows = [row[row >= 0].tolist() for flows in same for row in flows.route]
        phase.append(Phase(pad_routes(rows), np.concatenate([flows.byte for flows in same])))
    return first._replace(phase=tuple(phase))
