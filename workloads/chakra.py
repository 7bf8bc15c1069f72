"""Chakra execution traces: what one rank executed or is to execute, as a graph of nodes. Read and written.

A `.et` file is a stream of messages, each after its length: the metadata, then the nodes. A file a rank,
`NAME.<rank>.et`. Attributes that simulators read: `is_cpu_op`, `num_ops`, `tensor_size` (compute and memory),
`comm_type`, `comm_size`, `pg_name` (collectives), `comm_src`, `comm_dst`, `comm_tag` (send and receive).
"""

import math
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import networkx as nx

from kernels.content import MAX_JSON_BYTE
from kernels.errors import InputError
from workloads import chakra_wire as wire
from workloads import files
from workloads.graph import check

NODE_TYPES: tuple[str, ...] = (
    "INVALID_NODE", "METADATA_NODE", "MEM_LOAD_NODE", "MEM_STORE_NODE", "COMP_NODE", "COMM_SEND_NODE",
    "COMM_RECV_NODE", "COMM_COLL_NODE", "STORAGE_NODE", "BATCH_NODE", "CHECKPOINT_NODE",
)  # fmt: skip
COLLECTIVES: tuple[str, ...] = (
    "ALL_REDUCE", "REDUCE", "ALL_GATHER", "GATHER", "SCATTER", "BROADCAST", "ALL_TO_ALL", "REDUCE_SCATTER",
    "REDUCE_SCATTER_BLOCK", "BARRIER",
)  # fmt: skip
"""Values of `comm_type`, by number."""
VERSION = "0.0.4"
ATTRIBUTES: Mapping[str, str] = {
    "is_cpu_op": "bool", "num_ops": "int64", "tensor_size": "uint64", "comm_type": "int64", "comm_size": "int64",
    "comm_src": "int32", "comm_dst": "int32", "comm_tag": "int32", "comm_priority": "int32", "pg_name": "string",
    "stream": "int64",
}  # fmt: skip
"""Types under which the usual attributes are written."""
MAX_TIME_US = 9_000_000_000_000  # 104 days: what integer picoseconds hold
_INT32 = (-(2**31), 2**31)
SPANS: Mapping[str, tuple[int, int]] = {
    "comm_src": _INT32, "comm_dst": _INT32, "comm_tag": _INT32, "comm_priority": _INT32, "stream": (-(2**63), 2**63),
}  # fmt: skip
"""Ranges of the usual attributes; 0 to 2^62 for those not named."""
IO_FIELDS = ("values", "shapes", "types")


class Attr(NamedTuple):
    """A typed value: `type` is one of `chakra_wire.SCALARS`, with `_list` after it for a list."""

    type: str
    value: Any
    doc_string: str = ""


@dataclass
class Node:
    """One operation. Times are microseconds, whole ones in the file."""

    id: int
    name: str = ""
    type: str = "COMP_NODE"
    ctrl_deps: list[int] = field(default_factory=list)
    data_deps: list[int] = field(default_factory=list)
    start_time_micros: int = 0
    duration_micros: int = 0
    inputs: dict[str, str] | None = None  # values, shapes, types
    outputs: dict[str, str] | None = None
    attr: dict[str, Attr] = field(default_factory=dict)
    storage: bytes = b""  # detail of a STORAGE_NODE, as it came

    def get(self, name: str, default: Any = None) -> Any:
        """The value of an attribute."""
        return self.attr[name].value if name in self.attr else default


@dataclass
class Trace:
    """One rank's trace."""

    version: str = VERSION
    attr: dict[str, Attr] = field(default_factory=dict)
    node: list[Node] = field(default_factory=list)
    num_dropped: int = field(default=0, compare=False)  # dependencies on nodes that were not in the file


def attributes(**values: Any) -> dict[str, Attr]:
    """Attributes under their usual types.

    >>> attributes(comm_type=COLLECTIVES.index("ALL_GATHER"), comm_size=1024)["comm_type"]
    Attr(type='int64', value=2, doc_string='')
    """
    for name in values:
        if name not in ATTRIBUTES:
            raise InputError("not a usual attribute: give it as an Attr", field="name", value=name, allowed=ATTRIBUTES)
    return {name: Attr(ATTRIBUTES[name], value) for name, value in values.items()}


def read_et(path: pathlib.Path | str) -> Trace:
    """A `.et` file, also gzipped. Raises `InputError` naming the message that is no message."""
    data = files.read_byte(path, MAX_JSON_BYTE)
    trace = Trace(version="")
    for index, message in enumerate(_messages(data, path)):
        try:
            if index == 0:
                trace.version, trace.attr = _decode_metadata(message)
            else:
                trace.node.append(_decode_node(message))
        except wire.WireError as error:
            raise InputError(f"message {index} is not a {'node' if index else 'head'}: {error}", file=path) from None
    drop_lost(trace)
    check_trace(trace, path)
    return trace


def et_bytes(trace: Trace) -> bytes:
    """The content of a `.et` file. Raises `InputError` for values that their types cannot hold."""
    check_trace(trace)
    head = _text(1, trace.version) + _encode_attrs(2, trace.attr)
    messages = [head, *(_encode_node(node) for node in trace.node)]
    return b"".join(wire.varint(len(message)) + message for message in messages)


def drop_lost(trace: Trace) -> None:
    """Leaves out dependencies on nodes that are not in the trace (recordings begin and end somewhere) and counts
    them."""
    known = {node.id for node in trace.node if type(node.id) is int}
    for node in trace.node:
        for name in ("data_deps", "ctrl_deps"):
            deps = getattr(node, name)
            kept = [other for other in deps if type(other) is not int or other in known]
            trace.num_dropped += len(deps) - len(kept)
            setattr(node, name, kept)


def check_trace(trace: Trace, file: pathlib.Path | str | None = None) -> None:
    """`InputError` where two nodes have one id, a type is unknown, a node waits for one that is not there, or nodes
    wait for each other in a circle."""
    if not isinstance(trace.version, str):
        raise InputError("not a text", file=file, field="version", value=trace.version)
    for name, attr in trace.attr.items():
        _check_attr(name, attr, file)
    for node in trace.node:
        _check_node(node, file)
    known = {node.id for node in trace.node}
    if len(known) < len(trace.node):
        seen: set[int] = set()
        twice = next(node.id for node in trace.node if node.id in seen or seen.add(node.id))  # type: ignore[func-returns-value]
        raise InputError("two nodes have this id", file=file, field="id", value=twice)
    for node in trace.node:
        if node.type not in NODE_TYPES:
            raise InputError("no such node type", file=file, field="type", value=node.type, allowed=NODE_TYPES)
        for name in ("data_deps", "ctrl_deps"):
            lost = [other for other in getattr(node, name) if other not in known]
            if lost:
                raise InputError(
                    f"node {node.id} waits for a node that is not there", file=file, field=name, value=lost[0]
                )
    try:
        check(to_graph(trace))
    except InputError as error:
        raise InputError(str(error), file=file) from None


def _check_node(node: Node, file: pathlib.Path | str | None) -> None:
    """A node's fields are of the types and within the ranges that the schema gives them."""
    for name in ("id", "start_time_micros", "duration_micros"):
        value = getattr(node, name)
        if type(value) is not int or not 0 <= value < 2**64:
            raise InputError("whole numbers from 0 on", file=file, field=name, value=value, allowed="0 to 2^64 - 1")
    for name in ("name", "type"):
        if not isinstance(getattr(node, name), str):
            raise InputError("not a text", file=file, field=name, value=getattr(node, name))
    for name in ("ctrl_deps", "data_deps"):
        for other in getattr(node, name):
            if type(other) is not int:
                raise InputError("not a node's number", file=file, field=name, value=other)
    for name, attr in node.attr.items():
        _check_attr(name, attr, file)


def check_clock(trace: Trace, file: pathlib.Path | str | None = None) -> None:
    """`InputError` where a time or a usual attribute is beyond what a timeline or a replay can hold."""
    for node in trace.node:
        for name, most in (("start_time_micros", 2**53), ("duration_micros", MAX_TIME_US)):
            if getattr(node, name) > most:
                raise InputError(f"node {node.id}: out of range", file=file, field=name, value=getattr(node, name),
                                 allowed=f"0 to {most}")  # fmt: skip
        for name, kind in ATTRIBUTES.items():
            if name not in node.attr or kind in ("bool", "string"):
                continue
            value, (low, high) = node.attr[name].value, SPANS.get(name, (0, 2**62))
            if type(value) is not int or not low <= value < high:
                raise InputError(f"node {node.id}: not a whole number in range", file=file, field=name, value=value,
                                 allowed=f"{low} to {high - 1}")  # fmt: skip


def _check_attr(name: Any, attr: Attr, file: pathlib.Path | str | None) -> None:
    """An attribute's name is a text and its value of the type that it says."""
    scalar = attr.type.removesuffix("_list")
    if not isinstance(name, str) or not isinstance(attr.doc_string, str):
        raise InputError("not a text", file=file, field="attr", value=name)
    wanted: tuple[type, ...] = {"bool": (bool,), "string": (str,), "bytes": (bytes,), "float": (int, float),
                                "double": (int, float)}.get(scalar, (int,))  # fmt: skip
    for value in attr.value if attr.type.endswith("_list") and isinstance(attr.value, list) else [attr.value]:
        low, high = wire.RANGE.get(scalar, (-math.inf, math.inf))
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted != (bool,)):
            raise InputError(f"not a value of type {scalar}", file=file, field=name, value=value)
        if isinstance(value, int) and not low <= value < high:
            raise InputError(f"not a value of type {scalar}", file=file, field=name, value=value,
                             allowed=f"{low} to {high - 1}")  # fmt: skip


def to_graph(trace: Trace) -> "nx.DiGraph[Any]":
    """Nodes by id in the file's order, with `node` as data; an edge from each node to those that wait for it."""
    graph: nx.DiGraph[Any] = nx.DiGraph()
    graph.add_nodes_from((node.id, {"node": node}) for node in trace.node)
    graph.add_edges_from((before, node.id) for node in trace.node for before in [*node.data_deps, *node.ctrl_deps])
    return graph


def _messages(data: bytes, path: pathlib.Path | str) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        try:
            size, at = wire.read_varint(data, at)
        except wire.WireError:
            raise InputError("ends inside the length of a message", file=path) from None
        if at + size > len(data):
            raise InputError(f"a message of {size} bytes, {len(data) - at} are there: not a .et file?", file=path)
        yield data[at : at + size]
        at += size


def _text(number: int, value: str) -> bytes:
    return wire.field(number, wire.LENGTH, value.encode()) if value else b""


def _encode_attrs(number: int, attrs: Mapping[str, Attr]) -> bytes:
    return b"".join(wire.field(number, wire.LENGTH, _encode_attr(name, attr)) for name, attr in attrs.items())


def _encode_attr(name: str, attr: Attr) -> bytes:
    scalar = attr.type.removesuffix("_list")
    if scalar not in wire.SCALARS:
        raise InputError("no such type", field=name, value=attr.type, allowed=wire.SCALARS)
    is_list = attr.type.endswith("_list")
    low, high = wire.RANGE.get(scalar, (0, 0))
    for value in (attr.value if is_list else [attr.value]) if high else []:
        if not isinstance(value, int) or not low <= value < high:
            raise InputError(f"not a value of type {scalar}", field=name, value=value, allowed=f"{low} to {high - 1}")
    number = 3 + 2 * wire.SCALARS.index(scalar)
    head = _text(1, name) + _text(2, attr.doc_string)
    if is_list:
        return head + wire.field(number + 1, wire.LENGTH, wire.encode_list(1, scalar, attr.value))
    return head + wire.field(number, wire.wire_type(scalar), wire.encode(scalar, attr.value))


def _decode_attr(message: bytes) -> tuple[str, Attr]:
    name = doc = ""
    found = Attr("bytes", b"")
    for number, kind, raw in wire.fields(message):
        if number == 1:
            name = wire.decode("string", raw)
        elif number == 2:
            doc = wire.decode("string", raw)
        elif number < 3 + 2 * len(wire.SCALARS):
            scalar = wire.SCALARS[(number - 3) // 2]
            if number % 2:
                _expect(kind, wire.wire_type(scalar))
                found = Attr(scalar, wire.decode(scalar, raw))
            else:
                _expect(kind, wire.LENGTH)
                values = [v for at, of, item in wire.fields(raw) if at == 1 for v in wire.decode_list(scalar, of, item)]
                found = Attr(f"{scalar}_list", values)
    return name, found._replace(doc_string=doc)


def _expect(kind: int, wanted: int) -> None:
    if kind != wanted:
        raise wire.WireError(f"wire type {kind} where {wanted} belongs")


def _decode_metadata(message: bytes) -> tuple[str, dict[str, Attr]]:
    version, attrs = "", {}
    for number, kind, raw in wire.fields(message):
        if number in (1, 2):
            _expect(kind, wire.LENGTH)
        if number == 1:
            version = wire.decode("string", raw)
        elif number == 2:
            name, attr = _decode_attr(raw)
            attrs[name] = attr
    return version, attrs


def _io(number: int, info: Mapping[str, str] | None) -> bytes:
    if info is None:
        return b""
    body = b"".join(_text(i, info.get(name, "")) for i, name in enumerate(IO_FIELDS, 1))
    return wire.field(number, wire.LENGTH, body)


def _encode_node(node: Node) -> bytes:
    numbers = [(1, node.id), (3, NODE_TYPES.index(node.type)), (6, node.start_time_micros), (7, node.duration_micros)]
    for number, value in numbers:
        if not isinstance(value, int) or not 0 <= value < 2**64:
            name = {1: "id", 6: "start_time_micros"}.get(number, "duration_micros")
            raise InputError("whole numbers from 0 on", field=name, value=value)

    def plain(wanted: tuple[int, ...]) -> bytes:
        return b"".join(
            wire.field(number, wire.VARINT, wire.varint(value))
            for number, value in numbers
            if number in wanted and value
        )

    return b"".join([
        plain((1,)), _text(2, node.name), plain((3,)),
        wire.encode_list(4, "uint64", node.ctrl_deps), wire.encode_list(5, "uint64", node.data_deps),
        plain((6, 7)), _io(8, node.inputs), _io(9, node.outputs), _encode_attrs(10, node.attr),
        wire.field(11, wire.LENGTH, node.storage) if node.storage else b"",
    ])  # fmt: skip


def _decode_node(message: bytes) -> Node:
    node = Node(0, type=NODE_TYPES[0])
    for number, kind, raw in wire.fields(message):
        if number in (2, 8, 9, 10, 11):
            _expect(kind, wire.LENGTH)
        elif number in (1, 3, 6, 7):
            _expect(kind, wire.VARINT)
        if number == 1:
            node.id = raw
        elif number == 2:
            node.name = wire.decode("string", raw)
        elif number == 3:
            node.type = NODE_TYPES[raw] if raw < len(NODE_TYPES) else str(raw)
        elif number == 4:
            node.ctrl_deps += wire.decode_list("uint64", kind, raw)
        elif number == 5:
            node.data_deps += wire.decode_list("uint64", kind, raw)
        elif number == 6:
            node.start_time_micros = raw
        elif number == 7:
            node.duration_micros = raw
        elif number in (8, 9):
            found = {IO_FIELDS[i - 1]: wire.decode("string", text) for i, _, text in wire.fields(raw) if i <= 3}
            info = {name: found.get(name, "") for name in IO_FIELDS}
            if number == 8:
                node.inputs = info
            else:
                node.outputs = info
        elif number == 10:
            name, attr = _decode_attr(raw)
            node.attr[name] = attr
        elif number == 11:
            node.storage = raw
    return node


def comm_groups(groups: Sequence[Iterable[int]]) -> dict[str, list[int]]:
    """The content of `comm_group.json`: process groups by name ("0", "1", ...), each a list of ranks."""
    return {str(index): sorted(group) for index, group in enumerate(groups)}
