"""Chakra traces: what is written is read back, and protobuf itself reads and writes the same bytes."""

import gzip
import json
import math
import pathlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.errors import InputError
from workloads.chakra import (
    COLLECTIVES,
    NODE_TYPES,
    Attr,
    Node,
    Trace,
    attributes,
    comm_groups,
    et_bytes,
    read_et,
    to_graph,
)
from workloads.chakra_json import flat_text, json_text, read_json
from workloads.chakra_wire import RANGE, SCALARS, varint

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def scalars(name: str) -> st.SearchStrategy:
    if name in RANGE:
        return st.integers(RANGE[name][0], RANGE[name][1] - 1)
    return {
        "double": st.floats(allow_nan=False), "float": st.floats(width=32, allow_nan=False), "bool": st.booleans(),
        "string": TEXT, "bytes": st.binary(max_size=8),
    }[name]  # fmt: skip


ATTR = st.sampled_from(SCALARS).flatmap(
    lambda name: st.one_of(
        st.builds(Attr, st.just(name), scalars(name), TEXT),
        st.builds(Attr, st.just(f"{name}_list"), st.lists(scalars(name), max_size=4), TEXT),
    )
)
INFO = st.none() | st.fixed_dictionaries(dict.fromkeys(("values", "shapes", "types"), TEXT))
COUNT = st.integers(0, 2**64 - 1)


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    ids = draw(st.lists(COUNT, unique=True, max_size=5))
    nodes = [
        Node(
            number, draw(TEXT), draw(st.sampled_from(NODE_TYPES)),
            draw(st.lists(st.sampled_from(ids[:i]), max_size=3)) if i else [],
            draw(st.lists(st.sampled_from(ids[:i]), max_size=3)) if i else [],
            draw(COUNT), draw(COUNT), draw(INFO), draw(INFO), draw(st.dictionaries(TEXT, ATTR, max_size=3)),
        )
        for i, number in enumerate(ids)
    ]  # fmt: skip
    return Trace(draw(TEXT), draw(st.dictionaries(TEXT, ATTR, max_size=2)), nodes)


@settings(max_examples=60, deadline=None)
@given(traces())
def test_round_trips(tmp_path_factory, trace: Trace) -> None:
    folder = tmp_path_factory.mktemp("et")
    content = et_bytes(trace)
    (folder / "a.0.et").write_bytes(content)
    assert read_et(folder / "a.0.et") == trace
    (folder / "b.0.et").write_bytes(gzip.compress(content))
    assert read_et(folder / "b.0.et") == trace
    (folder / "a.json").write_text(json_text(trace))
    assert read_json(folder / "a.json") == trace
    assert et_bytes(read_json(folder / "a.json")) == content


def protobuf():
    """The messages as protobuf has them, from a description of our own numbers and names."""
    pool_module = pytest.importorskip("google.protobuf.descriptor_pool")
    from google.protobuf import descriptor_pb2, message_factory

    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="et.proto", package="t", syntax="proto3")

    def message(name: str, *fields: tuple[str, int, int, str]) -> descriptor_pb2.DescriptorProto:
        made = file.message_type.add(name=name)
        for label, number, form, options in fields:
            made.field.add(
                name=label, number=number, type=form, label=3 if "repeated" in options else 1,
                type_name=f".t.{options.split(':')[1]}" if ":" in options else None,
            )  # fmt: skip
        return made

    lists = [(f"{s.title()}List", getattr(kind, f"TYPE_{s.upper()}")) for s in SCALARS]
    for name, form in lists:
        message(name, ("values", 1, form, "repeated"))
    attr = message("Attr", ("name", 1, kind.TYPE_STRING, ""), ("doc_string", 2, kind.TYPE_STRING, ""))
    attr.oneof_decl.add(name="value")
    for k, (name, form) in enumerate(lists):
        attr.field.add(name=f"{SCALARS[k]}_val", number=3 + 2 * k, type=form, label=1, oneof_index=0)
        attr.field.add(
            name=f"{SCALARS[k]}_list",
            number=4 + 2 * k,
            type=kind.TYPE_MESSAGE,
            label=1,
            oneof_index=0,
            type_name=f".t.{name}",
        )
    message("Head", ("version", 1, kind.TYPE_STRING, ""), ("attr", 2, kind.TYPE_MESSAGE, "repeated:Attr"))
    message("Io", *[(name, i, kind.TYPE_STRING, "") for i, name in enumerate(("values", "shapes", "types"), 1)])
    message(
        "Node", ("id", 1, kind.TYPE_UINT64, ""), ("name", 2, kind.TYPE_STRING, ""), ("type", 3, kind.TYPE_INT32, ""),
        ("ctrl_deps", 4, kind.TYPE_UINT64, "repeated"), ("data_deps", 5, kind.TYPE_UINT64, "repeated"),
        ("start_time_micros", 6, kind.TYPE_UINT64, ""), ("duration_micros", 7, kind.TYPE_UINT64, ""),
        ("inputs", 8, kind.TYPE_MESSAGE, ":Io"), ("outputs", 9, kind.TYPE_MESSAGE, ":Io"),
        ("attr", 10, kind.TYPE_MESSAGE, "repeated:Attr"),
    )  # fmt: skip
    pool = pool_module.DescriptorPool()
    pool.Add(file)
    return [message_factory.GetMessageClass(pool.FindMessageTypeByName(f"t.{name}")) for name in ("Head", "Node")]


@settings(max_examples=40, deadline=None)
@given(trace=traces())
def test_protobuf_reads_and_writes_the_same(tmp_path_factory, trace: Trace) -> None:
    head_class, node_class = _CLASSES or _CLASSES.extend(protobuf()) or _CLASSES
    head = head_class(version=trace.version)
    messages = [head]
    for owner, attrs in [(head, trace.attr)] + [(None, node.attr) for node in trace.node]:
        if owner is None:
            node = trace.node[len(messages) - 1]
            owner = node_class(
                id=node.id, name=node.name, type=NODE_TYPES.index(node.type), ctrl_deps=node.ctrl_deps,
                data_deps=node.data_deps,
                start_time_micros=node.start_time_micros, duration_micros=node.duration_micros,
                inputs=node.inputs, outputs=node.outputs,
            )  # fmt: skip
            messages.append(owner)
        for name, attr in attrs.items():
            made = owner.attr.add(name=name, doc_string=attr.doc_string)
            if attr.type.endswith("_list"):
                getattr(made, attr.type).SetInParent()
                getattr(made, attr.type).values.extend(attr.value)
            else:
                setattr(made, f"{attr.type}_val", attr.value)
    theirs = [message.SerializeToString(deterministic=True) for message in messages]
    content = b"".join(varint(len(body)) + body for body in theirs)
    assert content == et_bytes(trace)
    path = tmp_path_factory.mktemp("et") / "a.0.et"
    path.write_bytes(content)
    assert read_et(path) == trace


_CLASSES: list = []


def two_nodes() -> Trace:
    compute = Node(
        0, "matmul", "COMP_NODE", duration_micros=12, attr=attributes(is_cpu_op=False, num_ops=8, tensor_size=4)
    )
    reduce = Node(
        1, "reduce", "COMM_COLL_NODE", data_deps=[0], duration_micros=5,
        attr=attributes(comm_type=COLLECTIVES.index("ALL_REDUCE"), comm_size=1024),
    )  # fmt: skip
    return Trace(node=[compute, reduce])


def test_flat_form(tmp_path) -> None:
    (tmp_path / "flat.json").write_text(flat_text(two_nodes()))
    assert read_json(tmp_path / "flat.json").node == two_nodes().node
    more = two_nodes()
    more.node[0].attr["note"] = Attr("string", "x")
    with pytest.raises(InputError, match="node 0 has more than a flat file holds"):
        flat_text(more)


def test_graph_and_groups() -> None:
    assert list(to_graph(two_nodes()).edges) == [(0, 1)]
    assert comm_groups([[1, 0], range(2, 4)]) == {"0": [0, 1], "1": [2, 3]}


def test_unknown_fields_and_values_that_are_not_numbers(tmp_path) -> None:
    head, node = b"", b"\x08\x07" + b"\xa2\x06\x02hi"  # id 7, and field 100 that no schema has
    (tmp_path / "a.et").write_bytes(varint(len(head)) + head + varint(len(node)) + node)
    assert read_et(tmp_path / "a.et").node == [Node(7, type="INVALID_NODE")]
    (tmp_path / "a.json").write_text(json_text(Trace(node=[Node(1, attr={"x": Attr("double", math.nan)})])))
    assert math.isnan(read_json(tmp_path / "a.json").node[0].get("x"))


BAD = [
    (Trace(node=[Node(1), Node(1)]), "two nodes have this id"),
    (Trace(node=[Node(1, data_deps=[2])]), "waits for a node that is not there"),
    (Trace(node=[Node(1, data_deps=[2]), Node(2, ctrl_deps=[1])]), "in a circle: 1 -> 2 -> 1"),
    (Trace(node=[Node(1, type="COMPUTE_NODE")]), "nearest: COMP_NODE"),
    (Trace(node=[Node(1, attr={"x": Attr("int32", 2**31)})]), "not a value of type int32"),
    (Trace(node=[Node(1, duration_micros=-1)]), "whole numbers from 0 on"),
]


@pytest.mark.parametrize(("trace", "message"), BAD)
def test_bad_traces(trace: Trace, message: str) -> None:
    with pytest.raises(InputError, match=message):
        et_bytes(trace)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello, I am not a trace", r"not a \.et file"),
        (b"\x00\x03\x08", r"3 bytes, 1 are there"),
        (b"\x00\x02\x0b\x00", "message 1 is not a node: wire type 3"),
        (b"\x00\x80", "ends inside the length"),
    ],
)
def test_bad_files(tmp_path, content: bytes, message: str) -> None:
    (tmp_path / "bad.et").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_et(tmp_path / "bad.et")


@pytest.mark.parametrize(
    ("content", "message"),
    [("[]", "not a Chakra trace"), ("{", "is not JSON"), ('{"nodes": [{"idd": 1}]}', "nearest: id"),
     ('{"nodes": [{"id": 1, "attr": [{"name": "x"}]}]}', "a name and one value"),
     ('{"workload_graph": [{"Id": 1, "NodeType": 99}]}', "no such node type")],
)  # fmt: skip
def test_bad_json(tmp_path, content: str, message: str) -> None:
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read_json(tmp_path / "bad.json")


def test_dependencies_on_nodes_that_are_not_there_are_dropped_and_counted(tmp_path: pathlib.Path) -> None:
    rows = [{"id": 1, "dataDeps": ["7", "0"]}, {"id": 0, "ctrl_deps": [9]}, {"id": 2, "ctrlDeps": [1]}]
    (tmp_path / "cut.json").write_text(json.dumps({"nodes": rows}))
    found = read_json(tmp_path / "cut.json")
    assert found.num_dropped == 2
    assert [(node.data_deps, node.ctrl_deps) for node in found.node] == [([0], []), ([], []), ([], [1])]
    (tmp_path / "cut.et").write_bytes(et_bytes(found))
    assert read_et(tmp_path / "cut.et").num_dropped == 0


def test_either_spelling_of_protobufs_json(tmp_path: pathlib.Path) -> None:
    written = json_text(two_nodes())
    camel = written.replace("data_deps", "dataDeps").replace("duration_micros", "durationMicros")
    camel = camel.replace("int64_val", "int64Val").replace("bool_val", "boolVal").replace("uint64_val", "uint64Val")
    assert camel != written
    (tmp_path / "camel.json").write_text(camel)
    assert read_json(tmp_path / "camel.json") == two_nodes()


def test_an_execution_trace_of_pytorch_is_named_as_one(tmp_path: pathlib.Path) -> None:
    node = {"id": 1, "name": "aten::mm", "ctrl_deps": 0, "inputs": {"values": []}, "attrs": [{"name": "rf_id"}]}
    (tmp_path / "et.json").write_text(json.dumps({"schema": "1.1.1-chakra.0.0.4", "pid": 1, "nodes": [node]}))
    with pytest.raises(InputError, match="execution trace of PyTorch"):
        read_json(tmp_path / "et.json")
