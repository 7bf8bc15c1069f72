"""Rows of requests that have left, kept as the columns of the result: a pool then holds those that live alone.

Rows are numbered as the requests of the load. A stretch of them whose requests have all left is copied into columns
and its memory given back to the system; it reads as zeros then, and nobody looks at it again.
"""

import ctypes
import functools
import mmap
import sys
from typing import Any

import numpy as np

from kernels.engine import records as at
from sim.serving.result import REQUEST_COLUMNS, Ints

STRETCH = 1 << 15  # rows
ENDED = (at.FINISHED, at.REFUSED, at.ABORTED)
DONT_NEED = 4  # madvise(2), Linux: private pages are dropped and read as zeros


class Rows:
    """The rows of one pool, and the columns of those that have left."""

    def __init__(self, seq: at.Records) -> None:
        self.seq = seq
        self.num_kept = 0  # rows whose columns are kept, from the first on
        self._column: dict[str, Ints] = {}

    def keep(self, start: int) -> bool:
        """Keeps the columns of the stretch that begins at `start`, whose requests have left, and drops its rows; False
        where the order of eviction still goes through one of them."""
        stop = start + STRETCH
        if stop <= self.num_kept:
            return True
        part = self.seq[start:stop]
        if (part["run"] + part["blank"]).any():
            return False
        if not self._column:
            self._column = {
                name: np.zeros(len(self.seq), self.seq.dtype[field]) for name, field in REQUEST_COLUMNS.items()
            }
        for name, field in REQUEST_COLUMNS.items():
            self._column[name][start:stop] = part[field]
        drop(part)
        self.num_kept = stop
        return True

    def columns(self) -> dict[str, Ints]:
        """All rows as columns."""
        for name, field in REQUEST_COLUMNS.items():
            self._column[name][self.num_kept :] = self.seq[field][self.num_kept :]
        return self._column


def drop(part: at.Records) -> None:
    """Gives the whole pages of an array back; where the system is not Linux it stays as it is."""
    advise = _advise()
    if advise is None:
        return
    page = mmap.PAGESIZE
    start = -(-part.ctypes.data // page) * page
    stop = (part.ctypes.data + part.nbytes) // page * page
    if stop > start:
        advise(start, stop - start, DONT_NEED)


@functools.cache
def _advise() -> Any:
    if sys.platform != "linux":
        return None
    advise = ctypes.CDLL(None, use_errno=True).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return advise
