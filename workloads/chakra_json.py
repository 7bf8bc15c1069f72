"""Chakra traces as JSON: protobuf's own mapping of the messages (lossless), and the flat nodes that feeders read.

The mapping has the field names of the schema, in either spelling that protobuf writes (`ctrl_deps`, `ctrlDeps`); 64-bit
numbers may be strings; bytes are base64. A flat file has the key
`workload_graph`: nodes with `Id`, `Name`, `NodeType` (a number), `is_cpu_op`, `runtime` (microseconds), `data_deps`,
and for communication `comm_type`, `comm_size`, `comm_src`, `comm_dst`, `comm_tag`, `tensor_size`.
"""

import base64
import json
import math
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from kernels.errors import InputError
from workloads import files
from workloads.chakra import ATTRIBUTES, IO_FIELDS, NODE_TYPES, Attr, Node, Trace, check_trace, drop_lost
from workloads.chakra_wire import SCALARS

NODE_KEYS = (
    "id", "name", "type", "ctrl_deps", "data_deps", "start_time_micros", "duration_micros", "inputs", "outputs", "attr",
    "storage",
)  # fmt: skip
FLAT = {"Id": "id", "Name": "name", "NodeType": "type", "runtime": "duration_micros", "data_deps": "data_deps"}
FLAT_ATTRIBUTES = ("is_cpu_op", "num_ops", "tensor_size", "comm_type", "comm_size", "comm_priority", "comm_src",
                   "comm_dst", "comm_tag")  # fmt: skip
_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def json_text(trace: Trace) -> str:
    """The lossless form, one node a line.

    >>> from workloads.chakra import attributes
    >>> print(json_text(Trace("0.0.4", {}, [Node(1, "add", attr=attributes(num_ops=8))])), end="")
    {"version": "0.0.4", "attr": [], "nodes": [
    {"id": 1, "name": "add", "type": "COMP_NODE", "attr": [{"name": "num_ops", "int64_val": 8}]}
    ]}
    """
    check_trace(trace)
    nodes = ",\n".join(json.dumps(_node_object(node), allow_nan=False) for node in trace.node)
    head = json.dumps([_attr_object(*item) for item in trace.attr.items()], allow_nan=False)
    return f'{{"version": {json.dumps(trace.version)}, "attr": {head}, "nodes": [\n{nodes}\n]}}\n'


def flat_text(trace: Trace) -> str:
    """The flat form. What it has no place for (control dependencies become data dependencies) is refused: other
    attributes, inputs and outputs."""
    rows = []
    for node in trace.node:
        extra = [name for name in node.attr if name not in FLAT_ATTRIBUTES]
        if extra or node.inputs or node.outputs or node.storage:
            raise InputError(
                f"node {node.id} has more than a flat file holds",
                field="attr", value=(extra or ["inputs, outputs or storage"])[0], allowed=FLAT_ATTRIBUTES,
            )  # fmt: skip
        deps = list(dict.fromkeys([*node.data_deps, *node.ctrl_deps]))
        rows.append(
            {"Id": node.id, "Name": node.name, "NodeType": NODE_TYPES.index(node.type), "data_deps": deps,
             "runtime": node.duration_micros} | {name: attr.value for name, attr in node.attr.items()}
        )  # fmt: skip
    return json.dumps({"workload_graph": rows}, indent=1) + "\n"


def read_json(path: pathlib.Path | str) -> Trace:
    """A trace of either form."""
    content = files.read_json(path)
    if isinstance(content, dict) and _is_torch(content):
        raise InputError("an execution trace of PyTorch, of operators without what the device did: link it with the "
                         "profiler's trace of the same steps into a Chakra trace first", file=path, field="schema",
                         value=content["schema"])  # fmt: skip
    if not isinstance(content, dict) or not ({"workload_graph", "nodes"} & set(content)):
        raise InputError("not a Chakra trace: neither `nodes` nor `workload_graph`", file=path)
    try:
        if "workload_graph" in content:
            trace = Trace(node=[_from_flat(row, path) for row in content["workload_graph"]])
        else:
            attrs = dict(_read_attr(item, path) for item in content.get("attr", []))
            rows = [{snake(key): value for key, value in row.items()} for row in content["nodes"]]
            trace = Trace(content.get("version", ""), attrs, [_from_object(row, path) for row in rows])
    except (TypeError, AttributeError, ValueError, OverflowError, KeyError) as error:
        if isinstance(error, InputError):
            raise
        why = (
            f"{error}" if isinstance(error, ValueError | OverflowError) else "a value of another type than its field's"
        )
        raise InputError(f"not a Chakra trace: {why}", file=path) from None
    drop_lost(trace)
    check_trace(trace, path)
    return trace


def _is_torch(content: Mapping[str, Any]) -> bool:
    """What torch.profiler's ExecutionTraceObserver writes: a schema, and nodes whose attributes have types as texts."""
    rows = content.get("nodes")
    return "schema" in content and isinstance(rows, list) and bool(rows) and "attr" not in rows[0]


def snake(name: str) -> str:
    """A field of protobuf's JSON as the schema spells it.

    >>> snake("ctrlDeps"), snake("ctrl_deps"), snake("int64Val")
    ('ctrl_deps', 'ctrl_deps', 'int64_val')
    """
    return re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name)


def _node_object(node: Node) -> dict[str, Any]:
    full = {
        "id": node.id, "name": node.name, "type": node.type, "ctrl_deps": node.ctrl_deps, "data_deps": node.data_deps,
        "start_time_micros": node.start_time_micros, "duration_micros": node.duration_micros,
        "inputs": node.inputs, "outputs": node.outputs, "attr": [_attr_object(*item) for item in node.attr.items()],
        "storage": base64.b64encode(node.storage).decode(),
    }  # fmt: skip
    return {key: value for key, value in full.items() if value or value == {} or key in ("id", "name", "type")}


def _attr_object(name: str, attr: Attr) -> dict[str, Any]:
    scalar = attr.type.removesuffix("_list")
    found: dict[str, Any] = {"name": name} | ({"doc_string": attr.doc_string} if attr.doc_string else {})
    if attr.type.endswith("_list"):
        return found | {attr.type: {"values": [_plain(scalar, value) for value in attr.value]}}
    return found | {f"{scalar}_val": _plain(scalar, attr.value)}


def _plain(scalar: str, value: Any) -> Any:
    if scalar == "bytes":
        return base64.b64encode(value).decode()
    if scalar in ("float", "double") and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _value(scalar: str, value: Any) -> Any:
    if scalar == "bytes":
        return base64.b64decode(value)
    if scalar in ("float", "double"):
        return _SPECIAL.get(value, value) if isinstance(value, str) else float(value)
    return int(value) if isinstance(value, str) and scalar not in ("string", "bool") else value


def _read_attr(item: Mapping[str, Any], path: pathlib.Path | str) -> tuple[str, Attr]:
    item = {snake(key): value for key, value in item.items()}
    keys = {f"{scalar}_val": (scalar, False) for scalar in SCALARS} | {f"{s}_list": (s, True) for s in SCALARS}
    held = [key for key in item if key not in ("name", "doc_string")]
    if "name" not in item or len(held) != 1 or held[0] not in keys:
        raise InputError(
            "an attribute is a name and one value", file=path, field="attr", value=dict(item), allowed=list(keys)[:6]
        )
    scalar, is_list = keys[held[0]]
    raw = item[held[0]]
    value = [_value(scalar, v) for v in raw.get("values", [])] if is_list else _value(scalar, raw)
    return item["name"], Attr(f"{scalar}_list" if is_list else scalar, value, item.get("doc_string", ""))


def _from_object(row: Mapping[str, Any], path: pathlib.Path | str) -> Node:
    for key in row:
        if key not in NODE_KEYS:
            raise InputError("unknown field", file=path, field=key, value=key, allowed=NODE_KEYS)
    if "id" not in row:
        raise InputError("a node without an id", file=path, field="id")
    infos = {
        key: {name: str(row[key].get(name, "")) for name in IO_FIELDS} for key in ("inputs", "outputs") if key in row
    }
    return Node(
        int(row["id"]), row.get("name", ""), row.get("type", NODE_TYPES[0]),
        [int(i) for i in row.get("ctrl_deps", [])], [int(i) for i in row.get("data_deps", [])],
        int(row.get("start_time_micros", 0)), int(row.get("duration_micros", 0)),
        infos.get("inputs"), infos.get("outputs"), dict(_read_attr(item, path) for item in row.get("attr", [])),
        base64.b64decode(row.get("storage", "")),
    )  # fmt: skip


def _from_flat(row: Mapping[str, Any], path: pathlib.Path | str) -> Node:
    for key in row:
        if key not in FLAT and key not in FLAT_ATTRIBUTES:
            raise InputError("unknown field", file=path, field=key, value=key, allowed=[*FLAT, *FLAT_ATTRIBUTES])
    missing = [key for key in ("Id", "NodeType") if key not in row]
    if missing:
        raise InputError("a node without this field", file=path, field=missing[0])
    if not 0 <= row["NodeType"] < len(NODE_TYPES):
        raise InputError("no such node type", file=path, field="NodeType", value=row["NodeType"])
    attr = {name: Attr(ATTRIBUTES[name], row[name]) for name in FLAT_ATTRIBUTES if name in row}
    return Node(
        row["Id"], row.get("Name", ""), NODE_TYPES[row["NodeType"]], [], list(row.get("data_deps", [])), 0,
        int(row.get("runtime", 0)), attr=attr,
    )  # fmt: skip
