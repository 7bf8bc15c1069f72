"""GEMM in each number format, by the kernel that torch calls for it."""

import torch

from hw_models.reference.candidate import CORNER, Candidate, operand
from kernels.errors import InputError
from kernels.formats import FORMATS
from kernels.optable import OpTable

TORCH_DTYPE = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
ROUNDOFF = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}


def candidates(op: OpTable, device: torch.device) -> list[Candidate]:
    """Kernels that multiply `m x k` by `k x n` in the row's format.

    Raises `InputError` for a format that torch has no kernel for on this device.
    """
    m, n, k, name = int(op["m"]), int(op["n"]), int(op["k"]), FORMATS[op["fmt"]].name
    if int(op["batch"]) > 1:
        return [_batched(int(op["batch"]), m, n, k, TORCH_DTYPE.get(name, torch.bfloat16), device)]
    if name in TORCH_DTYPE:
        return [_linear(m, n, k, TORCH_DTYPE[name], device)]
    if name == "int8":
        return [_int8(m, n, k, device)]
    if name == "fp8" and device.type == "cuda":
        return [_fp8(m, n, k, device)]
    raise InputError(
        f"torch has no {name} GEMM on {device.type}", field="fmt", value=name, allowed=[*TORCH_DTYPE, "int8"]
    )


def _linear(m: int, n: int, k: int, dtype: torch.dtype, device: torch.device) -> Candidate:
    def data(index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return (
            operand(m, k, index=index, device=device, dtype=dtype),
            operand(n, k, index=1000 + index, device=device, dtype=dtype),
        )

    def make(index: int):  # type: ignore[no-untyped-def]
        x, weight = data(index)
        return lambda: torch.nn.functional.linear(x, weight)

    def expect() -> torch.Tensor:
        x, weight = data(0)
        return torch.nn.functional.linear(x[:CORNER].double(), weight[:CORNER].double())

    return Candidate("torch.nn.functional.linear", make, expect, 16 * ROUNDOFF[dtype] * max(1.0, k**0.5 / 8))


def _batched(batch: int, m: int, n: int, k: int, dtype: torch.dtype, device: torch.device) -> Candidate:
    def data(index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return (
            operand(batch, m, k, index=index, device=device, dtype=dtype),
            operand(batch, k, n, index=1000 + index, device=device, dtype=dtype),
        )

    def make(index: int):  # type: ignore[no-untyped-def]
        x, weight = data(index)
        return lambda: torch.bmm(x, weight)

    def expect() -> torch.Tensor:
        x, weight = data(0)
        return torch.bmm(x.double(), weight.double())

    return Candidate("torch.bmm", make, expect, 16 * ROUNDOFF[dtype] * max(1.0, k**0.5 / 8))


def _int8(m: int, n: int, k: int, device: torch.device) -> Candidate:
    if device.type == "cuda" and (m <= 16 or n % 8 or k % 8):
        raise InputError("torch's int8 GEMM takes m > 16 and n, k in multiples of 8", field="m, n, k", value=(m, n, k))

    def data(index: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator(device=device).manual_seed(index)
        return (
            torch.randint(-127, 128, (m, k), generator=generator, device=device, dtype=torch.int8),
            torch.randint(-127, 128, (n, k), generator=generator, device=device, dtype=torch.int8),
        )

    def make(index: int):  # type: ignore[no-untyped-def]
        x, weight = data(index)
        return lambda: torch._int_mm(x, weight.t())

    def expect() -> torch.Tensor:
        x, weight = data(0)
        return x[:CORNER].double() @ weight[:CORNER].double().t()

    return Candidate("torch._int_mm", make, expect, 2.0**-24)  # integer sums are exact up to the comparison in fp32


def _fp8(m: int, n: int, k: int, device: torch.device) -> Candidate:
    if n % 16 or k % 16:
        raise InputError("torch's fp8 GEMM takes n, k in multiples of 16", field="n, k", value=(n, k))

    def data(index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return (
            operand(m, k, index=index, device=device, dtype=torch.bfloat16).to(torch.float8_e4m3fn),
            operand(n, k, index=1000 + index, device=device, dtype=torch.bfloat16).to(torch.float8_e4m3fn),
        )

    def make(index: int):  # type: ignore[no-untyped-def]
        x, weight = data(index)
        one = torch.ones((), device=device)
        return lambda: torch._scaled_mm(x, weight.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16)

    def expect() -> torch.Tensor:
        x, weight = data(0)
        return x[:CORNER].double() @ weight[:CORNER].double().t()

    return Candidate("torch._scaled_mm", make, expect, 16 * ROUNDOFF[torch.bfloat16] * max(1.0, k**0.5 / 8))
