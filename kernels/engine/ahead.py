"""Memory asked for before it is needed: of the engine whose event comes next, while another's is served.

A thousand engines do not fit into the cache nearest to a core. Where each passes one step at a time, half of a step's
time was waiting for the records of its engine; the next engine is known a step before.
"""

from typing import Any

import llvmlite.ir
from numba.core import cgutils, types
from numba.extending import intrinsic, overload

from kernels.engine.arrays import PLACE
from kernels.engine.records import ENGINE, LANE, World
from kernels.jit import njit

_LINE = 64  # bytes of a line of the cache, on x86 and most ARM
_HELD = ((1, ENGINE.itemsize), (2, LANE.itemsize), (3, 4 * _LINE))  # place in an engine's table; bytes read in a step


def ask(address: int) -> None:
    """Asks for the line of memory at an address; changes nothing."""


@intrinsic
def _ask(typing_context: Any, address: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], cgutils.voidptr_t)
        word = llvmlite.ir.IntType(32)
        kind = llvmlite.ir.FunctionType(llvmlite.ir.VoidType(), [cgutils.voidptr_t, word, word, word])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(prefetch, [pointer, word(0), word(3), word(1)])  # to read, keep, data
        return context.get_dummy_value()

    return types.none(types.int64), code


@overload(ask)
def _asks(address):  # type: ignore[no-untyped-def]
    return lambda address: _ask(address)  # noqa: PLW0108


@njit
def ask_for(w: World, k: int) -> None:
    """Asks for what a step of engine k reads and writes."""
    for place, byte in _HELD:
        first = w.handle[k, PLACE * place]
        for at in range(0, byte, _LINE):
            ask(first + at)
