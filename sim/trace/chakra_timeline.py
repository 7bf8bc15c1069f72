"""A Chakra trace as a timeline: the recorded times, or where none were recorded, as soon as dependencies let them."""

import pathlib
from typing import Any

from kernels.digits import whole
from sim.fabric.replay import replay_fast, work
from workloads.chakra import COLLECTIVES, Node, Trace, check_clock, to_graph
from workloads.graph import compile_graph

THREADS: tuple[str, ...] = ("cpu", "compute", "memory", "communication")


def thread_of(node: Node) -> int:
    """The engine that a node holds: nodes of one run one after the other."""
    if node.type.startswith("COMM_"):
        return THREADS.index("communication")
    if node.type in ("MEM_LOAD_NODE", "MEM_STORE_NODE", "STORAGE_NODE", "CHECKPOINT_NODE"):
        return THREADS.index("memory")
    return THREADS.index("cpu" if node.get("is_cpu_op", False) else "compute")


def times_us(trace: Trace) -> list[tuple[Node, int, int]]:
    """(node, start, end) of every node in microseconds, in an order that dependencies allow."""
    check_clock(trace)
    index = compile_graph(to_graph(trace))
    nodes = [trace.node[i] for i in index.order]
    if any(node.start_time_micros for node in nodes):
        return [(node, node.start_time_micros, node.start_time_micros + node.duration_micros) for node in nodes]
    graph = to_graph(Trace(node=nodes))
    todo = work(compile_graph(graph), [thread_of(node) for node in nodes], [node.duration_micros for node in nodes])
    times = replay_fast(todo)
    return list(
        zip(nodes, times.start_ps.tolist(), times.end_ps.tolist(), strict=True)
    )  # the unit is that of durations


def trace_events(trace: Trace, rank: int = 0) -> list[dict[str, Any]]:
    """Chrome trace events: a process a rank, a thread an engine, an arrow for every data dependency between engines."""
    pid = rank + 1  # Perfetto hides process 0
    found: list[dict[str, Any]] = [{"ph": "M", "pid": pid, "name": "process_name", "args": {"name": f"rank {rank}"}}]
    for tid, name in enumerate(THREADS, 1):
        found.append({"ph": "M", "pid": pid, "tid": tid, "name": "thread_name", "args": {"name": name}})
    timed = times_us(trace)
    at = {node.id: (thread_of(node) + 1, start, end) for node, start, end in timed}
    arrow = 0
    for node, start, end in timed:
        if node.type == "METADATA_NODE":
            continue
        plain = {name: attr.value for name, attr in node.attr.items() if isinstance(attr.value, int | float | str)}
        args: dict[str, Any] = plain | {"id": node.id}
        if "comm_type" in args and 0 <= args["comm_type"] < len(COLLECTIVES):
            args["comm_type"] = COLLECTIVES[args["comm_type"]]
        tid = at[node.id][0]
        found.append({"ph": "X", "pid": pid, "tid": tid, "name": node.name or node.type, "cat": node.type, "ts": start,
                      "dur": end - start, "args": args})  # fmt: skip
        for before in node.data_deps:
            from_tid, _, from_end = at[before]
            if from_tid != tid:
                arrow += 1
                flow = {"pid": pid, "cat": "dependency", "name": "data", "id": f"{rank}.{arrow}"}
                found.append({"ph": "s", "tid": from_tid, "ts": from_end, **flow})
                found.append({"ph": "f", "bp": "e", "tid": tid, "ts": start, **flow})
    return found


def rank_of(path: pathlib.Path) -> int:
    """The rank in `NAME.<rank>.et`; 0 without one.

    >>> rank_of(pathlib.Path("llama.3.et")), rank_of(pathlib.Path("llama.et"))
    (3, 0)
    """
    part = path.name.split(".")[1:-1]
    return next((number for text in reversed(part) if (number := whole(text)) is not None), 0)
