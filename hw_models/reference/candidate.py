"""A named way to execute an operator: builds its buffers, runs it, and knows the right answer."""

import dataclasses
import functools
import math
from collections.abc import Callable

import torch

CORNER = 256  # rows and columns of a result that are checked
POOL_BYTE = 2**28  # beyond twice the last-level cache of any device known
CORE_BYTE = 2**23  # beyond what a core has for itself
ALIGN = 64  # values: vector loads stay aligned
NUM_DRAWN = 262_139  # the largest prime below 2^18


@dataclasses.dataclass(frozen=True)
class Candidate:
    """`make(i)` allocates the i-th set of buffers and returns a call that executes the operator on it;
    `expect()` computes the result of set 0, or its first corner, in higher precision. `tolerance` is relative to the
    largest value expected, from the unit roundoff of the format and the length of its sums."""

    kernel: str
    make: Callable[[int], Callable[[], torch.Tensor]]
    expect: Callable[[], torch.Tensor]
    tolerance: float


class WrongResultError(RuntimeError):
    """A kernel whose result is not the operator's: it is never timed."""


def check(candidate: Candidate) -> None:
    """Run set 0 once and compare with the higher-precision result, as far as that goes."""
    got = candidate.make(0)().float()
    want = candidate.expect().float().to(got.device)
    if got.dim() == want.dim():
        got = got[tuple(slice(0, size) for size in want.shape)]
    if got.shape != want.shape:
        raise WrongResultError(f"{candidate.kernel}: shape {tuple(got.shape)}, expected {tuple(want.shape)}")
    error = (got - want).abs().max().item() / max(want.abs().max().item(), 1e-30)
    if not error <= candidate.tolerance:
        raise WrongResultError(
            f"{candidate.kernel}: error {error:.3g} of the largest value, allowed {candidate.tolerance:.3g}"
        )


def seeded(*shape: int, seed: int, device: torch.device, dtype: torch.dtype, scale: float = 1.0) -> torch.Tensor:
    """Normal values that depend on the shape and the seed alone.

    Above `NUM_DRAWN` values they repeat with that period: a prime, so that no two rows of a matrix are equal, and
    making a model costs less than running it.
    """
    count = math.prod(shape)
    generator = torch.Generator(device=device).manual_seed(seed)
    drawn = torch.randn(min(count, NUM_DRAWN), generator=generator, device=device, dtype=torch.float32)
    values = (drawn * scale).to(dtype)
    if count > NUM_DRAWN:
        values = values.repeat(-(-count // NUM_DRAWN))[:count]
    return values.view(shape)


def operand(*shape: int, index: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Normal values to read and never to write: the `index`-th window of one pool that is larger than the caches, so
    that windows of successive indices are cold and cost nothing to make."""
    count = math.prod(shape)
    size = max(POOL_BYTE // dtype.itemsize, 4 * count)
    pool = _pool(str(device), dtype, 1 << (size - 1).bit_length())
    start = index * (count + ALIGN) % (len(pool) - count) // ALIGN * ALIGN
    return pool[start : start + count].view(shape)


def pass_caches() -> None:
    """Reads more than the cores of this processor have for themselves, as the operators do that a step runs between two
    of a kind: what a multiply packs its weights into, its input and its code lie further off then (20 to 30 % of
    GPT-2's projections, whose weights are 1 to 4 MB)."""
    _pool("cpu", torch.float32, POOL_BYTE // 4)[: torch.get_num_threads() * CORE_BYTE // 4].sum()


def cool(device: torch.device) -> None:
    """Reads more than the caches hold, so that what comes next finds its operands in memory."""
    _pool(str(device), torch.float32, POOL_BYTE // 4).sum().item()


@functools.lru_cache(maxsize=4)
def _pool(device: str, dtype: torch.dtype, size: int) -> torch.Tensor:
    return seeded(size, seed=0, device=torch.device(device), dtype=dtype)
