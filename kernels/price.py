"""The price of a whole operator table in one jitted call: each row goes to the kernel file of its kind.

Time and energy are integers (picoseconds, nanojoules), so that sums do not depend on their order. Energy of an
operator is idle power over its time, dynamic power over its speed-of-light time, and explicit joules a FLOP and
a byte where a machine states them.
"""

import numpy as np

from kernels.attention import attention_op_s
from kernels.attention_work import attention_shape
from kernels.collective import collective_s
from kernels.errors import InputError
from kernels.formats import FORMATS
from kernels.gemm import gemm_s
from kernels.jit import njit
from kernels.machine import (
    BYTE_J,
    DYNAMIC_W,
    FLOP_J,
    IDLE_W,
    LINK_BYTE_PER_S,
    LINK_HOST,
    LINK_LATENCY_S,
    Machine,
)
from kernels.moe import moe_s
from kernels.optable import (
    ALL_REDUCE,
    ATTN_DECODE,
    ATTN_PREFILL,
    BOUND_LINK,
    COST_DTYPE,
    ENGINE_COPY,
    ENGINE_LINK,
    ENGINE_TENSOR,
    ENGINE_VECTOR,
    GEMM,
    KINDS,
    MOE,
    P2P,
    TRANSFER,
    CostTable,
    OpTable,
    WorkTable,
)
from kernels.stream import stream_s
from kernels.units import to_nj, to_ps

WEIGHT_BYTE = tuple(f.weight_bit / 8 for f in FORMATS)  # a stored weight
ACT_BYTE = tuple(f.act_bit / 8 for f in FORMATS)  # a stored activation


def price_table(ops: OpTable, work: WorkTable, machine: Machine) -> CostTable:
    """Cost of every row of `ops` (all its repetitions), shape `[len(ops)]` of `COST_DTYPE`.

    Raises `InputError` where a multiply asks for a number format that the machine has no rate for.
    """
    cost = np.zeros(len(ops), COST_DTYPE)
    failed = price_into(ops, work, machine, cost)
    if failed >= 0:
        row = ops[failed]
        raise InputError(
            f"the machine has no rate for this format (operator {failed}, {KINDS[row['kind']]})",
            field="fmt",
            value=FORMATS[row["fmt"]].name,
            allowed=[f.name for f, peak in zip(FORMATS, machine.peak_flop_per_s, strict=True) if peak > 0],
        )
    return cost


@njit
def price_into(ops: OpTable, work: WorkTable, machine: Machine, cost: CostTable) -> int:
    """Fills `cost`; returns -1, or the first row whose format has no rate (that row and the rest stay zero)."""
    for i in range(len(ops)):
        op = ops[i]
        kind = op["kind"]
        fmt = op["fmt"]
        if kind in (GEMM, MOE, ATTN_PREFILL, ATTN_DECODE) and machine.peak_flop_per_s[fmt] <= 0.0:
            return i
        seconds, ideal_s, bound, engine = op_s(op, work, machine)
        count = op["count"]
        time_ps = to_ps(seconds)
        energy_j = (
            machine.rate[IDLE_W] * seconds + machine.rate[DYNAMIC_W] * ideal_s + op["flop"] * machine.rate[FLOP_J]
        )
        if machine.rate[BYTE_J] > 0.0:
            byte = op["weight_byte"] + op["act_byte"] + op["kv_byte"] + op["write_byte"]
            energy_j += byte * machine.rate[BYTE_J]
        cost[i]["time_ps"] = count * time_ps
        cost[i]["energy_nj"] = count * to_nj(energy_j)
        cost[i]["engine"] = engine
        cost[i]["bound"] = bound
    return -1


@njit
def op_s(op: np.void, work: WorkTable, machine: Machine) -> tuple[float, float, int, int]:
    """One repetition of one operator: seconds, speed-of-light seconds, bound, engine."""
    kind = op["kind"]
    fmt = op["fmt"]
    rate = machine.rate
    if kind == GEMM:
        seconds, ideal_s, bound = gemm_s(
            op["m"], op["n"], op["k"], op["batch"],
            op["weight_byte"], op["act_byte"], op["write_byte"],
            machine.peak_flop_per_s[fmt], rate, machine.fit[kind, fmt],
        )  # fmt: skip
        return seconds, ideal_s, bound, ENGINE_TENSOR
    if kind == MOE:
        seconds, ideal_s, bound = moe_s(
            op["m"], op["k"], op["n"], op["num_expert"], op["topk"], op["tp"], op["ep"], op["skew"],
            WEIGHT_BYTE[fmt], ACT_BYTE[fmt], machine.peak_flop_per_s[fmt], rate, machine.fit[kind, fmt],
        )  # fmt: skip
        return seconds, ideal_s, bound, ENGINE_TENSOR
    if kind == TRANSFER:
        link_s = op["link_byte"] / machine.link[LINK_HOST, LINK_BYTE_PER_S] + machine.link[LINK_HOST, LINK_LATENCY_S]
        return link_s, link_s, BOUND_LINK, ENGINE_COPY
    if kind in (ATTN_PREFILL, ATTN_DECODE):
        kv_fmt = op["kv_fmt"]
        shape = attention_shape(
            op["num_head"], op["num_kv_head"], op["head_dim"], op["v_head_dim"], op["window"], WEIGHT_BYTE[kv_fmt]
        )
        rows = work[op["work_start"] : op["work_stop"]]
        seconds, ideal_s, bound = attention_op_s(
            rows, kind == ATTN_DECODE, shape, machine.peak_flop_per_s[fmt], rate, machine.fit[kind, kv_fmt]
        )
        return seconds, ideal_s, bound, ENGINE_TENSOR
    if ALL_REDUCE <= kind <= P2P:
        seconds, ideal_s, bound = collective_s(
            kind, op["link_byte"], op["group_size"], op["group_node"], machine.link, machine.fit[kind, fmt]
        )
        return seconds, ideal_s, bound, ENGINE_LINK
    read_byte = op["weight_byte"] + op["act_byte"] + op["kv_byte"]
    seconds, ideal_s, bound = stream_s(op["flop"], read_byte, op["write_byte"], rate, machine.fit[kind, fmt])
    return seconds, ideal_s, bound, ENGINE_VECTOR
