"""Traces of many ranks on links: by hand, and a pipelined step written as traces and replayed."""

import json

import numpy as np
import pandas as pd
import pytest

from hw_models import catalog
from hw_models.routes import Routes
from kernels.collective import IDEAL_COLLECTIVE
from kernels.errors import InputError
from sim.cli import main
from sim.pipeline.pipeline_step import replay_step
from sim.pipeline.schedule import duration_table
from sim.trace.chakra_export import step_traces
from sim.trace.chakra_replay import link_frame, read_groups, replay_traces
from workloads.chakra import COLLECTIVES, Attr, Node, Trace, attributes, et_bytes
from workloads.schedules import load

IDEAL = np.array(IDEAL_COLLECTIVE)
US = 10**6  # in ps


@pytest.fixture(scope="module")
def routes() -> Routes:
    return Routes(catalog.system("dgx_h100", 32))


def reduce(number: int, byte: int, **more: object) -> Node:
    attr = attributes(comm_type=COLLECTIVES.index("ALL_REDUCE"), comm_size=byte, **more)
    return Node(number, "reduce", "COMM_COLL_NODE", data_deps=[0], attr=attr)


def compute(time_us: int, **more: object) -> Node:
    return Node(0, "compute", "COMP_NODE", duration_micros=time_us, attr=attributes(is_cpu_op=False, **more))


def test_ranks_meet_in_a_collective(routes: Routes) -> None:
    traces = [Trace(node=[compute(10 * rank), reduce(1, 450_000_000)]) for rank in range(8)]
    frame, times = replay_traces(traces, routes, IDEAL)
    ends = frame[frame["type"] == "COMM_COLL_NODE"]
    assert set(ends["start_s"]) == {70e-6}  # when the slowest has computed
    moved_s = 2 * 7 / 8 * 450e6 / 450e9
    assert ends["end_s"].to_numpy() == pytest.approx(70e-6 + moved_s, rel=0.01)  # and 14 hops of 0.4 us
    links = link_frame(routes, times)
    assert links["byte"].sum() == pytest.approx(16 * 2 * 7 / 8 * 450e6)  # to and from the switch


def test_a_gather_is_named_by_the_shard_of_a_rank(routes: Routes) -> None:
    """`comm_size` of an all-gather is what one rank puts in; of a reduce-scatter all of it is."""
    shard = 450_000_000 // 8

    def ends(name: str, byte: int) -> float:
        attr = attributes(comm_type=COLLECTIVES.index(name), comm_size=byte)
        traces = [Trace(node=[compute(0), Node(1, name, "COMM_COLL_NODE", data_deps=[0], attr=attr)]) for _ in range(8)]
        return float(replay_traces(traces, routes, IDEAL)[0]["end_s"].max())

    assert ends("ALL_GATHER", shard) == pytest.approx(7 / 8 * 450e6 / 450e9, rel=0.01)
    assert ends("ALL_GATHER", shard) == ends("REDUCE_SCATTER", 8 * shard)


def test_roofline_of_compute_nodes(routes: Routes) -> None:
    device = routes.system.device
    trace = Trace(node=[compute(99, num_ops=10**12, tensor_size=1)])
    assert replay_traces([trace], routes, IDEAL)[0]["end_s"].tolist() == [99e-6]
    found = replay_traces([trace], routes, IDEAL, roofline=True)[0]
    assert found["end_s"].to_numpy() == pytest.approx(1e12 / device.peak("bf16"), abs=1e-12)


@pytest.mark.parametrize("name", ["1f1b", "zb-v", "interleaved-1f1b"])
def test_a_step_as_traces_is_that_step(routes: Routes, name: str) -> None:
    order = load(name).build(4, 8)
    num_stage = 1 + max(op.stage for ops in order for op in ops)
    table = duration_table(num_stage, 500, 600, 400)
    size = {"tp": 4, "dp": 2, "hop_byte": 1_000_000, "gradient_byte": 50_000_000}
    traces, groups = step_traces(order, table, **size)
    assert len(traces) == 32
    frame, _ = replay_traces(traces, routes, IDEAL, groups=groups)
    step = replay_step(order, table * US, routes, IDEAL, num_replica=2, **size)
    computed = frame[frame["type"] == "COMP_NODE"]
    assert computed["end_s"].max() == pytest.approx(step.summary["pipeline_s"], rel=1e-9)
    # gradients of several stages of a rank share one engine here and one stream there
    assert frame["end_s"].max() == pytest.approx(step.summary["step_s"], rel=1e-9)


def test_the_command(routes: Routes, tmp_path, capsys) -> None:
    traces, groups = step_traces(load("1f1b").build(2, 4), duration_table(2, 5, 5, 5), gradient_byte=1000, hop_byte=10)
    files = []
    for rank, trace in enumerate(traces):
        files.append(str(tmp_path / f"step.{rank}.et"))
        (tmp_path / f"step.{rank}.et").write_bytes(et_bytes(trace))
    (tmp_path / "comm_group.json").write_text(json.dumps(groups))
    line = ["trace", "replay", *files, str(tmp_path / "out.csv"), "--system", "dgx_h100"]
    assert main([*line, "--groups", str(tmp_path / "comm_group.json")]) == 0
    assert "2 ranks" in capsys.readouterr().out
    frame = pd.read_csv(tmp_path / "out.csv", comment="#")
    assert frame["end_s"].max() >= 4 * 15e-6
    assert len(frame) == sum(len(trace.node) for trace in traces)
    assert main(line[:-2]) == 2
    assert "system" in capsys.readouterr().err


def bad(*traces: list[Node]) -> list[Trace]:
    return [Trace(node=[compute(1), *nodes]) for nodes in traces]


def test_traces_that_do_not_fit_each_other(routes: Routes, tmp_path) -> None:
    send = Node(1, "send", "COMM_SEND_NODE", attr=attributes(comm_dst=1, comm_size=8))
    other = reduce(1, 8)
    other.attr["comm_type"] = Attr("int64", COLLECTIVES.index("ALL_GATHER"))
    for traces, message in (
        (bad([reduce(1, 8)], []), "not all ranks of the group"),
        (bad([reduce(1, 8)], [reduce(1, 9)]), "disagree on the size"),
        (bad([reduce(1, 8)], [other]), "ranks disagree on reduce"),
        (bad([send], []), "a send without its receive"),
        (bad(*[[]] * 33), "a device a rank"),
    ):
        with pytest.raises(InputError, match=message):
            replay_traces(traces, routes, IDEAL)
    with pytest.raises(InputError, match="no such process group"):
        replay_traces(bad([reduce(1, 8, pg_name="tpp")]), routes, IDEAL, groups={"tp": [0]})
    (tmp_path / "g.json").write_text('{"0": ["a"]}')
    with pytest.raises(InputError, match="not process groups"):
        read_groups(tmp_path / "g.json")
    # two ranks that reduce in two groups in two orders wait for each other for ever
    ends = []
    for first, then in (("a", "b"), ("b", "a")):
        later = reduce(2, 8, pg_name=then)
        later.data_deps = [1]
        ends.append([reduce(1, 8, pg_name=first), later])
    with pytest.raises(InputError, match="deadlock: "):
        replay_traces(bad(*ends), routes, IDEAL, groups={"a": [0, 1], "b": [0, 1]})
