"""Attention on a paged KV cache as the reference model runs it: gather the blocks of each sequence, then attend.

Its time is what an engine step of the model waits for, so this is the kernel that `ridgeline calibrate` measures
for a machine's attention; the fused kernels alone are in `hw_models.reference.attention`.
"""

import types
from collections.abc import Callable

import torch

from hw_models.calibration.probes import GATHERED
from hw_models.reference import layers
from hw_models.reference.candidate import CORNER, Candidate, operand
from kernels.formats import FORMATS
from kernels.optable import ATTN_DECODE, OpTable, WorkTable

BLOCK_TOKEN = 16  # tokens a KV block
KERNEL = GATHERED


def candidate(op: OpTable, work: WorkTable, device: torch.device) -> Candidate:
    """The candidate of a row whose work are causal rectangles; keys and values of a token lie together."""
    heads, kv_heads, dim, v_dim = (int(op[name]) for name in ("num_head", "num_kv_head", "head_dim", "v_head_dim"))
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[FORMATS[op["kv_fmt"]].name]
    shape = types.SimpleNamespace(
        num_head=heads, num_kv_head=kv_heads, head_dim=dim, v_head_dim=v_dim, kv_rank=0, window=int(op["window"])
    )
    width = kv_heads * (dim + v_dim)
    decode = int(op["kind"]) == ATTN_DECODE
    query = [(int(row["query_len"]), int(row["kv_len"])) for row in work for _ in range(int(row["count"]))]
    longest = -(-max(kv_len for _, kv_len in query) // BLOCK_TOKEN)

    def data(index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(index)
        num_block = len(query) * longest
        cache = operand(num_block, BLOCK_TOKEN, width, index=1000 + index, device=device, dtype=dtype)
        table = torch.randperm(num_block, generator=generator).view(len(query), longest).to(device)
        q = operand(sum(rows for rows, _ in query), heads, dim, index=index, device=device, dtype=dtype)
        return q, cache, table

    def make(index: int) -> Callable[[], torch.Tensor]:
        q, cache, table = data(index)
        kv_len = torch.tensor([length for _, length in query], device=device)

        def run_decode() -> torch.Tensor:
            keys = layers.gather(cache, table).unflatten(0, (len(query), -1))
            return layers.attend_decode(q, keys, kv_len, shape)

        def run_prefill() -> torch.Tensor:
            parts, begin = [], 0
            for row, (rows, length) in enumerate(query):
                keys = layers.gather(cache, table[row])[None, :length]
                parts.append(layers.attend_prefill(q[begin : begin + rows], keys, shape))
                begin += rows
            return torch.cat(parts)

        return run_decode if decode else run_prefill

    def expect() -> torch.Tensor:
        q, cache, table = data(0)
        parts, begin = [], 0
        for row, (rows, length) in enumerate(query):
            if begin >= CORNER // 16:
                break
            keys = cache[table[row]].flatten(0, 1)[:length].double()
            parts.append(_exact(q[begin : begin + rows].double(), keys, shape))
            begin += rows
        return torch.cat(parts)

    roundoff = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11, torch.float32: 2.0**-20}[dtype]
    return Candidate(KERNEL, make, expect, 4 * roundoff)


def _exact(q: torch.Tensor, keys: torch.Tensor, shape: types.SimpleNamespace) -> torch.Tensor:
    """Softmax attention written out: `q` [row, head, dim], `keys` [kv, width] in double precision."""
    k, v = keys.split([shape.num_kv_head * shape.head_dim, shape.num_kv_head * shape.v_head_dim], -1)
    repeat = shape.num_head // shape.num_kv_head
    k = k.view(len(keys), shape.num_kv_head, shape.head_dim).repeat_interleave(repeat, 1)
    v = v.view(len(keys), shape.num_kv_head, shape.v_head_dim).repeat_interleave(repeat, 1)
    score = torch.einsum("rhd,khd->hrk", q, k) / shape.head_dim**0.5
    last = torch.arange(len(keys) - len(q), len(keys), device=q.device)[:, None]
    key = torch.arange(len(keys), device=q.device)[None]
    seen = (key <= last) & ((key > last - shape.window) if shape.window else (key >= 0))
    return torch.einsum("hrk,khd->rhd", score.masked_fill(~seen, float("-inf")).softmax(-1), v)
