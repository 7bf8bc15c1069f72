"""Compute and communication of one device side by side: operators on two streams, replayed exactly.

All devices of a group do the same at the same time, so that one of them stands for all: a collective is an operator on
the link stream. It slows the compute that runs beside it, as its kernels hold some of the cores.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import networkx as nx
import numpy as np

from kernels.graph_replay import Ints
from sim.fabric.replay import replay, replay_fast, work
from workloads.graph import compile_graph

PS = 1e12
COMPUTE, LINK = 0, 1


class Overlap(NamedTuple):
    """What a replay gives; `exposed_s` is time when the compute stream stands still for the link."""

    total_s: float
    compute_s: float  # of the operators alone, not slowed
    link_s: float
    exposed_s: float
    start_ps: Ints  # [op], in the order in which they were added
    end_ps: Ints


class TwoStreams:
    """A list of operators: each waits for the one before it on its stream, and for `after`."""

    def __init__(self) -> None:
        self.graph: nx.DiGraph[Any] = nx.DiGraph()
        self.stream: list[int] = []
        self.duration_ps: list[int] = []

    def add(self, stream: int, duration_s: float, after: Sequence[int] = ()) -> int:
        """One operator more; returns its number."""
        index = len(self.stream)
        self.graph.add_node(index)
        self.graph.add_edges_from((before, index) for before in after)
        self.stream.append(stream)
        self.duration_ps.append(round(duration_s * PS))
        return index

    def run(self, slowdown: float = 1.0) -> Overlap:
        """Replay; compute takes `slowdown` times as long while a collective runs beside it."""
        stream, duration = np.array(self.stream), np.array(self.duration_ps)
        index = compile_graph(self.graph)
        if slowdown == 1:
            times = replay_fast(work(index, stream, duration))
        else:
            link = np.cumsum(stream == LINK) - 1
            rendezvous = np.where((stream == LINK) & (duration > 0), link, -1)
            _, rendezvous[rendezvous >= 0] = np.unique(rendezvous[rendezvous >= 0], return_inverse=True)
            factor = np.where(stream == COMPUTE, slowdown, 1.0)
            times = replay(
                work(index, stream, duration, rendezvous), slowdown=factor, device=np.zeros(stream.size, np.int64)
            )
        total, compute = int(times.end_ps.max()), stream == COMPUTE
        held = int((times.end_ps - times.start_ps)[compute].sum())
        return Overlap(
            total / PS, duration[compute].sum() / PS, duration[~compute].sum() / PS, (total - held) / PS,
            times.start_ps, times.end_ps,
        )  # fmt: skip
