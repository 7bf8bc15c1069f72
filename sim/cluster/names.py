"""Room for requests that are asked for while a pool runs: rows of sequences, and the names of their prefix units."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from kernels.engine import records as at

if TYPE_CHECKING:
    from sim.cluster.pool import Pool

START = 256  # requests; room doubles as it is used up
ENDED = (at.FINISHED, at.REFUSED, at.ABORTED)
NEUTRAL = {
    "key": -1, "program": -1, "replica": -1, "child": -1, "sibling": -1, "start_ps": -1, "first_ps": -1, "last_ps": -1,
    "end_ps": -1, "left": -1, "right": -1,
}  # fmt: skip


class Names:
    """Names of units and where each request has its own. A stretch is used again once its request has left."""

    def __init__(self, unit_token: int, num_unit: int) -> None:
        self.unit_token = unit_token
        self._num_unit = num_unit
        self._next = 0
        self._used = 0  # entries of `unit_id` taken so far
        self._free: dict[int, list[int]] = {}  # stretches to use again, by size
        self._held: list[tuple[int, int, int]] = []  # request, start, size
        self._look = START  # stretches held before it is worth looking which are free

    def fresh(self) -> int:
        """A name that nobody has."""
        self._next += 1
        return self._next - 1

    def columns(self) -> Any:
        """Rows for `sim.serving.state.build`: nothing has arrived, nothing is named yet."""
        zero = np.zeros(START, np.int64)
        return SimpleNamespace(
            arrival_ps=zero, prompt_token=zero + 1, output_token=zero + 1, predicted_token=zero + 1, priority=zero,
            unit_start=zero, unit_stop=zero, unit_id=np.zeros(max(1, self._num_unit), np.int32),
            unit_token=self.unit_token, parent=zero - 1, think_ps=zero, max_concurrency=0,
        )  # fmt: skip

    def place(self, pool: "Pool", i: int, unit: list[int]) -> None:
        """Readies row `i` of the pool's sequences, with these units."""
        named = len(pool.world.unit) > 1  # where the store keeps what has a name
        size = 1 << (len(unit) - 1).bit_length() if unit and named else 0
        start = self._stretch(pool, i, size)
        seq, unit_id = pool.world.seq, pool.world.unit_id
        if i >= len(seq) or start + size > unit_id.shape[1]:
            more = at.zeros(max(len(seq), 2 * len(seq) if i >= len(seq) else 0), at.SEQUENCE)
            more[: len(seq)] = seq
            names = np.zeros((2, max(unit_id.shape[1], 2 * (start + size))), np.int32)
            names[:, : unit_id.shape[1]] = unit_id
            pool.widen(more, names)
            seq, unit_id = more, names
        seq[i] = np.zeros(1, at.SEQUENCE)[0]
        for name, value in NEUTRAL.items():
            seq[name][i] = value
        seq["unit_start"][i] = start
        if size:
            seq["num_unit"][i] = len(unit)
            unit_id[0, start : start + len(unit)] = unit

    def _stretch(self, pool: "Pool", i: int, size: int) -> int:
        if not size:
            return 0
        free = self._free.setdefault(size, [])
        if not free and len(self._held) >= self._look:
            self._collect(pool)
            free = self._free[size]
            self._look = max(START, 2 * len(self._held))
        if free:
            start = free.pop()
        else:
            start = self._used
            self._used += size
        self._held.append((i, start, size))
        return start

    def _collect(self, pool: "Pool") -> None:
        """Takes back the stretches of requests that have left, where some have."""
        status = pool.world.seq["status"]
        left: list[tuple[int, int, int]] = []
        for one in self._held:
            if status[one[0]] in ENDED:
                self._free.setdefault(one[2], []).append(one[1])
            else:
                left.append(one)
        self._held = left
