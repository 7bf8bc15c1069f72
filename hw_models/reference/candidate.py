"""A named way to execute an operator: builds its buffers, runs it, and knows the right answer."""

import dataclasses
from collections.abc import Callable

import torch


@dataclasses.dataclass(frozen=True)
class Candidate:
    """`make(i)` allocates the i-th set of buffers and returns a call that executes the operator on it;
    `expect()` computes the result of set 0 in higher precision. `tolerance` is relative to the largest
    value expected, from the unit roundoff of the format and the length of its sums."""

    kernel: str
    make: Callable[[int], Callable[[], torch.Tensor]]
    expect: Callable[[], torch.Tensor]
    tolerance: float


class WrongResultError(RuntimeError):
    """A kernel whose result is not the operator's: it is never timed."""


def check(candidate: Candidate) -> None:
    """Run set 0 once and compare with the higher-precision result."""
    got = candidate.make(0)().float()
    want = candidate.expect().float().to(got.device)
    if got.shape != want.shape:
        raise WrongResultError(f"{candidate.kernel}: shape {tuple(got.shape)}, expected {tuple(want.shape)}")
    error = (got - want).abs().max().item() / max(want.abs().max().item(), 1e-30)
    if not error <= candidate.tolerance:
        raise WrongResultError(
            f"{candidate.kernel}: error {error:.3g} of the largest value, allowed {candidate.tolerance:.3g}"
        )


def seeded(*shape: int, seed: int, device: torch.device, dtype: torch.dtype, scale: float = 1.0) -> torch.Tensor:
    """Normal values that depend on the shape and the seed alone (made on the CPU in small sizes)."""
    generator = torch.Generator(device=device).manual_seed(seed)
    return (torch.randn(*shape, generator=generator, device=device, dtype=torch.float32) * scale).to(dtype)
