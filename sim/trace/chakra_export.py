"""A pipelined step as Chakra traces: one a device, with the process groups of its gradients.

Devices are numbered as in `sim.pipeline.pipeline_step`. Operations of the order are compute nodes with whole
microseconds (an overlapped pair one after the other), hops are a send and a receive, gradients an all-reduce a stage. Each node waits
for the one before it on its engine, so that readers without engines keep the order.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from kernels.schedule import BACKWARD, INPUT_GRAD, WEIGHT_GRAD, Ints
from workloads.chakra import COLLECTIVES, Node, Trace, attributes, comm_groups
from workloads.pipeline import Op, OpArrays, compile_order


def step_traces(
    order: Sequence[Sequence[Op]],
    time_us: Ints,
    *,
    tp: int = 1,
    dp: int = 1,
    hop_byte: int = 0,
    gradient_byte: int = 0,
) -> tuple[list[Trace], dict[str, list[int]]]:
    """Traces by device and process groups by name. `time_us[kind, stage]`: whole microseconds."""
    arrays = compile_order(order)
    num_rank = arrays.rank_start.size - 1
    holders = [
        sorted(set(arrays.rank[_makes_gradient(arrays) & (arrays.stage == stage)].tolist()))
        for stage in range(arrays.num_stage)
    ]
    groups: list[list[int]] = []
    name: dict[tuple[int, int], str] = {}  # stage and tensor-parallel rank: the group
    for stage, ranks in enumerate(holders):
        for t in range(tp):
            name[stage, t] = str(len(groups))
            groups.append([(rank * dp + d) * tp + t for rank in ranks for d in range(dp)])
    places = itertools.product(range(num_rank), range(dp), range(tp))
    traces = [_trace(arrays, time_us, place, (tp, dp), (hop_byte, gradient_byte), name) for place in places]
    return traces, comm_groups(groups)


def _makes_gradient(arrays: OpArrays) -> np.ndarray:
    return np.isin(arrays.kind, (BACKWARD, INPUT_GRAD, WEIGHT_GRAD))


def _trace(
    arrays: OpArrays,
    time_us: Ints,
    place: tuple[int, int, int],
    size: tuple[int, int],
    byte: tuple[int, int],
    name: dict[tuple[int, int], str],
) -> Trace:
    """The trace of the device at `place` (pipeline rank, replica, tensor-parallel rank)."""
    (rank, d, t), (tp, dp) = place, size
    nodes: list[Node] = []
    of_op: dict[int, int] = {}

    def device(other: int) -> int:
        return (other * dp + d) * tp + t

    before: list[int] = []
    for op in range(int(arrays.rank_start[rank]), int(arrays.rank_start[rank + 1])):
        deps = list(before)
        source = int(arrays.dep[op])
        if source >= 0 and arrays.rank[source] != rank:
            attr = attributes(comm_src=device(int(arrays.rank[source])), comm_dst=device(rank), comm_size=byte[0],
                              comm_tag=op)  # fmt: skip
            nodes.append(Node(len(nodes), f"recv {arrays.name(source)}", "COMM_RECV_NODE", attr=attr))
            deps.append(nodes[-1].id)
        elif source >= 0:
            deps.append(of_op[source])
        time = int(time_us[arrays.kind[op], arrays.stage[op]])
        nodes.append(
            Node(len(nodes), arrays.name(op), "COMP_NODE", [], list(dict.fromkeys(deps)), 0, time,
                 attr=attributes(is_cpu_op=False))
        )  # fmt: skip
        of_op[op] = nodes[-1].id
        before = [nodes[-1].id]
    for op in np.flatnonzero((arrays.dep >= 0) & (arrays.rank != rank)).tolist():
        source = int(arrays.dep[op])
        if arrays.rank[source] == rank:
            attr = attributes(comm_src=device(rank), comm_dst=device(int(arrays.rank[op])), comm_size=byte[0],
                              comm_tag=op)  # fmt: skip
            label = f"send {arrays.name(source)}"
            nodes.append(Node(len(nodes), label, "COMM_SEND_NODE", data_deps=[of_op[source]], attr=attr))
    makes = _makes_gradient(arrays) & (arrays.rank == rank)
    for stage in sorted(set(arrays.stage[makes].tolist())):
        last = int(np.flatnonzero(makes & (arrays.stage == stage))[-1])
        attr = attributes(comm_type=COLLECTIVES.index("ALL_REDUCE"), comm_size=byte[1], pg_name=name[stage, t])
        nodes.append(
            Node(len(nodes), f"gradient of stage {stage}", "COMM_COLL_NODE", data_deps=[of_op[last]], attr=attr)
        )
    return Trace(node=nodes)
