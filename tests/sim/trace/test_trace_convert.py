"""Execution traces converted by the command, and what Kineto traces say of kernels and collectives."""

import gzip
import json
import pathlib

import pandas as pd
import pytest

from hw_models.calibration.measured import read_folder
from kernels.errors import InputError
from sim.cli import main
from sim.trace.chakra_timeline import times_us, trace_events
from sim.trace.kineto import collective_frame, kernel_frame, read_kineto
from sim.trace.trace_convert import convert
from workloads.chakra import COLLECTIVES, Node, Trace, attributes, et_bytes, read_et


def trace() -> Trace:
    return Trace(
        node=[
            Node(1, "load", "MEM_LOAD_NODE", duration_micros=3),
            Node(2, "matmul", "COMP_NODE", data_deps=[1], duration_micros=10, attr=attributes(is_cpu_op=False)),
            Node(3, "norm", "COMP_NODE", duration_micros=4, attr=attributes(is_cpu_op=False)),
            Node(4, "reduce", "COMM_COLL_NODE", data_deps=[2], duration_micros=6,
                 attr=attributes(comm_type=COLLECTIVES.index("ALL_REDUCE"), comm_size=64)),
        ]
    )  # fmt: skip


def test_as_soon_as_dependencies_let_it() -> None:
    # matmul waits for the load until 3; norm holds the compute engine after it in the file's order
    assert [(node.id, start, end) for node, start, end in times_us(trace())] == [
        (1, 0, 3),
        (2, 3, 13),
        (3, 13, 17),
        (4, 13, 19),
    ]
    recorded = trace()
    recorded.node[0].start_time_micros = 100
    assert times_us(recorded)[0][1:] == (100, 103)


def test_chakra_to_every_format_and_back(tmp_path, capsys) -> None:
    et = tmp_path / "a.2.et"
    et.write_bytes(et_bytes(trace()))
    for step in (["a.2.et", "b.json"], ["b.json", "c.et"], ["c.et", "d.flat.json"], ["d.flat.json", "e.et"]):
        assert main(["trace", "convert", *(str(tmp_path / name) for name in step)]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("b.json: 4 nodes")
    assert (tmp_path / "c.et").read_bytes() == et.read_bytes()
    assert read_et(tmp_path / "e.et").node == trace().node
    assert main(["trace", "convert", str(et), str(tmp_path / "f.trace.json")]) == 0
    events = json.loads((tmp_path / "f.trace.json").read_text())["traceEvents"]
    slices = {event["name"]: event for event in events if event["ph"] == "X"}
    assert slices["matmul"]["ts"] == 3
    assert slices["reduce"]["args"]["comm_type"] == "ALL_REDUCE"
    assert {event["pid"] for event in events} == {3}  # rank 2
    starts = [event for event in trace_events(trace()) if event["ph"] == "s"]
    assert [event["ts"] for event in starts] == [3, 13]  # load > matmul, matmul > reduce


def kineto(rank: int, wait_us: float) -> dict:
    def nccl(seq: int, dur: float, name: str = "_allgather_base") -> dict:
        args = {"device": rank, "stream": 20, "Collective name": name, "In msg nelems": 256, "Out msg nelems": 1024}
        args |= {"Group size": 4, "dtype": "BFloat16", "Process Group Name": "0", "Seq": seq}
        return {
            "ph": "X",
            "cat": "kernel",
            "name": "ncclDevKernel",
            "ts": 50.0 + seq,
            "dur": dur,
            "pid": 0,
            "args": args,
        }

    gemm = {"ph": "X", "cat": "kernel", "name": "gemm", "pid": 0, "args": {"device": rank, "stream": 7}}
    return {
        "distributedInfo": {"rank": rank, "world_size": 2},
        "traceEvents": [
            {"ph": "M", "name": "process_name"},
            {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "ts": 0, "dur": 9},
            gemm | {"ts": 10.0, "dur": 30.0}, gemm | {"ts": 5.0, "dur": 20.0},
            nccl(1, 8.0 + wait_us), nccl(2, 10.0 + wait_us), nccl(3, 9.0, "barrier") | {"ts": 90},
        ],
    }  # fmt: skip


def test_kineto(tmp_path) -> None:
    paths = []
    for rank, wait in ((0, 0.0), (1, 25.0)):
        paths.append(tmp_path / f"rank{rank}.json.gz")
        paths[-1].write_bytes(gzip.compress(json.dumps(kineto(rank, wait)).encode()))
    events = [read_kineto(path) for path in paths]
    assert events[0]["start_us"].is_monotonic_increasing
    assert set(events[1]["rank"]) == {1}
    kernels = kernel_frame(events[0])
    assert kernels.loc[0, ["name", "count", "total_us", "median_us", "min_us"]].tolist() == ["gemm", 2, 50, 25, 20]
    rows = collective_frame(events).set_index("op")
    # 1,024 elements of 2 B come out; rank 1 came 25 us early and waited, so rank 0's 8 and 10 us are the time
    assert rows.loc["all_gather", ["num_gpu", "message_byte", "count"]].tolist() == [4, 2048, 2]
    assert rows.loc["all_gather", "latency_ms"] == pytest.approx(0.009)
    assert "barrier" in rows.index
    assert convert([str(path) for path in paths], str(tmp_path / "fit.csv")).endswith("2 rows")
    assert pd.read_csv(tmp_path / "fit.csv", comment="#")["op"].tolist() == ["all_gather", "barrier"]
    (measured,) = read_folder(tmp_path / "fit.csv")  # as `validate ops` reads it
    assert (measured.ops["link_byte"][0], measured.seconds[0]) == (2048, pytest.approx(9e-6))
    assert measured.skipped == {1: "op 'barrier' is no collective of ours"}
    assert convert([str(paths[0])], str(tmp_path / "kernels.csv"), kernels=True).endswith("1 rows")


def test_bad_traces(tmp_path, capsys) -> None:
    (tmp_path / "a.json").write_text('{"traceEvents": []}')
    with pytest.raises(InputError, match="no device work"):
        read_kineto(tmp_path / "a.json")
    content = kineto(0, 0.0)
    content["traceEvents"][-1]["args"]["dtype"] = "Flot"
    (tmp_path / "b.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="nearest: float"):
        read_kineto(tmp_path / "b.json")
    assert main(["trace", "convert", str(tmp_path / "a.json"), str(tmp_path / "o.et")]) == 2
    assert "not a Chakra trace" in capsys.readouterr().err
    et = tmp_path / "a.et"
    et.write_bytes(et_bytes(trace()))
    for target, message in (("o.xml", "no such format"), ("o.csv", "is not JSON")):
        with pytest.raises(InputError, match=message):
            convert([str(et)], str(tmp_path / target))
    with pytest.raises(InputError, match="one Chakra trace at a time"):
        convert([str(et), str(et)], "o.et")
    with pytest.raises(InputError, match="cannot be read"):
        convert([str(tmp_path / "none.et")], "o.et")


def test_what_was_dropped_is_said(tmp_path: pathlib.Path) -> None:
    (tmp_path / "cut.json").write_text('{"nodes": [{"id": 1, "dataDeps": [7]}]}')
    said = convert([str(tmp_path / "cut.json")], str(tmp_path / "cut.et"))
    assert said.endswith("1 nodes; 1 dependencies on nodes that are not in the file dropped")
