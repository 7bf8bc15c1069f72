"""Graphs of operators: checks and index arrays."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.errors import InputError
from workloads.graph import chain, check, compile_graph


@given(
    st.integers(1, 30).flatmap(
        lambda n: st.tuples(st.just(n), st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=60))
    )
)
def test_index_arrays_describe_the_graph(case):
    num, pairs = case
    graph = nx.DiGraph()
    graph.add_nodes_from(range(num))
    graph.add_edges_from((a, b) for a, b in pairs if a < b)
    index = compile_graph(graph)
    for node in range(num):
        after = index.successor[index.successor_start[node] : index.successor_start[node + 1]]
        assert sorted(after) == sorted(graph.successors(node))
        assert index.num_predecessor[node] == graph.in_degree(node)
    place = np.argsort(index.order)
    assert all(place[a] < place[b] for a, b in graph.edges)  # nobody before whom it waits for


def test_release_by_counts_runs_everything():
    index = compile_graph(nx.DiGraph([(0, 2), (1, 2), (2, 3), (0, 3)]))
    waiting, ready, done = index.num_predecessor.copy(), list(np.flatnonzero(index.num_predecessor == 0)), []
    while ready:
        node = ready.pop()
        done.append(node)
        for after in index.successor[index.successor_start[node] : index.successor_start[node + 1]]:
            waiting[after] -= 1
            if not waiting[after]:
                ready.append(int(after))
    assert len(done) == 4


def test_cycle_names_who_waits_for_whom():
    with pytest.raises(InputError, match="send -> recv -> send"):
        check(nx.DiGraph([("send", "recv"), ("recv", "send")]))


def test_work_that_nothing_leads_to():
    graph = nx.DiGraph([("start", "gemm"), ("orphan", "norm")])
    check(graph)
    with pytest.raises(InputError, match="nothing leads to: orphan, norm"):
        check(graph, root=["start"])
    with pytest.raises(InputError, match="root = 'begin'"):
        check(graph, root=["begin"])


def test_chain():
    index = compile_graph(chain(4), root=[0])
    assert index.order.tolist() == [0, 1, 2, 3]
    assert index.num_predecessor.tolist() == [0, 1, 1, 1]
    assert len(compile_graph(chain(0)).order) == 0
