"""A heap of events in the order of time, then of rank, then of who was put in first: SimPy's own order. Events of rank
0 come in the order of their numbers, whoever was found first.

An event is a row of integers `(time, order, kind, number)`; `order` holds the rank, and how many events were put in
before or the number. The root is row 0.
"""

import numpy as np
import numpy.typing as npt

from kernels.jit import njit, njit_inline
from kernels.units import FOREVER_PS

Ints = npt.NDArray[np.int64]
TIME, ORDER, KIND, NUMBER = range(4)
RANK = 1 << 56  # more than there can be events
SIZE, PUT = range(2)  # of the second array: events in the heap, events ever put in


def events(room: int = 1024) -> Ints:
    """Room for so many events."""
    return np.zeros((room, 4), np.int64)


def more(heap: Ints) -> Ints:
    """The same events with twice the room."""
    made = events(2 * len(heap))
    made[: len(heap)] = heap
    return made


@njit_inline
def first_ps(heap: Ints, count: Ints) -> int:
    """When the next event happens; `FOREVER_PS`: there is none."""
    return int(heap[0, TIME]) if count[SIZE] > 0 else FOREVER_PS


@njit_inline
def _before(heap: Ints, a: int, b: int) -> bool:
    return heap[a, TIME] < heap[b, TIME] or (heap[a, TIME] == heap[b, TIME] and heap[a, ORDER] < heap[b, ORDER])


@njit_inline
def _swap(heap: Ints, a: int, b: int) -> None:
    for k in range(4):
        heap[a, k], heap[b, k] = heap[b, k], heap[a, k]


@njit
def put(heap: Ints, count: Ints, time: int, rank: int, kind: int, number: int) -> None:
    """Puts an event in. There must be room for it."""
    at = count[SIZE]
    tie = count[PUT] if rank > 0 else number
    heap[at, TIME], heap[at, ORDER], heap[at, KIND], heap[at, NUMBER] = time, rank * RANK + tie, kind, number
    count[SIZE] += 1
    count[PUT] += 1
    _rise(heap, at)


@njit
def drop_first(heap: Ints, count: Ints) -> None:
    """Takes the next event out."""
    count[SIZE] -= 1
    _swap(heap, 0, count[SIZE])
    _sink(heap, count[SIZE], 0)


@njit
def drop(heap: Ints, count: Ints, at: int) -> None:
    """Takes the event of row `at` out."""
    count[SIZE] -= 1
    _swap(heap, at, count[SIZE])
    _rise(heap, at)
    _sink(heap, count[SIZE], at)


@njit_inline
def _rise(heap: Ints, at: int) -> None:
    while at > 0 and _before(heap, at, (at - 1) // 2):
        _swap(heap, at, (at - 1) // 2)
        at = (at - 1) // 2


@njit_inline
def _sink(heap: Ints, num: int, at: int) -> None:
    while 2 * at + 1 < num:
        child = 2 * at + 1
        if child + 1 < num and _before(heap, child + 1, child):
            child += 1
        if not _before(heap, child, at):
            break
        _swap(heap, at, child)
        at = child
