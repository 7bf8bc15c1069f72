"""The compiled types of the engine's tuples, and the view of one engine in a world."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numba import types
from numba.extending import overload

from kernels.engine.arrays import Sizes, addressed, world
from kernels.engine.handle import function_reader, passed_by_address, row_reader
from kernels.engine.records import Engine, Fleet, Floats, Ints, World


def engine_of(w: World, k: int) -> Engine:
    """Engine k, as views; in compiled code the address of its table."""
    arrays = (w.seq, w.engine[k], w.lane[k], w.work[k], w.unit, w.unit_id, w.store[k], w.real[k], w.book)
    return Engine(*arrays, w.handle[k], int(w.handle[k].ctypes.data))


def fleet_of(w: World, option: Floats, seed: int, memory: Ints | None = None) -> Fleet:
    """What a router sees of the engines; its memory is new where none is given."""
    if memory is None:
        memory = np.zeros(16, np.int64)
        memory[0] = seed
    return addressed(Fleet, w.seq, w.engine, w.unit, w.unit_id, option, memory)


_small = world(1, 1, Sizes(), np.zeros((2, 1), np.int32), np.zeros(1, np.int32))
WORLD_TYPE = passed_by_address(_small)
FLEET_TYPE = passed_by_address(fleet_of(_small, np.zeros(1), 0))
ENGINE_TYPE = passed_by_address(engine_of(_small, 0))
_row = row_reader(ENGINE_TYPE)


@overload(engine_of)
def _engine_of(w, k):  # type: ignore[no-untyped-def]
    return lambda w, k: _row(w.handle, k)


PLAN_SIGNATURE = types.int64(ENGINE_TYPE)
"""A policy: `plan(engine) -> repeat`, the number of following steps for which, as long as nothing arrives,
ends or runs out of blocks, the same plan of decodes stands (0: ask again each step)."""

ROUTE_SIGNATURE = types.int64(FLEET_TYPE, types.int64)
"""A router: `route(fleet, request) -> engine`."""


def policy_at(address: Any) -> Callable[[Engine], int]:
    """In compiled code the policy that lies at an address (`address_of`); else the policy itself."""
    return cast(Callable[[Engine], int], address)


def router_at(address: Any) -> Callable[[Fleet, int], int]:
    """As `policy_at`."""
    return cast(Callable[[Fleet, int], int], address)


_policy, _router = (function_reader(signature) for signature in (PLAN_SIGNATURE, ROUTE_SIGNATURE))


@overload(policy_at)
def _policy_at(address):  # type: ignore[no-untyped-def]
    return lambda address: _policy(address)  # noqa: PLW0108


@overload(router_at)
def _router_at(address):  # type: ignore[no-untyped-def]
    return lambda address: _router(address)  # noqa: PLW0108
