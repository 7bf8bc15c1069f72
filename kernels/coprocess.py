"""Experts shared between an xPU and the units in its memory, from look-up tables of time by tokens.

Hot experts (many tokens) suit the xPU, cold ones the units. Experts sorted by tokens, the cold end goes to the units:
as many of them as make the longer of the two sides shortest by the look-up (Duplex, MICRO'24, moves the experts with
fewest tokens one after another while the longer side gets shorter; the longer side falls and then rises in their
number, so that both find the same split). Where memory is laid out in sections that one engine owns at a time, a
section's experts move together.

Tokens fall on experts by seeded draws, one sequence of tokens a draw: row m of a table sees its first m tokens, so
that the table is smooth in m.
"""

import numpy as np
import numpy.typing as npt

from kernels.jit import njit
from kernels.machine import BEST, CO_PROCESS, OP_B, PIM
from kernels.overlap import pair_cycle

Ints = npt.NDArray[np.int64]
SmallInts = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]

SIDES: tuple[str, ...] = (
    "xpu_s",  # an expert of so many tokens on a device of the experts' group
    "pim_s",
    "xpu_guess_s",  # the same as the look-up has it
    "pim_guess_s",
    "xpu_j",  # joules above idle
    "pim_j",
    "byte",  # of device memory
    "flop",
    "low",  # 1: its Op/B is that of the units
)
XPU_S, PIM_S, XPU_GUESS_S, PIM_GUESS_S, XPU_J, PIM_J, BYTE, FLOP, LOW = range(len(SIDES))

SPLIT: tuple[str, ...] = ("seconds", "joule", "byte", "pim_byte", "pim_flop")
SECONDS, JOULE, ALL_BYTE, PIM_BYTE, PIM_FLOP = range(len(SPLIT))


@njit
def roof_s(flop: float, byte: float, flop_per_s: float, byte_per_s: float) -> float:
    """Roofline time: the longer of computing and moving.

    >>> roof_s(8.0, 2.0, 4.0, 1.0)
    2.0
    """
    return max(flop / flop_per_s, byte / byte_per_s)


@njit
def on_units(count: Ints, side: Floats, mode: int, num_section: int) -> npt.NDArray[np.bool_]:
    """Which of a device's experts (tokens of each in `count`) run on the units. `side` is `[len(SIDES), tokens]`.

    >>> side = np.zeros((len(SIDES), 9)); side[XPU_GUESS_S] = 4.0; side[PIM_GUESS_S] = np.arange(9.0)
    >>> on_units(np.array([8, 1, 2]), side, CO_PROCESS, 0)  # 4 s on the xPU beside 3 s on the units
    array([False,  True,  True])
    """
    there = np.zeros(len(count), np.bool_)
    if mode == PIM:
        there[:] = True
    elif mode == BEST:
        for i, tokens in enumerate(count):
            there[i] = side[PIM_S, tokens] < side[XPU_S, tokens]
    elif mode == OP_B:
        for i, tokens in enumerate(count):
            there[i] = side[LOW, tokens] > 0.0
    elif mode == CO_PROCESS:
        size = len(count) // num_section if num_section > 0 and len(count) > num_section else 1
        num = len(count) // size
        total = np.zeros(num, np.int64)
        left, moved = 0.0, 0.0
        for i, tokens in enumerate(count):
            total[i // size] += tokens
            left += side[XPU_GUESS_S, tokens]
        order = np.argsort(total, kind="mergesort")
        best, best_s = 0, left
        for k in range(num):
            for i in range(order[k] * size, (order[k] + 1) * size):
                left -= side[XPU_GUESS_S, count[i]]
                moved += side[PIM_GUESS_S, count[i]]
            if max(left, moved) <= best_s * (1.0 + 1e-12):  # a tie spares the xPU's energy
                best, best_s = k + 1, max(left, moved)
        for k in range(best):
            there[order[k] * size : (order[k] + 1) * size] = True
    return there


@njit
def split(
    count: Ints, side: Floats, mode: int, num_section: int, main_share: float, pim_share: float, out: Floats
) -> None:
    """Seconds, joules, bytes, and the units' bytes and FLOPs (`SPLIT`) of one device's experts into `out`. Both engines
    work side by side when co-processing, one after the other otherwise."""
    there = on_units(count, side, mode, num_section)
    xpu_s, pim_s = 0.0, 0.0
    out[:] = 0.0
    for i, tokens in enumerate(count):
        byte = side[BYTE, tokens]
        out[ALL_BYTE] += byte
        if there[i]:
            pim_s += side[PIM_S, tokens]
            out[JOULE] += side[PIM_J, tokens]
            out[PIM_BYTE] += byte
            out[PIM_FLOP] += side[FLOP, tokens]
        else:
            xpu_s += side[XPU_S, tokens]
            out[JOULE] += side[XPU_J, tokens]
    out[SECONDS] = pair_cycle(xpu_s, pim_s, main_share, pim_share) if mode == CO_PROCESS else xpu_s + pim_s


@njit
def expert_table(
    token: Ints, draw: SmallInts, num_expert: int, num_rank: int, side: Floats, mode: int, num_section: int,
    main_share: float, pim_share: float,
) -> Floats:  # fmt: skip
    """`SPLIT` of a layer's experts on `token` tokens (ascending), means over draws: seconds of the slowest of
    `num_rank` devices, the rest of a mean device. `draw[draw, token, topk]` are the experts that each token takes.

    >>> side = np.zeros((len(SIDES), 3)); side[XPU_S] = (0.0, 5.0, 6.0)
    >>> from kernels.machine import XPU
    >>> draw = np.zeros((1, 2, 1), np.int32)  # both tokens take expert 0
    >>> expert_table(np.array([1, 2]), draw, 2, 2, side, XPU, 0, 1.0, 1.0)[:, SECONDS]
    array([5., 6.])
    """
    found = np.zeros((len(token), len(SPLIT)))
    one = np.zeros(len(SPLIT))
    held = num_expert // num_rank
    for d in range(draw.shape[0]):
        count = np.zeros(num_expert, np.int64)
        done = 0
        for row in range(len(token)):
            for t in range(done, token[row]):
                for k in range(draw.shape[2]):
                    count[draw[d, t, k]] += 1
            done = max(done, token[row])
            slowest = 0.0
            for rank in range(num_rank):
                own = count[rank * held : (rank + 1) * held]
                split(own, side, mode, num_section, main_share, pim_share, one)
                slowest = max(slowest, one[SECONDS])
                for field in range(1, len(SPLIT)):
                    found[row, field] += one[field] / num_rank
            found[row, SECONDS] += slowest
    return found / draw.shape[0]


@njit
def without_repetition(rank: SmallInts) -> SmallInts:
    """Experts `[draw, token, topk]` from ranks among those left: the k-th choice is below the number of experts less
    k; a token takes an expert once and every set is equally likely.

    >>> without_repetition(np.array([[[0, 0, 0], [2, 2, 0]]], np.int32))[0].tolist()
    [[0, 1, 2], [2, 3, 0]]
    """
    taken = np.empty_like(rank)
    topk = rank.shape[2]
    low = np.empty(topk, np.int32)
    for d in range(rank.shape[0]):
        for t in range(rank.shape[1]):
            for k in range(topk):
                value = rank[d, t, k]
                for j in range(k):  # earlier choices, ascending: step over those at or below
                    if low[j] <= value:
                        value += 1
                j = k
                while j > 0 and low[j - 1] > value:
                    low[j] = low[j - 1]
                    j -= 1
                low[j] = value
                taken[d, t, k] = value
    return taken
