"""The price of a whole operator table: each row goes to the kernel file of its kind.

Time and energy are integers (picoseconds, nanojoules), so that sums do not depend on their order. What an operator
draws is said in `kernels.power` (links and switches are in the node's power).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.attention import attention_op_s
from kernels.attention_backward import backward_s
from kernels.attention_work import Shape, attention_shape, fit_format
from kernels.collective import collective_s
from kernels.collective_layout import memory_byte
from kernels.errors import InputError
from kernels.expert_exchange import EXCHANGE_SHAPE, exchange_s
from kernels.formats import FORMATS
from kernels.gemm import gemm_s
from kernels.jit import njit, njit_inline
from kernels.kv_write import kv_write_s
from kernels.machine import (
    ATTENTION_W,
    DYNAMIC_W,
    EXPERT_BOUND,
    EXPERT_IDEAL_S,
    EXPERT_S,
    IDLE_W,
    NUM_CORE,
    PRODUCT_W,
    Machine,
)
from kernels.moe import moe_s
from kernels.optable import (
    ALL_REDUCE,
    ALL_TO_ALL,
    ATTN_BACKWARD,
    ATTN_DECODE,
    ATTN_PREFILL,
    BOUND_LINK,
    BOUND_PIM_COMPUTE,
    COMBINE,
    COST_DTYPE,
    DISPATCH,
    ENGINE_COPY,
    ENGINE_LINK,
    ENGINE_PIM,
    ENGINE_TENSOR,
    ENGINE_VECTOR,
    GEMM,
    KINDS,
    KV_WRITE,
    MOE,
    NUM_KIND,
    P2P,
    SCAN,
    SCAN_CHANNEL,
    TRANSFER,
    CostTable,
    OpTable,
    WorkTable,
)
from kernels.power import copy_j, link_j, operator_j
from kernels.scan import scan_s
from kernels.stream import stream_s
from kernels.transfer import transfer_s
from kernels.units import FOREVER_PS, to_nj, to_ps

Floats = npt.NDArray[np.float64]
Fits = npt.NDArray[np.float64]  # [NUM_KIND, NUM_FORMAT, NUM_FIT]
Links = npt.NDArray[np.float64]  # [len(LINKS), len(LINK_FIELDS)]

Rows = npt.NDArray[np.int64]
CLASSES = ("multiply", "attend", "backward", "expert", "stream", "link", "chain")
MULTIPLY, ATTEND, BACKWARD, EXPERT, STREAM, LINK, CHAIN = range(len(CLASSES))
CLASS = tuple(  # of each kind
    MULTIPLY if kind == GEMM
    else ATTEND if kind in (ATTN_PREFILL, ATTN_DECODE)
    else BACKWARD if kind == ATTN_BACKWARD
    else EXPERT if kind == MOE
    else LINK if ALL_REDUCE <= kind <= TRANSFER or kind in (DISPATCH, COMBINE)
    else CHAIN if kind in (SCAN, SCAN_CHANNEL)
    else STREAM
    for kind in range(NUM_KIND)
)  # fmt: skip

BLOCK = 4096  # rows of a pass: 640 KiB of operators
LATEST_S = FOREVER_PS * 1e-12
WEIGHT_BYTE = tuple(f.weight_bit / 8 for f in FORMATS)  # a stored weight
ACT_BYTE = tuple(f.act_bit / 8 for f in FORMATS)  # a stored activation


def price_table(ops: OpTable, work: WorkTable, machine: Machine) -> CostTable:
    """Cost of every row of `ops` (all its repetitions), shape `[len(ops)]` of `COST_DTYPE`.

    Raises `InputError` for a kind that nothing prices, and where a multiply asks for a number format that the machine
    has no rate for.
    """
    cost = np.zeros(len(ops), COST_DTYPE)
    failed = price_into(ops, work, machine, cost)
    if failed >= 0:
        row = ops[failed]
        if not 0 <= row["kind"] < NUM_KIND:
            raise InputError(f"no such kind (operator {failed})", field="kind", value=int(row["kind"]), allowed=KINDS)
        raise InputError(
            f"the machine has no rate for this format (operator {failed}, {KINDS[row['kind']]})",
            field="fmt",
            value=FORMATS[row["fmt"]].name,
            allowed=[f.name for f, peak in zip(FORMATS, machine.peak_flop_per_s, strict=True) if peak > 0],
        )
    return cost


def price_into(ops: OpTable, work: WorkTable, machine: Machine, cost: CostTable) -> int:
    """Fills `cost`, but for rows of no repetition, whose cost stays as it is; returns -1, or the first row whose kind
    is none or whose format has no rate (then that block and the rest stay zero).

    Rows go in blocks that stay in the second-level cache: sorted by class of kind, then one small loop a class, which
    is compiled when a table first has rows of that class.
    """
    rows = np.empty((len(CLASSES), min(BLOCK, len(ops))), np.int64)
    count = np.empty(len(CLASSES), np.int64)
    for start in range(0, max(1, len(ops)), BLOCK):
        failed = _sort(ops, start, machine.peak_flop_per_s, rows, count)
        if failed >= 0:
            return int(failed)
        for c in np.flatnonzero(count).tolist():
            price_class(c, ops, rows[c, : count[c]], work, machine, cost)
    return -1


def price_class(c: int, ops: OpTable, rows: Rows, work: WorkTable, machine: Machine, cost: CostTable) -> None:
    """Prices the rows of one of `CLASSES`; with no rows, its kernel is compiled (or loaded) and nothing else."""
    peak, rate, fit = machine.peak_flop_per_s, machine.rate, machine.fit
    if c == MULTIPLY:
        _gemms(ops, rows, peak, rate, fit, cost)
    elif c == ATTEND:
        _attentions(ops, rows, work, peak, rate, fit, cost)
    elif c == BACKWARD:
        _backwards(ops, rows, work, peak, rate, fit, cost)
    elif c == EXPERT:
        _experts(ops, rows, peak, rate, fit, machine.expert, cost)
    elif c == CHAIN:
        _scans(ops, rows, peak, rate, fit, cost)
    elif c == STREAM:
        _streams(ops, rows, rate, fit, cost)
    else:
        _links(ops, rows, rate, machine.link, fit, np.empty(len(EXCHANGE_SHAPE)), cost)


@njit
def _sort(ops: OpTable, start: int, peak: Floats, rows: Rows, count: Rows) -> int:
    """Writes the rows of the block at `start` to `rows`, by class, without those of no repetition (a table keeps their
    places, and their shapes may be empty); the first that cannot be priced, or -1."""
    for c in range(len(CLASSES)):
        count[c] = 0
    for i in range(start, min(start + BLOCK, len(ops))):
        kind = ops[i]["kind"]
        if kind < 0 or kind >= NUM_KIND:
            return i
        if (kind <= MOE or kind == ATTN_BACKWARD or kind >= SCAN) and peak[ops[i]["fmt"]] <= 0.0:
            return i
        if ops[i]["count"] == 0:
            continue
        c = CLASS[kind]
        rows[c, count[c]] = i
        count[c] += 1
    return -1


@njit_inline
def _put(cost: CostTable, i: int, count: int, seconds: float, energy_j: float, engine: int, bound: int) -> None:
    """Time and energy of all repetitions into a row of the cost table."""
    number = int(count)  # 64 bits
    cost[i]["time_ps"] = FOREVER_PS if number * seconds >= LATEST_S else number * to_ps(seconds)
    cost[i]["energy_nj"] = number * to_nj(energy_j)
    cost[i]["engine"] = engine
    cost[i]["bound"] = bound


@njit
def _gemms(ops: OpTable, rows: Rows, peak: Floats, rate: Floats, fit: Fits, cost: CostTable) -> None:
    for i in rows:
        op = ops[i]
        fmt = op["fmt"]
        weight_byte, act_byte, write_byte = op["weight_byte"], op["act_byte"], op["write_byte"]
        seconds, ideal_s, bound = gemm_s(
            op["m"], op["n"], op["k"], op["batch"], weight_byte, act_byte, write_byte, peak[fmt], rate,
            fit[GEMM, fmt],
        )  # fmt: skip
        byte = weight_byte + act_byte + write_byte
        joule = operator_j(seconds, ideal_s, bound, op["flop"] / peak[fmt], byte, rate[PRODUCT_W], rate)
        _put(cost, i, op["count"], seconds, joule, ENGINE_TENSOR, bound)


@njit
def _streams(ops: OpTable, rows: Rows, rate: Floats, fit: Fits, cost: CostTable) -> None:
    for i in rows:
        op = ops[i]
        kind = op["kind"]
        flop, write_byte = op["flop"], op["write_byte"]
        read_byte = op["weight_byte"] + op["act_byte"] + op["kv_byte"]
        if kind == KV_WRITE:
            seconds, ideal_s, bound = kv_write_s(op["m"], op["n"], read_byte, write_byte, rate, fit[kind, op["kv_fmt"]])
        else:
            seconds, ideal_s, bound = stream_s(flop, read_byte, write_byte, rate, fit[kind, op["fmt"]])
        joule = operator_j(seconds, ideal_s, bound, 0.0, read_byte + write_byte, 0.0, rate)  # no tensor pipe
        _put(cost, i, op["count"], seconds, joule, ENGINE_VECTOR, bound)


@njit
def _attentions(
    ops: OpTable, rows: Rows, work: WorkTable, peak: Floats, rate: Floats, fit: Fits, cost: CostTable
) -> None:
    for i in rows:
        op = ops[i]
        decodes = op["kind"] == ATTN_DECODE
        spans = work[op["work_start"] : op["work_stop"]]
        chosen = fit_format(op["num_kv_head"], op["head_dim"], op["v_head_dim"], op["fmt"], op["kv_fmt"])
        seconds, ideal_s, bound = attention_op_s(
            spans, decodes, _shape(op), peak[op["fmt"]], rate, fit[op["kind"], chosen]
        )
        _put_attention(op, i, peak, rate, cost, seconds, ideal_s, bound)


@njit
def _backwards(
    ops: OpTable, rows: Rows, work: WorkTable, peak: Floats, rate: Floats, fit: Fits, cost: CostTable
) -> None:
    for i in rows:
        op = ops[i]
        spans = work[op["work_start"] : op["work_stop"]]
        seconds, ideal_s, bound = backward_s(spans, _shape(op), peak[op["fmt"]], rate, fit[op["kind"], op["kv_fmt"]])
        _put_attention(op, i, peak, rate, cost, seconds, ideal_s, bound)


@njit_inline
def _shape(op: Any) -> Shape:
    byte = WEIGHT_BYTE[op["kv_fmt"]]
    return attention_shape(op["num_head"], op["num_kv_head"], op["head_dim"], op["v_head_dim"], op["window"], byte)


@njit_inline
def _put_attention(
    op: Any, i: int, peak: Floats, rate: Floats, cost: CostTable, seconds: float, ideal_s: float, bound: int
) -> None:
    byte = op["weight_byte"] + op["act_byte"] + op["kv_byte"] + op["write_byte"]
    joule = operator_j(seconds, ideal_s, bound, op["flop"] / peak[op["fmt"]], byte, rate[ATTENTION_W], rate)
    _put(cost, i, op["count"], seconds, joule, _engine(bound), bound)


@njit
def _links(ops: OpTable, rows: Rows, rate: Floats, link: Links, fit: Fits, shape: Floats, cost: CostTable) -> None:
    for i in rows:
        op = ops[i]
        kind = op["kind"]
        if ALL_REDUCE <= kind <= P2P:
            seconds, _, bound = collective_s(
                kind, op["link_byte"], op["group_size"], op["group_node"], link, fit[kind, op["fmt"]]
            )
            byte = memory_byte(kind, op["link_byte"], op["group_size"]) if op["group_size"] > 1 else 0.0
            _put(cost, i, op["count"], seconds, link_j(seconds, byte, rate), ENGINE_LINK, bound)
        elif kind in (DISPATCH, COMBINE):
            shape[:] = (
                op["m"], op["n"], op["topk"], op["num_expert"], op["group_size"], op["group_node"], op["window"],
                op["k"],
            )  # fmt: skip
            seconds, _, bound = exchange_s(shape, rate[NUM_CORE], link, fit[kind, op["fmt"]])
            byte = memory_byte(ALL_TO_ALL, op["link_byte"], op["group_size"])
            _put(cost, i, op["count"], seconds, link_j(seconds, byte, rate), ENGINE_LINK, bound)
        elif kind == TRANSFER:
            seconds = transfer_s(op["link_byte"], op["group_size"], link)
            _put(cost, i, op["count"], seconds, copy_j(seconds, op["link_byte"], rate), ENGINE_COPY, BOUND_LINK)


@njit
def _scans(ops: OpTable, rows: Rows, peak: Floats, rate: Floats, fit: Fits, cost: CostTable) -> None:
    for i in rows:
        op = ops[i]
        fmt = op["fmt"]
        byte = op["weight_byte"] + op["act_byte"] + op["write_byte"]
        seconds, ideal_s, bound = scan_s(
            op["m"], op["batch"], op["num_head"], op["flop"], byte, peak[fmt], rate, fit[op["kind"], fmt]
        )
        joule = operator_j(seconds, ideal_s, bound, op["flop"] / peak[fmt], byte, rate[PRODUCT_W], rate)
        _put(cost, i, op["count"], seconds, joule, ENGINE_TENSOR, bound)


@njit
def _experts(ops: OpTable, rows: Rows, peak: Floats, rate: Floats, fit: Fits, expert: Floats, cost: CostTable) -> None:
    for i in rows:
        op = ops[i]
        fmt = op["fmt"]
        if len(expert) > 0:
            seconds, ideal_s, bound = expert_look_up(expert, op["m"])
        else:
            seconds, ideal_s, bound = moe_s(
                op["m"], op["k"], op["n"], op["num_expert"], op["topk"], op["tp"], op["ep"], op["skew"],
                WEIGHT_BYTE[fmt], ACT_BYTE[fmt], peak[fmt], rate, fit[MOE, fmt],
            )  # fmt: skip
        if len(expert) > 0:  # experts on either engine: the look-up has their joules
            joule = rate[IDLE_W] * seconds + rate[DYNAMIC_W] * ideal_s
        else:
            byte = op["weight_byte"] + op["act_byte"] + op["write_byte"]
            joule = operator_j(seconds, ideal_s, bound, op["flop"] / peak[fmt], byte, rate[PRODUCT_W], rate)
        _put(cost, i, op["count"], seconds, joule, _engine(bound), bound)


@njit
def expert_look_up(expert: Floats, token: int) -> tuple[float, float, int]:
    """Seconds, speed-of-light seconds and bound of a layer's experts on `token` tokens; beyond the last row of the
    look-up (large batches fill every expert) in proportion.

    >>> table = np.array([[0.0, 0.0, 2.0, 0.0], [3.0, 2.0, 2.0, 0.0]])
    >>> expert_look_up(table, 1), expert_look_up(table, 4)
    ((3.0, 2.0, 2), (12.0, 8.0, 2))
    """
    last = len(expert) - 1
    row = expert[min(token, last)]
    scale = max(1.0, token / last)
    return row[EXPERT_S] * scale, row[EXPERT_IDEAL_S] * scale, int(row[EXPERT_BOUND])


@njit_inline
def _engine(bound: int) -> int:
    return ENGINE_PIM if bound >= BOUND_PIM_COMPUTE else ENGINE_TENSOR
