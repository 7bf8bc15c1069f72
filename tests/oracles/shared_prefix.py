"""Attention of one decode step whose sequences share a prefix: every sequence reading it for itself, or all of
them together reading it once (RelayAttention, Hydragen) and merging.

The operators are the same that a model lowers to: a cache write, decode attention on each sequence's own span, and
for the shared span one row of work without causality that holds the queries of all. The merge of the two partial
results is part of that row's price.
"""

from typing import Any

import numpy as np

from hw_models import catalog
from hw_models.device import cost, machine
from kernels import optable as op
from kernels.attention import LAUNCH_S, MERGE_S
from kernels.attention_work import CAUSAL, SPAN
from kernels.formats import FORMAT_CODE
from kernels.machine import Machine
from kernels.optable import OpTable, WorkTable

KERNEL_S = 8e-6  # a kernel the host launches: the measured cache write of 1 to 8 tokens, which moves next to nothing
MERGE_KERNEL_S = 1.5e-6  # merging two partial results: measured at 1 to 2 us for 1 to 16 requests


def operators(
    num_seq: int, own_len: int, prefix_len: int, together: bool, num_head: int, num_kv_head: int, head_dim: int
) -> tuple[OpTable, WorkTable]:
    """Operators of one layer's step: `num_seq` sequences of `own_len` keys after a prefix of `prefix_len`, in bf16.

    >>> ops, work = operators(4, 128, 1024, True, 32, 32, 128)
    >>> [(int(row["count"]), int(row["query_len"]), int(row["kv_len"])) for row in work]
    [(4, 1, 128), (1, 4, 1024)]
    """
    ops, work = op.empty(3 if together else 2, 2 if together else 1)
    bf16 = FORMAT_CODE["bf16"]
    width = 2 * num_kv_head * head_dim
    ops["fmt"], ops["kv_fmt"] = bf16, bf16
    ops["kind"][:2] = op.KV_WRITE, op.ATTN_DECODE
    ops["m"][0], ops["n"][0] = num_seq, width
    ops["act_byte"][0] = ops["write_byte"][0] = 2.0 * num_seq * width
    spans = [(num_seq, 1, own_len + (0 if together else prefix_len), CAUSAL)]
    if together:
        ops["kind"][2] = op.ATTN_PREFILL
        spans.append((1, num_seq, prefix_len, SPAN))
    for i, span in enumerate(spans):
        work[i] = span
        row = ops[i + 1]
        row["work_start"], row["work_stop"] = i, i + 1
        row["num_head"], row["num_kv_head"], row["head_dim"], row["v_head_dim"] = (
            num_head, num_kv_head, head_dim, head_dim,
        )  # fmt: skip
        count, query, keys, _ = span
        row["flop"] = 4.0 * count * query * keys * num_head * head_dim
        row["kv_byte"] = 2.0 * count * keys * width
        row["act_byte"] = row["write_byte"] = 2.0 * num_seq * num_head * head_dim
    return ops, work


def launched(system: str, kernel_s: float = KERNEL_S, merge_s: float = MERGE_KERNEL_S) -> Machine:
    """A machine at its datasheet's rates whose kernels take time to launch, and nothing else beside."""
    arrays = machine(catalog.system(system), "sol")
    for kind in (op.KV_WRITE, op.ATTN_DECODE, op.ATTN_PREFILL):
        arrays.fit[kind, :, LAUNCH_S] = kernel_s
    arrays.fit[op.ATTN_PREFILL, :, MERGE_S] = merge_s
    return arrays


def step_s(arrays: Machine, num_seq: int, own_len: int, prefix_len: int, together: bool, **heads: int) -> float:
    """Seconds of one layer's step: its operators one after the other."""
    ops, work = operators(num_seq, own_len, prefix_len, together, **heads)
    return float(cost(ops, work, arrays)["time_ps"].sum()) * 1e-12


def against(measured: Any, system: str = "a40", num_head: int = 52, head_dim: int = 128) -> Any:
    """A frame of measured rows (columns `nreqs, ctxlen, prefixlen, relay` and `Lantency (us)`, as the RelayAttention
    repository writes them) with `simulated_us`, `measured_us` and `error` beside."""
    arrays = launched(system)
    simulated = [
        step_s(arrays, n, own, prefix, together, num_head=num_head, num_kv_head=num_head, head_dim=head_dim) * 1e6
        for n, own, prefix, together in measured[["nreqs", "ctxlen", "prefixlen", "relay"]].itertuples(index=False)
    ]
    frame = measured[["nreqs", "ctxlen", "prefixlen", "relay"]].copy()
    frame["simulated_us"], frame["measured_us"] = simulated, measured["Lantency (us)"].to_numpy(float)
    frame["error"] = np.array(simulated) / frame["measured_us"] - 1.0
    return frame
