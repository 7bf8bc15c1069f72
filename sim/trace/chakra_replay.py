"""Chakra traces of many ranks replayed on a system: operators on engines, collectives and sends as flows on its links.

Rank r runs on device r. An engine of a rank (CPU, compute, memory, collectives) runs its nodes in the file's order as
far as dependencies allow; a send and its receive start when both can and end together. Collectives are matched across
ranks by process group and order of occurrence, sends by source, destination and tag. `comm_size` is what a rank
puts in, as the feeders of Chakra's simulators have it: of an all-gather the rank's shard, so that `kernels.collective`,
which counts its output, sees it once a rank.
"""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd

from hw_models.routes import Routes
from kernels.errors import InputError
from kernels.fairness import Floats
from kernels.optable import ALL_GATHER, ALL_REDUCE, ALL_TO_ALL, P2P, REDUCE_SCATTER
from kernels.units import to_ps
from sim.fabric.collectives import Collective, Collectives
from sim.fabric.replay import Times, replay, work
from sim.trace.chakra_timeline import THREADS, thread_of
from workloads.chakra import COLLECTIVES, Node, Trace, to_graph
from workloads.graph import compile_graph

KIND = {"ALL_REDUCE": ALL_REDUCE, "ALL_GATHER": ALL_GATHER, "ALL_TO_ALL": ALL_TO_ALL,
        "REDUCE_SCATTER": REDUCE_SCATTER, "REDUCE_SCATTER_BLOCK": REDUCE_SCATTER}  # fmt: skip
"""Collectives that become flows; the others take the duration that was recorded."""
PS_PER_US = 1_000_000
EVERYBODY = ""

Key = tuple[Any, ...]


def replay_traces(
    traces: Sequence[Trace],
    routes: Routes,
    fit: Floats,
    *,
    groups: Mapping[str, Sequence[int]] | None = None,
    roofline: bool = False,
) -> tuple[pd.DataFrame, Times]:
    """A node a row (rank, id, name, type, start_s, end_s), and the raw times with bytes by link.

    `groups`: ranks of a process group by its `pg_name`, all ranks for nodes without one. `roofline`: compute nodes with
    `num_ops` and `tensor_size` take the longer of FLOPs at the device's bf16 peak and bytes at its memory's, not their
    recorded durations.
    """
    if not 1 <= len(traces) <= routes.system.num_device:
        raise InputError("a device a rank", field="ranks", value=len(traces),
                         allowed=f"1 to {routes.system.num_device}")  # fmt: skip
    graph: nx.DiGraph[Any] = nx.DiGraph()
    at: list[tuple[int, Node]] = []
    for rank, trace in enumerate(traces):
        own = to_graph(trace)
        for i in compile_graph(own).order:
            at.append((rank, trace.node[i]))
            graph.add_node((rank, trace.node[i].id))
        graph.add_edges_from(((rank, a), (rank, b)) for a, b in own.edges)
    device = routes.system.device
    peak, memory = device.peak("bf16"), device.mem_byte_per_s
    stream, duration = [], []
    for rank, node in at:
        thread = thread_of(node)
        paired = node.type in ("COMM_SEND_NODE", "COMM_RECV_NODE")
        stream.append(-1 if paired or node.type == "METADATA_NODE" else rank * len(THREADS) + thread)
        time_ps = node.duration_micros * PS_PER_US
        if roofline and THREADS[thread] == "compute" and node.get("num_ops") and node.get("tensor_size"):
            time_ps = to_ps(max(node.get("num_ops") / peak, node.get("tensor_size") / memory))
        duration.append(time_ps)
    rendezvous, collective = _match(at, len(traces), groups or {}, Collectives(routes, fit))
    names = [f"{node.name or node.type} ({node.id}) of rank {rank}" for rank, node in at]
    times = replay(
        work(compile_graph(graph), stream, duration, rendezvous, names.__getitem__), collective, routes.byte_per_s
    )
    frame = pd.DataFrame(
        {
            "rank": [rank for rank, _ in at], "id": [node.id for _, node in at], "name": [node.name for _, node in at],
            "type": [node.type for _, node in at], "start_s": times.start_ps / 1e12, "end_s": times.end_ps / 1e12,
        }
    )  # fmt: skip
    return frame, times


def _match(
    at: Sequence[tuple[int, Node]], num_rank: int, groups: Mapping[str, Sequence[int]], made: Collectives
) -> tuple[list[int], dict[int, Collective]]:
    """The rendezvous of every node (-1 for none), and the flows of each."""
    rendezvous = [-1] * len(at)
    member: dict[Key, list[int]] = {}
    seen: dict[Key, int] = {}
    for i, (rank, node) in enumerate(at):
        if not node.type.startswith("COMM_"):
            continue
        if node.type == "COMM_COLL_NODE":
            what: Key = ("collective", str(node.get("pg_name", EVERYBODY)))
        else:
            source = int(node.get("comm_src", rank)) if node.type == "COMM_RECV_NODE" else rank
            target = int(node.get("comm_dst", rank)) if node.type == "COMM_SEND_NODE" else rank
            what = ("send", source, target, int(node.get("comm_tag", 0)))
        turn = seen[what, rank, node.type] = seen.get((what, rank, node.type), -1) + 1
        member.setdefault((what, turn), []).append(i)
    collective: dict[int, Collective] = {}
    for number, ((what, _), parts) in enumerate(member.items()):
        for i in parts:
            rendezvous[i] = number
        nodes = [at[i][1] for i in parts]
        sizes = {int(node.get("comm_size", 0)) for node in nodes}
        if len(sizes) > 1:
            raise InputError(
                f"ranks disagree on the size of {_where(at, parts)}", field="comm_size", value=sorted(sizes)
            )
        byte = float(sizes.pop())
        if what[0] == "send":
            _, source, target, _ = what
            if len(parts) != 2 or source == target or not 0 <= max(source, target) < num_rank:
                raise InputError(f"a send without its receive, or the other way round: {_where(at, parts)}",
                                 field="comm_src > comm_dst", value=f"{source} > {target}")  # fmt: skip
            collective[number] = made.make(P2P, byte, [source, target])
            continue
        wanted = sorted(_ranks(what[1], groups, num_rank))
        here = sorted(at[i][0] for i in parts)
        if here != wanted:
            raise InputError(f"not all ranks of the group take part in {_where(at, parts)}", field="pg_name",
                             value=what[1], allowed=f"ranks {wanted}, found {here}")  # fmt: skip
        kinds = {int(node.get("comm_type", 0)) for node in nodes}
        if len(kinds) > 1 or not 0 <= min(kinds) < len(COLLECTIVES):
            raise InputError(f"ranks disagree on {_where(at, parts)}", field="comm_type", value=sorted(kinds))
        kind = COLLECTIVES[kinds.pop()]
        if kind in KIND:
            whole = byte * len(wanted) if KIND[kind] == ALL_GATHER else byte
            collective[number] = made.make(KIND[kind], whole, wanted)
    return rendezvous, collective


def _ranks(name: str, groups: Mapping[str, Sequence[int]], num_rank: int) -> Sequence[int]:
    if name in groups:
        return groups[name]
    if name == EVERYBODY or not groups:
        return range(num_rank)
    raise InputError("no such process group", field="pg_name", value=name, allowed=groups)


def _where(at: Sequence[tuple[int, Node]], parts: Sequence[int]) -> str:
    rank, node = at[parts[0]]
    return f"{node.name or node.type} (node {node.id} of rank {rank})"


def read_groups(path: pathlib.Path | str) -> dict[str, list[int]]:
    """Process groups of a `comm_group.json`: ranks by name."""
    try:
        content = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read as JSON: {error}", file=path) from None
    fine = isinstance(content, dict) and all(
        isinstance(ranks, list) and ranks and all(isinstance(rank, int) and rank >= 0 for rank in ranks)
        for ranks in content.values()
    )
    if not fine:
        raise InputError("not process groups: an object of lists of ranks", file=path)
    return {str(name): list(ranks) for name, ranks in content.items()}


def link_frame(routes: Routes, times: Times) -> pd.DataFrame:
    """Links that carried bytes, the busiest first: link, byte, utilisation over the whole time."""
    used = np.flatnonzero(times.link_byte)
    span_s = max(float(times.end_ps.max()) / 1e12, 1e-12) if times.end_ps.size else 1.0
    frame = pd.DataFrame(
        {
            "link": [routes.name(link) for link in used.tolist()],
            "byte": times.link_byte[used],
            "utilisation": times.link_byte[used] / routes.byte_per_s[used] / span_s,
        }
    )
    return frame.sort_values("utilisation", ascending=False, kind="stable", ignore_index=True)
