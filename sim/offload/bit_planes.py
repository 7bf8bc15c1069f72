"""Experts whose bits are nested: planes loaded one upon the other, and tokens that wait for no more than theirs.

A plane adds bits to an expert: the first holds its lowest format, each further one what the next format adds. A *task*
is the rows of an expert that need planes up to one. The link carries the planes of a layer that are not held in an
order: `hottest` (those that the most rows wait for first; D2MoE), or `number` (an expert whole, by its number). Two
buffers: a layer's planes begin to move once the last but one layer is done, its experts known by then.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.errors import InputError

Rows = npt.NDArray[np.int64]  # [step, layer, expert, plane]: rows that need the planes up to this one
ORDERS = ("hottest", "number")


class Loaded(NamedTuple):
    """What came of the steps: seconds, bytes that moved."""

    second: float
    byte: float


def waiting(rows: Rows) -> Rows:
    """Rows that wait for each plane: those that need it or one above it."""
    return np.cumsum(rows[..., ::-1], axis=-1)[..., ::-1]


def hold(rows: Rows, plane_byte: npt.NDArray[np.float64], budget_byte: float) -> npt.NDArray[np.bool_]:
    """`[layer, expert, plane]` what a budget of bytes keeps: planes by how often a step asks for them, over their
    bytes, the lowest of an expert first; those that fit."""
    asked = (waiting(rows) > 0).sum(axis=0)
    left = budget_byte
    held = np.zeros(asked.shape, bool)
    rank = asked / plane_byte
    for index in np.argsort(-np.minimum.accumulate(rank, axis=-1), axis=None, kind="stable"):
        layer, expert, plane = np.unravel_index(index, asked.shape)
        fits = plane_byte[plane] <= left and (plane == 0 or held[layer, expert, plane - 1])
        if fits and asked[layer, expert, plane]:
            held[layer, expert, plane] = True
            left -= float(plane_byte[plane])
    return held


def replay(
    rows: Rows, plane_byte: npt.NDArray[np.float64], held: npt.NDArray[np.bool_], link_byte_per_s: float, order: str,
    *, dense_s: float, task_s: float,
) -> Loaded:  # fmt: skip
    """Replays steps: `dense_s` a layer before its experts, `task_s` a task. `held` is in memory for good, other planes
    move every time that they are asked for.

    Raises `InputError` for an order that is not there.
    """
    if order not in ORDERS:
        raise InputError("no such order", field="order", value=order, allowed=list(ORDERS))
    num_step, num_layer, num_expert, num_plane = rows.shape
    wait = waiting(rows)
    now = free = moved = 0.0
    done = [0.0, 0.0]  # of the last but one layer, of the last
    for step in range(num_step):
        for layer in range(num_layer):
            need = [(e, p) for e in range(num_expert) for p in range(num_plane) if wait[step, layer, e, p]]
            come = [unit for unit in need if not held[layer, unit[0], unit[1]]]
            if order == "hottest":
                come.sort(key=lambda unit: (-wait[step, layer, unit[0], unit[1]], unit))
            there = dict.fromkeys(need, 0.0)
            free = max(free, done[0])
            for unit in come:
                free += plane_byte[unit[1]] / link_byte_per_s
                moved += plane_byte[unit[1]]
                there[unit] = free
            for e, p in need:  # a plane is of use with those below it
                there[e, p] = max(there[e, q] for q in range(p + 1))
            now += dense_s
            for e, p in sorted(need, key=lambda unit: there[unit]):
                if rows[step, layer, e, p]:
                    now = max(now, there[e, p]) + task_s
            done = [done[1], now]
    return Loaded(now, moved)
