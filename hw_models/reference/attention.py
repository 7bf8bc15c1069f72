"""Attention over rows of work by the kernels that torch offers: scaled_dot_product_attention's backends.

Prefill rows run as they are, with the causal mask aligned to the last key. Decode packs the query heads of
one KV head into rows of one tile, so that the KV cache is read once: `num_head / num_kv_head` rows over
`kv_len` keys, not causal.
"""

from collections.abc import Callable

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.bias import causal_lower_right

from hw_models.reference import paged
from hw_models.reference.candidate import Candidate, operand
from kernels.errors import InputError
from kernels.formats import FORMATS
from kernels.optable import ATTN_DECODE, OpTable, WorkTable

BACKENDS = {
    "cuda": {
        "sdpa_flash": SDPBackend.FLASH_ATTENTION,
        "sdpa_cudnn": SDPBackend.CUDNN_ATTENTION,
        "sdpa_efficient": SDPBackend.EFFICIENT_ATTENTION,
        "sdpa_math": SDPBackend.MATH,
    },
    "cpu": {"sdpa_flash": SDPBackend.FLASH_ATTENTION, "sdpa_math": SDPBackend.MATH},
}
MATH_LIMIT_BYTE = 2**31  # the math backend writes the scores out: not a candidate above this size


def candidates(op: OpTable, work: WorkTable, device: torch.device) -> list[Candidate]:
    """One candidate a backend, and the model's own on paged blocks. Raises `InputError` for formats that none takes."""
    if FORMATS[op["kv_fmt"]].name not in ("bf16", "fp16", "fp32"):
        name = FORMATS[op["kv_fmt"]].name
        raise InputError("torch attends in the stored KV format", field="kv_fmt", value=name,
                         allowed=["bf16", "fp16", "fp32"])  # fmt: skip
    own = [paged.candidate(op, work, device)] if bool((work["causal"] == 1).all()) else []
    if int(op["window"]) > 0:  # torch's fused kernels have none
        return own
    score_byte = 4.0 * int(op["num_head"]) * float((work["count"] * work["query_len"] * work["kv_len"]).sum())
    return own + [
        _candidate(op, work, device, kernel, backend)
        for kernel, backend in BACKENDS[device.type].items()
        if kernel != "sdpa_math" or score_byte < MATH_LIMIT_BYTE
    ]


def _candidate(op: OpTable, work: WorkTable, device: torch.device, kernel: str, backend: SDPBackend) -> Candidate:
    heads, kv_heads, dim, v_dim = (int(op[name]) for name in ("num_head", "num_kv_head", "head_dim", "v_head_dim"))
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[FORMATS[op["kv_fmt"]].name]
    group, packed = heads // kv_heads, int(op["kind"]) == ATTN_DECODE

    def data(index: int) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, bool]]:
        rows = []
        for row in work:
            count, query_len, kv_len = int(row["count"]), int(row["query_len"]), int(row["kv_len"])
            shape = (count, kv_heads, query_len * group, dim) if packed else (count, heads, query_len, dim)
            q = operand(*shape, index=index, device=device, dtype=dtype)
            k = operand(count, kv_heads, kv_len, dim, index=1000 + index, device=device, dtype=dtype)
            v = operand(count, kv_heads, kv_len, v_dim, index=2000 + index, device=device, dtype=dtype)
            rows.append((q, k, v, bool(row["causal"]) and query_len > 1))
        return rows

    def attend(rows: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, bool]]) -> torch.Tensor:
        out = torch.empty(0, device=device)
        for q, k, v, causal in rows:
            mask = causal_lower_right(q.shape[2], k.shape[2]) if causal else None
            out = torch.nn.functional.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, enable_gqa=q.shape[1] != k.shape[1]
            )
        return out

    def make(index: int) -> Callable[[], torch.Tensor]:
        rows = data(index)

        def run() -> torch.Tensor:
            with sdpa_kernel(backend):
                return attend(rows)

        return run

    def expect() -> torch.Tensor:
        q, k, v, causal = data(0)[-1]
        repeat = q.shape[1] // k.shape[1]
        k, v = k.double().repeat_interleave(repeat, 1), v.double().repeat_interleave(repeat, 1)
        score = q.double() @ k.transpose(-1, -2) / dim**0.5
        if causal:
            rows, keys = score.shape[-2:]
            seen = torch.arange(keys, device=device)[None, :] <= torch.arange(rows, device=device)[:, None] + (
                keys - rows
            )
            score = score.masked_fill(~seen, float("-inf"))
        return score.softmax(-1) @ v

    roundoff = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11, torch.float32: 2.0**-20}[dtype]
    return Candidate(f"{kernel}{'_packed' if packed else ''}", make, expect, 4 * roundoff)
