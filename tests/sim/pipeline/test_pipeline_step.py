"""A step on links: the schedule kernel where nothing contends, gradients by hand, ten thousand devices."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_models import catalog
from hw_models.routes import Routes
from kernels.collective import IDEAL_COLLECTIVE
from kernels.errors import InputError
from kernels.optable import P2P
from sim.fabric.collectives import Collectives, alone_ps
from sim.fabric.replay import replay_fast
from sim.pipeline.pipeline_step import replay_step, step_graph
from sim.pipeline.schedule import duration_table, end_times
from workloads.pipeline import compile_order
from workloads.schedules import load

IDEAL = np.array(IDEAL_COLLECTIVE)
MS = 10**9  # in ps


@pytest.mark.parametrize("name", ["1f1b", "interleaved-1f1b", "zb-h1", "zb-v", "dualpipe", "bitpipe", "chimera"])
@settings(max_examples=4, deadline=None)
@given(times=st.tuples(*[st.integers(1, 9)] * 3), hop=st.integers(0, 3))
def test_schedules_as_graphs(name: str, times: tuple[int, int, int], hop: int) -> None:
    arrays = compile_order(load(name).build(4, 8))
    table = duration_table(arrays.num_stage, *times)
    graph = step_graph(arrays, table, hop)
    assert np.array_equal(replay_fast(graph.todo).end_ps[graph.node], end_times(arrays, table, hop))


def test_one_f_one_b_on_links_is_the_kernel_with_that_hop() -> None:
    # forward and backward hops use opposite directions of the ports, so nothing contends
    routes = Routes(catalog.system("dgx_h100", 32))
    order = load("1f1b").build(4, 8)
    arrays = compile_order(order)
    table = duration_table(4, 5 * MS, 6 * MS, 4 * MS)
    hop = alone_ps(routes, Collectives(routes, IDEAL).make(P2P, 50e6, [0, 8]))
    assert hop == pytest.approx(50e6 / 50e9 * 1e12, rel=0.01)  # a port of 50 GB/s
    found = replay_step(order, table, routes, IDEAL, tp=8, hop_byte=50e6)
    compute = found.op[found.op["rank"].notna() & ~found.op["kind"].isin(("hop", "gradient"))]
    assert compute["end_s"].to_numpy() * 1e12 == pytest.approx(end_times(arrays, table, hop), abs=1)
    assert found.summary["exposed_gradient_s"] == 0


def test_gradients_are_hidden_behind_earlier_stages() -> None:
    # 4 stages on 2 x 4 nodes; a stage's gradients reduce as soon as its last backward is done, so only those of the
    # stages that end last are seen: the first stage's
    routes = Routes(catalog.system("dgx_h100", 64))
    order = load("1f1b").build(4, 8)
    table = duration_table(4, 5 * MS, 6 * MS, 4 * MS)
    found = replay_step(order, table, routes, IDEAL, tp=8, dp=2, gradient_byte=1e9)
    reduce_s = 2 * 1 / 2 * 1e9 / 50e9  # ring of two over a port
    assert found.summary["exposed_gradient_s"] == pytest.approx(reduce_s, rel=1e-3)
    last = found.op[found.op["kind"] == "gradient"].groupby("rank")["start_s"].min()
    assert last.is_monotonic_decreasing  # the last stage is first
    # every device sends its gradients once through its port: 64 ports, 1 GB each way
    ports = found.link[found.link["link"].str.match(r"n\d+/nic\d>leaf")]
    assert len(ports) == 64
    assert ports["byte"].to_numpy() == pytest.approx(np.full(64, 1e9))


def test_ten_thousand_devices() -> None:
    # 10 stages x 125 replicas x 8: the gradients of 10,000 devices flow, one engine a stage is simulated
    routes = Routes(catalog.system("dgx_h100", 10_000))
    order = load("1f1b").build(10, 20)
    table = duration_table(10, 5 * MS, 6 * MS, 4 * MS)
    found = replay_step(order, table, routes, IDEAL, tp=8, dp=125, hop_byte=50e6, gradient_byte=1e9)
    assert found.summary["num_device"] == 10_000
    assert found.link["link"].str.match(r"n\d+/nic\d>leaf").sum() == 10_000
    reduce_s = 2 * 124 / 125 * 1e9 / 50e9
    assert found.summary["exposed_gradient_s"] == pytest.approx(reduce_s, rel=0.01)


def test_bad_steps() -> None:
    routes = Routes(catalog.system("dgx_h100", 8))
    order = load("1f1b").build(2, 4)
    table = duration_table(2, 1, 1, 1)
    with pytest.raises(InputError, match="are 16 devices"):
        replay_step(order, table, routes, IDEAL, tp=8)
    with pytest.raises(InputError, match="dp = 0"):
        replay_step(order, table, routes, IDEAL, dp=0)
    with pytest.raises(InputError, match="num_replica = 2"):
        replay_step(order, table, routes, IDEAL, tp=4, num_replica=2)
