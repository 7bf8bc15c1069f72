"""The compiled types of the engine's tuples, and the views of one engine in a world."""

import numba
import numpy as np
from numba import types

from kernels.engine.borrow import borrow
from kernels.engine.records import Engine, Fleet, Floats, Sizes, World, world
from kernels.jit import njit_pasted


@njit_pasted
def engine_of(w: World, k: int) -> Engine:
    """Engine k, as borrowed views: for compiled code that runs while `w` is held."""
    return Engine(
        borrow(w.seq), w.engine[k], borrow(w.lane[k]), borrow(w.work[k]), borrow(w.unit), borrow(w.unit_id),
        borrow(w.store[k]), borrow(w.real[k]), borrow(w.book),
    )  # fmt: skip


def view_of(w: World, k: int) -> Engine:
    """Engine k, as views."""
    return Engine(w.seq, w.engine[k], w.lane[k], w.work[k], w.unit, w.unit_id, w.store[k], w.real[k], w.book)


def fleet_of(w: World, option: Floats, seed: int) -> Fleet:
    """What a router sees of the engines."""
    memory = np.zeros(16, np.int64)
    memory[0] = seed
    return Fleet(w.seq, w.engine, w.unit, w.unit_id, option, memory)


_small = world(1, 1, Sizes(), np.zeros((2, 1), np.int32), np.zeros(1, np.int32))
WORLD_TYPE = numba.typeof(_small)
FLEET_TYPE = numba.typeof(fleet_of(_small, np.zeros(1), 0))
ENGINE_TYPE = numba.typeof(view_of(_small, 0))
PLAN_SIGNATURE = types.int64(ENGINE_TYPE)
"""A policy: `plan(engine) -> repeat`, the number of following steps for which, as long as nothing arrives,
ends or runs out of blocks, the same plan of decodes stands (0: ask again each step)."""

ROUTE_SIGNATURE = types.int64(FLEET_TYPE, types.int64)
"""A router: `route(fleet, request) -> engine`."""
