"""Operators that move more than they compute: norms, rotary, activations, adds, embeddings, copies."""

from collections.abc import Callable

import torch

from hw_models.reference.candidate import Candidate, operand
from hw_models.reference.gemm import ROUNDOFF, TORCH_DTYPE
from kernels.errors import InputError
from kernels.formats import FORMATS
from kernels.optable import KINDS, OpTable

Maker = Callable[[torch.Tensor], torch.Tensor]


def _rotate(x: torch.Tensor) -> torch.Tensor:
    half = x.shape[-1] // 2
    angle = torch.arange(x.shape[0], device=x.device, dtype=torch.float32)[:, None] * torch.logspace(
        0, -4, half, device=x.device, dtype=torch.float32
    )
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    low, high = x[..., :half], x[..., half:]
    return torch.cat([low * cos - high * sin, high * cos + low * sin], -1)


def _gate(x: torch.Tensor) -> torch.Tensor:
    gate, up = x.chunk(2, dim=-1)
    return torch.nn.functional.silu(gate) * up


OPERATORS: dict[str, tuple[str, Maker]] = {
    "norm": ("torch.rms_norm", lambda x: torch.nn.functional.rms_norm(x, x.shape[-1:], eps=1e-5)),
    "rope": ("rotate_half", _rotate),
    "act": ("silu_and_mul", _gate),
    "add": ("torch.add", lambda x: x + x.flip(0)),
    "copy": ("torch.clone", lambda x: x.clone()),
    "sample": ("torch.argmax", lambda x: x.argmax(-1)),
}


def candidates(op: OpTable, device: torch.device) -> list[Candidate]:
    """The operator on `m` tokens of width `n` (an activation's input is `2 n` wide, gate and up)."""
    kind, name = KINDS[op["kind"]], FORMATS[op["fmt"]].name
    dtype = TORCH_DTYPE.get(name, torch.bfloat16)
    m, n = int(op["m"]), int(op["n"])
    if kind == "embed":
        return [_embedding(m, n, dtype, device)]
    if kind == "kv_write":
        return [_write(m, n, dtype, device)]
    if kind not in OPERATORS:
        allowed = [*OPERATORS, "embed", "kv_write"]
        raise InputError("the reference device does not execute it", field="kind", value=kind, allowed=allowed)
    kernel, function = OPERATORS[kind]
    width = 2 * n if kind == "act" else n

    def make(index: int) -> Callable[[], torch.Tensor]:
        x = operand(m, width, index=index, device=device, dtype=dtype)
        return lambda: function(x)

    def expect() -> torch.Tensor:
        return function(operand(m, width, index=0, device=device, dtype=dtype).double())

    return [Candidate(kernel, make, expect, 8 * ROUNDOFF[dtype] if kind != "sample" else 0.0)]


def _write(m: int, n: int, dtype: torch.dtype, device: torch.device) -> Candidate:
    """Each token's keys and values joined, and put to a place of their own in a cache that is there before: making one
    would be measured as its pages' first touch, which no step of an engine pays. On a processor the scatter goes value
    by value (0.33 ns each on a core of an EPYC, in 16 bits as in 32), so that a format has an efficiency of its own."""

    def data(index: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(index)
        return operand(m, n, index=index, device=device, dtype=dtype), torch.randperm(2 * m, generator=generator)[:m]

    def make(index: int) -> Callable[[], torch.Tensor]:
        x, place = data(index)
        cache, place = torch.zeros(2 * m, n, device=device, dtype=dtype), place.to(device)

        def run() -> torch.Tensor:
            cache[place] = torch.cat(x.chunk(2, -1), -1)
            return cache

        return run

    def expect() -> torch.Tensor:
        x, place = data(0)
        cache = torch.zeros(2 * m, n, dtype=torch.float64)
        cache[place] = x.double().cpu()
        return cache

    return Candidate("index_put", make, expect, 0.0)


def _embedding(m: int, n: int, dtype: torch.dtype, device: torch.device) -> Candidate:
    vocab = max(1024, min(32768, 2**23 // n))  # rows enough to be cold, a table small enough to be made

    def data(index: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator(device=device).manual_seed(index)
        token = torch.randint(0, vocab, (m,), generator=generator, device=device)
        return token, operand(vocab, n, index=index, device=device, dtype=dtype)

    def make(index: int) -> Callable[[], torch.Tensor]:
        token, table = data(index)
        return lambda: torch.nn.functional.embedding(token, table)

    def expect() -> torch.Tensor:
        token, table = data(0)
        return table[token].double()

    return Candidate("torch.nn.functional.embedding", make, expect, 0.0)
