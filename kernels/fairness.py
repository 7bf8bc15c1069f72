"""Max-min fair rates of flows over shared links, by progressive filling.

All rates grow together; where a link is full, the flows on it keep the rate that they have and the others go on. The
result is the one allocation in which no flow can get more without taking from a flow that has no more than it
(Bertsekas and Gallager, "Data Networks", section 6.5).
"""

import numpy as np
import numpy.typing as npt

from kernels.jit import njit

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Routes = npt.NDArray[np.int32]  # [flow, hop]: numbers of links, -1 after the last
Scratch = tuple[Ints, Ints, Floats]

TIE = 1e-12  # shares this close (relative) are one bottleneck level: rounding, not a difference


def scratch(num_link: int) -> Scratch:
    """Work space of `max_min_rates` for links `0..num_link - 1`: zeros, left as zeros."""
    return np.zeros(num_link, np.int64), np.zeros(num_link, np.int64), np.zeros(num_link)


@njit
def max_min_rates(route: Routes, flow: Ints, capacity: Floats, rate: Floats, space: Scratch) -> int:
    """Fill `rate` of every flow listed in `flow`; returns how many bottleneck levels there were.

    `capacity[link]` and `rate[flow]` have the same unit. A flow without links gets an infinite rate.

    >>> route = np.array([[0, -1], [0, 1], [1, -1]], np.int32)  # link 0: flows 0, 1; link 1: flows 1, 2
    >>> rate = np.empty(3); flow = np.arange(3)
    >>> max_min_rates(route, flow, np.array([2.0, 10.0]), rate, scratch(2)), rate.tolist()
    (2, [1.0, 1.0, 9.0])
    """
    num_unfixed, start, left = space
    used = np.empty(
        capacity.size if flow.size * route.shape[1] > capacity.size else flow.size * route.shape[1], np.int64
    )
    num_used = 0
    for f in flow:
        rate[f] = np.inf if route[f, 0] < 0 else -1.0
        for link in route[f]:
            if link < 0:
                break
            if num_unfixed[link] == 0:
                used[num_used] = link
                num_used += 1
            num_unfixed[link] += 1
    total = 0
    for at in range(num_used):
        link = used[at]
        start[link] = total
        total += num_unfixed[link]
        left[link] = capacity[link]
    member = np.empty(total, np.int64)
    for f in flow:
        for link in route[f]:
            if link < 0:
                break
            member[start[link]] = f
            start[link] += 1  # ends one past the link's last flow; its count walks back
    num_member = np.empty(num_used, np.int64)
    for at in range(num_used):
        num_member[at] = num_unfixed[used[at]]
    level = 0
    num_open = num_used
    while num_open > 0:
        level += 1
        share = np.inf
        for at in range(num_open):
            share = min(share, left[used[at]] / num_unfixed[used[at]])
        share = max(share, 0.0)
        kept = 0
        for at in range(num_open):
            link = used[at]
            if num_unfixed[link] > 0 and left[link] <= share * num_unfixed[link] * (1.0 + TIE):
                for m in range(start[link] - num_member[at], start[link]):
                    f = member[m]
                    if rate[f] < 0.0:
                        rate[f] = share
                        for other in route[f]:
                            if other < 0:
                                break
                            left[other] -= share
                            num_unfixed[other] -= 1
        for at in range(num_open):
            link = used[at]
            if num_unfixed[link] > 0:
                used[kept], num_member[kept] = link, num_member[at]
                kept += 1
            else:
                start[link], left[link] = 0, 0.0
        num_open = kept
    return level


@njit
def advance(route: Routes, flow: Ints, rate: Floats, byte_left: Floats, elapsed: float, link_byte: Floats) -> int:
    """Move every listed flow on for `elapsed` at its rate, count the bytes on its links, and return how many ended.

    A flow that would end within half a unit of time ends now, with its last bytes counted: time is whole units.
    """
    num_ended = 0
    for f in flow:
        moved = rate[f] * elapsed
        if rate[f] == np.inf or moved >= byte_left[f] - 0.5 * rate[f]:
            moved = byte_left[f]
        byte_left[f] -= moved
        if byte_left[f] <= 0.0:
            num_ended += 1
        for link in route[f]:
            if link < 0:
                break
            link_byte[link] += moved
    return num_ended


@njit
def next_end(flow: Ints, rate: Floats, byte_left: Floats) -> int:
    """Whole units of time (at least 0) until the first listed flow ends."""
    least = np.inf
    for f in flow:
        least = min(least, byte_left[f] / rate[f])
    return int(least + 0.5)
