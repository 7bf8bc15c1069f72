"""Operators with dependencies: built and checked with networkx, compiled once to index arrays for replay.

A node is a row of an operator table; an edge says who waits for whom. Replay needs no more than how many
predecessors each operator waits for and who is released when it ends.
"""

from collections.abc import Hashable, Iterable
from typing import NamedTuple

import networkx as nx
import numpy as np
import numpy.typing as npt

from kernels.errors import InputError

Ints = npt.NDArray[np.int32]


class GraphIndex(NamedTuple):
    """A checked graph as arrays over its nodes, numbered in the order in which the graph holds them.

    The successors of node `i` are `successor[successor_start[i]:successor_start[i + 1]]`; `order` is a
    topological order that keeps the nodes' own order where it may.
    """

    num_predecessor: Ints  # [node]
    successor_start: Ints  # [node + 1]
    successor: Ints  # [edge]
    order: Ints  # [node]


def chain(num_op: int) -> "nx.DiGraph[int]":
    """Operators one after another, as a serving step runs them.

    >>> compile_graph(chain(3)).successor.tolist()
    [1, 2]
    """
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from(range(num_op))
    graph.add_edges_from((i, i + 1) for i in range(num_op - 1))
    return graph


def check(graph: "nx.DiGraph[Hashable]", root: Iterable[Hashable] | None = None) -> None:
    """Raise `InputError` on work that could never run: a cycle (naming who waits for whom), or, with `root`
    given, nodes that no root leads to."""
    try:
        cycle = nx.find_cycle(graph)
    except nx.NetworkXNoCycle:
        cycle = []
    if cycle:
        path = " -> ".join(str(edge[0]) for edge in cycle) + f" -> {cycle[0][0]}"
        raise InputError(f"operators wait for each other in a circle: {path}", field="graph")
    if root is None:
        return
    reached: set[Hashable] = set()
    for node in root:
        if node not in graph:
            raise InputError("no such operator", field="root", value=node, allowed=[str(n) for n in graph])
        reached |= {node} | nx.descendants(graph, node)
    lost = [node for node in graph if node not in reached]
    if lost:
        shown = ", ".join(str(node) for node in lost[:5]) + (f", ... ({len(lost)} in all)" if len(lost) > 5 else "")
        raise InputError(f"operators that nothing leads to: {shown}", field="graph")


def compile_graph(graph: "nx.DiGraph[Hashable]", root: Iterable[Hashable] | None = None) -> GraphIndex:
    """Check a graph and turn it into index arrays.

    >>> g = nx.DiGraph([("a", "c"), ("b", "c")])
    >>> compile_graph(g).num_predecessor.tolist(), [list(g)[i] for i in compile_graph(g).order]
    ([0, 2, 0], ['a', 'b', 'c'])
    """
    check(graph, root)
    index = {node: i for i, node in enumerate(graph)}
    edge = np.array([(index[a], index[b]) for a, b in graph.edges], dtype=np.int32).reshape(-1, 2)
    edge = edge[np.lexsort((edge[:, 1], edge[:, 0]))]
    degree = np.bincount(edge[:, 0], minlength=len(index))
    order = nx.lexicographical_topological_sort(graph, key=index.__getitem__)
    return GraphIndex(
        num_predecessor=np.bincount(edge[:, 1], minlength=len(index)).astype(np.int32),
        successor_start=np.concatenate([[0], np.cumsum(degree)]).astype(np.int32),
        successor=edge[:, 1].astype(np.int32),
        order=np.array([index[node] for node in order], dtype=np.int32),
    )
