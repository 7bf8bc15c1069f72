"""Experts shared between an xPU and the units in its memory, from look-up tables of time by tokens.

Hot experts (many tokens) suit the xPU, cold ones the memory units. All experts start on the xPU; those with the
fewest tokens move to the units one by one while the longer of the two sides gets shorter (Duplex, MICRO'24).
"""

import numpy as np
import numpy.typing as npt

from kernels.jit import njit

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MODES: tuple[str, ...] = ("xpu", "pim", "best", "co_process")
XPU, PIM, BEST, CO_PROCESS = range(len(MODES))


@njit
def roof_s(flop: float, byte: float, flop_per_s: float, byte_per_s: float) -> float:
    """Roofline time: the longer of computing and moving.

    >>> roof_s(8.0, 2.0, 4.0, 1.0)
    2.0
    """
    return max(flop / flop_per_s, byte / byte_per_s)


@njit
def device_s(count: Ints, xpu_s: Floats, pim_s: Floats, mode: int) -> tuple[float, float]:
    """Seconds of one device's experts (tokens of each in `count`, sorted here) on the xPU and on the units; the two
    run side by side when co-processing, otherwise one of them is 0. Tables are indexed by tokens."""
    all_xpu, all_pim = 0.0, 0.0
    for tokens in count:
        all_xpu += xpu_s[tokens]
        all_pim += pim_s[tokens]
    if mode == XPU or (mode == BEST and all_xpu <= all_pim):
        return all_xpu, 0.0
    if mode in (PIM, BEST):
        return 0.0, all_pim
    left, moved = all_xpu, 0.0
    for tokens in np.sort(count):
        next_left, next_moved = left - xpu_s[tokens], moved + pim_s[tokens]
        if max(next_left, next_moved) >= max(left, moved):
            break
        left, moved = next_left, next_moved
    if all_pim < max(left, moved):
        return 0.0, all_pim
    return left, moved


@njit
def expert_s(count: Ints, num_rank: int, xpu_s: Floats, pim_s: Floats, mode: int) -> float:
    """Seconds of one layer's experts `count[expert]` spread over `num_rank` devices in order: the slowest device's
    longer side."""
    slowest = 0.0
    held = len(count) // num_rank
    for rank in range(num_rank):
        left, moved = device_s(count[rank * held : (rank + 1) * held], xpu_s, pim_s, mode)
        slowest = max(slowest, left, moved)
    return slowest


@njit
def route(choice: Floats, topk: int) -> Ints:
    """Tokens of each expert when every token takes the `topk` greatest of its scores `choice[token, expert]`
    (uniform scores: uniform routing without repetition)."""
    count = np.zeros(choice.shape[1], np.int64)
    for token in range(choice.shape[0]):
        order = np.argsort(choice[token])
        for i in range(topk):
            count[order[choice.shape[1] - 1 - i]] += 1
    return count


@njit
def mean_expert_s(
    choice: Floats, topk: int, num_rank: int, xpu_s: Floats, pim_s: Floats, mode: int
) -> tuple[float, float]:
    """Mean over draws `choice[draw, token, expert]` of the layer's seconds, and of the share of its tokens whose
    expert ran on the units."""
    total, on_pim, tokens = 0.0, 0.0, 0.0
    held = choice.shape[2] // num_rank
    for draw in range(choice.shape[0]):
        count = route(choice[draw], topk)
        total += expert_s(count, num_rank, xpu_s, pim_s, mode)
        for rank in range(num_rank):
            own = count[rank * held : (rank + 1) * held]
            left, moved = device_s(own, xpu_s, pim_s, mode)
            tokens += own.sum()
            on_pim += own.sum() * moved / (left + moved) if left + moved > 0 else 0.0
    return total / choice.shape[0], on_pim / max(tokens, 1.0)
