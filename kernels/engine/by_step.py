"""A step at a time: what Python calls for each step takes addresses, numbers and two arrays.

Numba finds the type of a tuple by its items, at every call: microseconds for a world of fourteen arrays, as long as a
step takes. An address is one number. Where nothing is compiled, the world and the policy stand in their place.
"""

from typing import Any, cast

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from kernels.engine.borrow import borrow
from kernels.engine.party import planned, until
from kernels.engine.price import PackedPrice
from kernels.engine.records import Floats, Ints, World
from kernels.engine.types import WORLD_TYPE, engine_of, policy_at
from kernels.jit import PLAIN, njit


def place_of(w: World) -> Any:
    """By what these functions know a world, which must outlive the calls."""
    return w if PLAIN else w.at


def world_at(place: Any) -> World:
    """The world of a place (`place_of`)."""
    return cast(World, place)


@intrinsic
def _world(typing_context, place):  # type: ignore[no-untyped-def]
    return WORLD_TYPE(types.int64), lambda context, builder, _, held: builder.inttoptr(held[0], cgutils.voidptr_t)


@overload(world_at)
def _world_at(place):  # type: ignore[no-untyped-def]
    return lambda place: _world(place)  # noqa: PLW0108


@njit
def until_at(place: Any, table: Ints, real: Floats) -> int:
    """`kernels.engine.party.until` for a world's place and a packed price's arrays."""
    return until(world_at(place), PackedPrice(borrow(table), borrow(real)))


@njit
def plan_at(place: Any, k: int, policy: Any) -> int:
    """Asks the compiled policy at an address (`kernels.engine.handle.address_of`) for engine k's plan."""
    plan = policy_at(policy)
    return plan(engine_of(world_at(place), k))


@njit
def planned_at(place: Any, table: Ints, real: Floats, k: int) -> bool:
    """As `until_at`, `kernels.engine.party.planned` of engine k."""
    return planned(world_at(place), PackedPrice(borrow(table), borrow(real)), k)
