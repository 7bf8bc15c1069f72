"""The graph replay: equal to both kernels where nothing is shared, by hand where something is."""

import itertools

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_models import catalog
from hw_models.routes import Routes
from kernels.collective import IDEAL_COLLECTIVE
from kernels.errors import InputError
from kernels.optable import ALL_REDUCE, COST_DTYPE, ENGINE_COPY, ENGINE_LINK, ENGINE_TENSOR, ENGINE_VECTOR
from sim.fabric.collectives import Collective, Collectives, Phase, alone_ps
from sim.fabric.flows import pad_routes
from sim.fabric.replay import STREAMS, replay, replay_fast, streams_of, work
from workloads.graph import chain, compile_graph

IDEAL = np.array(IDEAL_COLLECTIVE)


@st.composite
def graphs(draw: st.DrawFn):
    count = draw(st.integers(1, 25))
    graph: nx.DiGraph = nx.DiGraph()
    graph.add_nodes_from(range(count))
    for b in range(1, count):
        for a in draw(st.sets(st.integers(0, b - 1), max_size=3)):
            graph.add_edge(a, b)
    column = st.lists(st.integers(-1, 3), min_size=count, max_size=count)
    duration = draw(st.lists(st.integers(0, 9), min_size=count, max_size=count))
    return graph, draw(column), duration, draw(st.none() | column)


@settings(max_examples=120, deadline=None)
@given(graphs())
def test_equals_the_kernel_where_nothing_is_shared(case) -> None:
    graph, stream, duration, rendezvous = case
    todo = work(compile_graph(graph), stream, duration, rendezvous)
    outcome = []
    for run in (replay_fast, replay):
        try:
            outcome.append(run(todo))
        except InputError as error:  # parts of two collectives on two streams in two orders, say
            outcome.append(str(error))
    if isinstance(outcome[0], str):
        assert outcome[0].startswith("deadlock: ")
        assert outcome[0] == outcome[1]
        return
    fast, slow_times = outcome
    assert np.array_equal(fast.start_ps, slow_times.start_ps)
    assert np.array_equal(fast.end_ps, slow_times.end_ps)
    # and both keep their promises
    assert all(fast.end_ps[a] <= fast.start_ps[b] for a, b in graph.edges)
    for number in set(stream) - {-1}:
        own = [op for op in range(len(stream)) if stream[op] == number]
        assert all(fast.end_ps[a] <= fast.start_ps[b] for a, b in itertools.pairwise(own))


def test_a_chain_is_a_sum() -> None:
    todo = work(compile_graph(chain(4)), [0, 1, 0, -1], [5, 6, 7, 8])
    assert replay(todo).end_ps.tolist() == replay_fast(todo).end_ps.tolist() == [5, 11, 18, 26]


def test_parts_of_a_collective_start_with_the_last() -> None:
    # two devices compute 10 and 30, then reduce for 5 together
    graph = compile_graph(nx.DiGraph([(0, 2), (1, 3)]))
    todo = work(graph, [0, 0, 1, 1], [10, 5, 30, 5], [-1, 7, -1, 7])
    assert list(nx.DiGraph([(0, 2), (1, 3)])) == [0, 2, 1, 3]  # operators are numbered as the graph lists them
    for times in (replay(todo), replay_fast(todo)):
        assert times.start_ps.tolist() == [0, 30, 0, 30]
        assert times.end_ps.tolist() == [10, 35, 30, 35]


def test_deadlock_names_who_waits() -> None:
    graph: nx.DiGraph = nx.DiGraph()
    graph.add_nodes_from(range(4))
    names = ["a on 0", "b on 0", "b on 1", "a on 1"]
    todo = work(compile_graph(graph), [0, 0, 1, 1], [1] * 4, [0, 1, 1, 0], names.__getitem__)
    for run in (replay, replay_fast):
        with pytest.raises(InputError, match="a on 0 waits for b on 1, b on 1 waits for a on 0"):
            run(todo)


def test_collectives_share_links() -> None:
    ways = Routes(catalog.system("dgx_h100", 16))
    made = Collectives(ways, IDEAL).make(ALL_REDUCE, 1e9, range(8))
    alone = alone_ps(ways, made)
    graph: nx.DiGraph = nx.DiGraph()
    graph.add_nodes_from(range(16))
    # every device reduces on two streams at once: half the rate each
    todo = work(compile_graph(graph), range(16), [0] * 16, [op // 8 for op in range(16)])
    both = replay(todo, {0: made, 1: made}, ways.byte_per_s)
    assert set(both.end_ps.tolist()) == {2 * alone - made.fixed_ps}
    # on one stream a device they follow each other
    todo = work(compile_graph(graph), [op % 8 for op in range(16)], [0] * 16, [op // 8 for op in range(16)])
    after = replay(todo, {0: made, 1: made}, ways.byte_per_s)
    assert sorted(set(after.end_ps.tolist())) == [alone, 2 * alone]
    assert after.link_byte.sum() == pytest.approx(both.link_byte.sum())  # the same bytes either way


def test_compute_beside_a_collective_is_slowed_while_it_runs() -> None:
    graph: nx.DiGraph = nx.DiGraph()
    graph.add_nodes_from(range(3))
    flow = Collective("ring", 0, 0, (Phase(pad_routes([[0]]), np.array([40.0])),))
    todo = work(compile_graph(graph), [0, 1, 2], [100, 0, 100], [-1, 0, -1])
    slowdown, device = np.array([1.25, 1.0, 1.25]), np.array([0, 0, 1])
    times = replay(todo, {0: flow}, np.array([1e12]), slowdown=slowdown, device=device)
    # 40 ps at 1/1.25 do 32 ps of work; the other 68 at full speed. The operator on another device is not slowed.
    assert times.end_ps.tolist() == [108, 40, 100]
    with pytest.raises(InputError, match="1 or more"):
        replay(todo, {0: flow}, np.array([1e12]), slowdown=np.array([0.5, 1, 1]), device=device)


def test_priced_operators_on_the_streams_of_their_engines() -> None:
    prices = np.zeros(5, COST_DTYPE)
    prices["engine"] = ENGINE_TENSOR, ENGINE_COPY, ENGINE_VECTOR, ENGINE_LINK, ENGINE_TENSOR
    prices["time_ps"] = 10, 20, 30, 40, 50
    graph: nx.DiGraph = nx.DiGraph()
    graph.add_nodes_from(range(5))
    stream = streams_of(prices, [0, 0, 0, 0, 1])
    assert stream.tolist() == [0, 1, 0, 2, len(STREAMS)]  # tensor and vector operators share the cores of a device
    times = replay(work(compile_graph(graph), stream, prices["time_ps"]))
    assert times.start_ps.tolist() == [0, 0, 10, 0, 0]
    assert times.end_ps.tolist() == [10, 20, 40, 40, 50]


def test_bad_work() -> None:
    graph = compile_graph(chain(2))
    with pytest.raises(InputError, match="one value an operator"):
        work(graph, [0], [1, 1])
    with pytest.raises(InputError, match="below 0"):
        work(graph, [0, 0], [1, -1])
    flow = Collective("ring", 0, 0, ())
    with pytest.raises(InputError, match="collectives need links"):
        replay(work(graph, [0, 0], [1, 1], [0, -1]), {0: flow})
