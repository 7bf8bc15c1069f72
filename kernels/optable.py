"""The operator table: the one thing that workloads make and machines price.

A row of `OP_DTYPE` is an operator on **one device** (shapes and bytes after sharding), executed `count`
times in a row (identical layers). A row of `WORK_DTYPE` is a rectangle or triangle of attention: an
attention operator owns the rows `work_start:work_stop`, so that shared spans, trees, chunks, windows and
split KV are lists of rows and never a special case. Operators carry FLOPs, bytes and shapes, never seconds.

====================  =======================================================================
kind                  shape columns
====================  =======================================================================
GEMM                  ``m x k`` by ``k x n``, ``batch`` independent instances
ATTN_PREFILL / DECODE ``num_head``, ``num_kv_head``, ``head_dim`` (q, k), ``v_head_dim``, ``window``,
                      rows of work; `kv_fmt` is the stored KV format
MOE                   ``m`` tokens of the whole expert group (before top-k), ``k`` hidden, ``n`` width of a
                      gated expert (a plain one: two thirds of its own); ``num_expert`` in all, ``topk``,
                      ``ep`` and ``tp`` sharding, ``skew`` of the load (0 balanced)
NORM ROPE ACT ADD     ``m`` tokens, ``n`` width
EMBED SAMPLE KV_WRITE ``m`` tokens, ``n`` width
CONVERT COPY          bytes read and written
CONV RECUR            bytes read and written: the convolution before a recurrence; a step of it, or a recurrence that is
                      no matrix product in prompts either
SCAN SCAN_CHANNEL     ``m`` tokens of ``batch`` prompts, ``num_head`` chains each: a recurrence in chunks, whose decay
                      is one a head, or one a channel
OPTIMIZER LOSS        bytes read and written, as the element-wise kinds
ATTN_BACKWARD         as ATTN_PREFILL, of whose rows of work it is the backward pass
ALL_REDUCE ...        ``link_byte``: message byte a device (input for reduce-type, output for gather),
                      ``group_size`` devices spread over ``group_node`` nodes
DISPATCH COMBINE      ``m`` tokens of a device to their experts and back, ``n`` bytes a row, ``topk`` of
                      ``num_expert``; ``group_size``, ``group_node`` as above, ``window`` nodes that a token goes to
                      at most (0: all), ``k`` cores given to the kernel (0: its own number)
TRANSFER              ``link_byte`` over a host or storage link, one way, while ``group_size`` devices of a box do so
====================  =======================================================================
"""

import numpy as np
import numpy.typing as npt

KINDS: tuple[str, ...] = (
    "gemm", "attn_prefill", "attn_decode", "moe",
    "norm", "rope", "act", "add", "embed", "sample", "kv_write", "convert", "copy",
    "all_reduce", "all_gather", "reduce_scatter", "all_to_all", "p2p", "transfer",
    "optimizer", "attn_backward", "loss", "dispatch", "combine",
    "conv", "recur", "scan", "scan_channel",
)  # fmt: skip
KIND_CODE: dict[str, int] = {name: code for code, name in enumerate(KINDS)}
NUM_KIND = len(KINDS)
(
    GEMM, ATTN_PREFILL, ATTN_DECODE, MOE,
    NORM, ROPE, ACT, ADD, EMBED, SAMPLE, KV_WRITE, CONVERT, COPY,
    ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER, ALL_TO_ALL, P2P, TRANSFER,
    OPTIMIZER, ATTN_BACKWARD, LOSS, DISPATCH, COMBINE,
    CONV, RECUR, SCAN, SCAN_CHANNEL,
) = range(NUM_KIND)  # fmt: skip

PHASES: tuple[str, ...] = ("any", "prefill", "decode", "forward", "input_grad", "weight_grad", "update")
PHASE_CODE: dict[str, int] = {name: code for code, name in enumerate(PHASES)}

BOUNDS: tuple[str, ...] = ("launch", "compute", "memory", "link", "latency", "host", "pim compute", "pim memory")
(
    BOUND_LAUNCH, BOUND_COMPUTE, BOUND_MEMORY, BOUND_LINK, BOUND_LATENCY, BOUND_HOST,
    BOUND_PIM_COMPUTE, BOUND_PIM_MEMORY,  # of units in the memory, which the operator ran on
) = range(len(BOUNDS))  # fmt: skip

ENGINES: tuple[str, ...] = ("tensor", "vector", "memory", "pim", "copy", "link", "cpu")
ENGINE_TENSOR, ENGINE_VECTOR, ENGINE_MEMORY, ENGINE_PIM, ENGINE_COPY, ENGINE_LINK, ENGINE_CPU = range(len(ENGINES))

OP_DTYPE = np.dtype(
    [
        ("name", "S20"),  # what the model calls it: qkv_proj, mlp_down, ...
        ("kind", "i1"),
        ("fmt", "i1"),  # compute format (a pair of weight and activation formats)
        ("kv_fmt", "i1"),  # stored KV format of attention and KV writes
        ("phase", "i1"),
        ("count", "i4"),  # identical repetitions (layers)
        ("m", "i4"), ("n", "i4"), ("k", "i4"), ("batch", "i4"),
        ("num_head", "i4"), ("num_kv_head", "i4"), ("head_dim", "i4"), ("v_head_dim", "i4"), ("window", "i4"),
        ("work_start", "i4"), ("work_stop", "i4"),
        ("num_expert", "i4"), ("topk", "i4"), ("tp", "i4"), ("ep", "i4"), ("skew", "f4"),
        ("flop", "f8"),  # a multiply-add counts 2
        ("weight_byte", "f8"), ("act_byte", "f8"), ("kv_byte", "f8"),  # read from device memory
        ("write_byte", "f8"),  # written to device memory
        ("link_byte", "f8"), ("group_size", "i4"), ("group_node", "i4"),
        ("layer", "i4"), ("request", "i4"), ("microbatch", "i4"),  # tags; -1: none
    ]
)  # fmt: skip

WORK_DTYPE = np.dtype(
    [
        ("count", "i8"),  # identical sequences
        ("query_len", "i8"),  # query rows
        ("kv_len", "i8"),  # keys that the last query row sees, its own included
        ("causal", "i1"),  # 1: row r of q sees kv_len - query_len + r + 1 keys; 0: all see kv_len, a shared span whose
        # partial result is merged; 2: all see kv_len, nothing to merge (encoder, cross attention)
    ]
)

COST_DTYPE = np.dtype(
    [
        ("time_ps", "i8"),  # all repetitions
        ("energy_nj", "i8"),
        ("engine", "i1"),
        ("bound", "i1"),  # what bound it
    ]
)

OpTable = npt.NDArray[np.void]
WorkTable = npt.NDArray[np.void]
CostTable = npt.NDArray[np.void]


def empty(num_op: int, num_work: int = 0) -> tuple[OpTable, WorkTable]:
    """Zeroed operator and work tables with neutral tags (`count` 1, tags -1)."""
    ops = np.zeros(num_op, OP_DTYPE)
    for field in ("count", "batch", "group_size", "group_node", "tp", "ep"):
        ops[field] = 1
    for field in ("layer", "request", "microbatch"):
        ops[field] = -1
    work = np.zeros(num_work, WORK_DTYPE)
    work["count"] = 1
    return ops, work


def mem_byte(ops: OpTable) -> npt.NDArray[np.float64]:
    """Bytes to and from device memory, a repetition."""
    return np.asarray(ops["weight_byte"] + ops["act_byte"] + ops["kv_byte"] + ops["write_byte"])


def op_per_byte(ops: OpTable) -> npt.NDArray[np.float64]:
    """Operational intensity (Op/B): FLOPs a byte of device memory; infinity where no byte moves.

    >>> ops, _ = empty(1); ops["flop"], ops["weight_byte"] = 8.0, 2.0
    >>> float(op_per_byte(ops)[0])
    4.0
    """
    byte = mem_byte(ops)
    return np.divide(ops["flop"], byte, out=np.full(len(ops), np.inf), where=byte > 0)
