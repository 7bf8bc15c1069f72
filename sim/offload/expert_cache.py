"""How often a bounded cache of experts has what a layer asks for: LRU, LFU, and Belady's rule as the bound.

An access is a unit (an expert of a layer, or one plane of its bits) that must be in the cache before it is used. What
is not there is loaded, and takes a place from what the rule names. No rule loads fewer units than Belady's, which drops
what is used again the latest (Belady 1966), one that loads ahead included: each of its loads could have waited for the
access that first needs it.
"""

import heapq
from collections.abc import Callable, Sequence

import numpy as np

from kernels.errors import InputError


def next_use(access: Sequence[int]) -> list[int]:
    """When each access's unit is used again; the length of the sequence where it never is.

    >>> next_use([3, 5, 3])
    [2, 3, 3]
    """
    seen: dict[int, int] = {}
    found = [len(access)] * len(access)
    for i in range(len(access) - 1, -1, -1):
        found[i] = seen.get(access[i], len(access))
        seen[access[i]] = i
    return found


def _lru(access: Sequence[int]) -> Callable[[int, int], float]:
    return lambda i, unit: float(i)


def _lfu(access: Sequence[int]) -> Callable[[int, int], float]:
    count: dict[int, int] = {}

    def worth(i: int, unit: int) -> float:
        count[unit] = count.get(unit, 0) + 1
        return count[unit] + i / (len(access) + 1)  # the longer unused of two alike goes first

    return worth


def _belady(access: Sequence[int]) -> Callable[[int, int], float]:
    after = next_use(access)
    return lambda i, unit: -float(after[i])


RULES: dict[str, Callable[[Sequence[int]], Callable[[int, int], float]]] = {"lru": _lru, "lfu": _lfu, "belady": _belady}


def hits(access: Sequence[int], room: int, rule: str) -> np.ndarray:
    """Whether each access finds its unit in a cache of `room` units, empty at first, under a rule of `RULES`.

    >>> hits([1, 2, 3, 1, 2], 2, "lru").sum(), hits([1, 2, 3, 1, 2], 2, "belady").sum()
    (np.int64(0), np.int64(1))

    Raises `InputError` for a rule that is not there and for a cache of nothing.
    """
    if rule not in RULES:
        raise InputError("no such rule", field="rule", value=rule, allowed=list(RULES))
    if room < 1:
        raise InputError("out of range", field="room", value=room, allowed="1 or more")
    worth = RULES[rule](access)
    held: dict[int, float] = {}  # unit: what it is worth now
    heap: list[tuple[float, int]] = []
    found = np.zeros(len(access), bool)
    for i, unit in enumerate(access):
        found[i] = unit in held
        if not found[i] and len(held) == room:
            while True:
                value, victim = heapq.heappop(heap)
                if held.get(victim) == value:  # else an old entry of a unit that was used since
                    del held[victim]
                    break
        held[unit] = worth(i, unit)
        heapq.heappush(heap, (held[unit], unit))
    return found
