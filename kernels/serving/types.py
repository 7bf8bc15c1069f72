"""The compiled types of the engine's tuples, and the views of one replica in a stack."""

import numba
import numpy as np
from numba import types

from kernels.jit import njit
from kernels.serving.borrow import borrow
from kernels.serving.layout import Fleet, Replica, Sizes, Stack, stack


@njit
def replica_of(s: Stack, k: int) -> Replica:
    """Replica k of the fleet, as borrowed views: for compiled code that runs while `s` is held."""
    return Replica(
        borrow(s.seq), borrow(s.reg[k]), borrow(s.store[k]), borrow(s.unit_id), borrow(s.real[k]), borrow(s.book[k])
    )


def view_of(s: Stack, k: int) -> Replica:
    """Replica k of the fleet, as views."""
    return Replica(s.seq, s.reg[k], s.store[k], s.unit_id, s.real[k], s.book[k])


def fleet_of(s: Stack, option: np.ndarray, seed: int) -> Fleet:
    """What a router sees of the fleet."""
    memory = np.zeros(16, np.int64)
    memory[0] = seed
    return Fleet(s.seq, s.reg, s.store, s.unit_id, option, memory)


_small = stack(1, 1, Sizes(), np.zeros(1, np.int32), np.zeros(1, np.int32))
STACK_TYPE = numba.typeof(_small)
FLEET_TYPE = numba.typeof(fleet_of(_small, np.zeros(1), 0))
REPLICA_TYPE = numba.typeof(view_of(_small, 0))
PLAN_SIGNATURE = types.int64(REPLICA_TYPE)
"""A policy: `plan(replica) -> repeat`, the number of following steps for which, as long as nothing arrives,
ends or runs out of blocks, the same plan of decodes stands (0: ask again each step)."""

ROUTE_SIGNATURE = types.int64(FLEET_TYPE, types.int64)
"""A router: `route(fleet, request) -> replica`."""
