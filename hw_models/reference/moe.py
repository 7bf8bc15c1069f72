"""Fused experts: route by a seeded load, gather, two grouped GEMMs around the gate, scatter."""

from collections.abc import Callable

import numpy as np
import torch

from hw_models.reference.candidate import Candidate, operand
from hw_models.reference.gemm import ROUNDOFF, TORCH_DTYPE
from kernels.errors import InputError
from kernels.formats import FORMATS
from kernels.moe_load import expert_loads
from kernels.optable import OpTable


def expert_of_token(num_token: int, num_expert: int, topk: int, skew: float, seed: int) -> np.ndarray:
    """Expert index of each (token, choice): `topk` distinct experts a token, drawn without replacement with
    popularity in proportion to the loads of `kernels.moe_load` (Gumbel top-k). Shape [num_token, topk]."""
    rng = np.random.default_rng(seed)
    log_popularity = np.log(expert_loads(num_token, num_expert, topk, skew))
    noise = rng.gumbel(size=(num_token, num_expert))
    return np.argsort(-(log_popularity + noise), axis=1)[:, :topk]


def candidates(op: OpTable, device: torch.device) -> list[Candidate]:
    """The loop over experts anywhere; torch's grouped GEMM where the device has it."""
    name = FORMATS[op["fmt"]].name
    if name not in TORCH_DTYPE:
        raise InputError("torch has no fused experts in this format", field="fmt", value=name, allowed=TORCH_DTYPE)
    found = [_experts(op, device, TORCH_DTYPE[name], grouped=False)]
    if device.type == "cuda" and name == "bf16" and torch.cuda.get_device_capability()[0] >= 9:
        found.append(_experts(op, device, torch.bfloat16, grouped=True))
    return found


def _experts(op: OpTable, device: torch.device, dtype: torch.dtype, grouped: bool) -> Candidate:
    hidden, inter = int(op["k"]), int(op["n"]) // int(op["tp"])
    num_local = max(1, int(op["num_expert"]) // int(op["ep"]))
    chosen = expert_of_token(int(op["m"]), int(op["num_expert"]), int(op["topk"]), float(op["skew"]), seed=0)
    token, choice = np.nonzero(chosen < num_local)  # the pairs that fall on this device's experts
    order = np.argsort(chosen[token, choice], kind="stable")
    load = np.bincount(chosen[token, choice], minlength=num_local)
    rows = torch.from_numpy(token[order]).to(device)
    ends = torch.from_numpy(np.cumsum(load).astype(np.int32)).to(device)
    loads = [int(value) for value in load]

    def data(index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return (
            operand(int(op["m"]), hidden, index=index, device=device, dtype=dtype),
            operand(num_local, hidden, 2 * inter, index=1000 + index, device=device, dtype=dtype),
            operand(num_local, inter, hidden, index=2000 + index, device=device, dtype=dtype),
        )

    def combine(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x).index_add_(0, rows, y.to(x.dtype))

    def with_loop(x: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
        parts = [
            _gated(part @ up[expert]) @ down[expert]
            for expert, part in enumerate(torch.split(x[rows], loads))
            if len(part)
        ]
        return combine(x, torch.cat(parts)) if parts else torch.zeros_like(x)

    def with_groups(x: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
        inner = torch._grouped_mm(x[rows], up, offs=ends)
        return combine(x, torch._grouped_mm(_gated(inner), down, offs=ends))

    def make(index: int) -> Callable[[], torch.Tensor]:
        x, up, down = data(index)
        return lambda: (with_groups if grouped else with_loop)(x, up, down)

    def expect() -> torch.Tensor:
        x, up, down = data(0)
        return with_loop(x.double(), up.double(), down.double())

    return Candidate("torch._grouped_mm" if grouped else "loop of torch.matmul", make, expect, 16 * ROUNDOFF[dtype])


def _gated(x: torch.Tensor) -> torch.Tensor:
    gate, up = x.chunk(2, dim=-1)
    return torch.nn.functional.silu(gate) * up
