"""Arrays without reference counts, for loops that pass many of them around.

Compiled code counts references to an array each time that it takes it out of a tuple, with atomic instructions;
they were three quarters of the time of a simulation. A borrowed array shares the memory and counts nothing, so
whoever holds the original must outlive it.
"""

from typing import Any

from numba.core import cgutils
from numba.extending import intrinsic, overload


def borrow(array: Any) -> Any:
    """The same array; in compiled code one that is not reference counted."""
    return array


@intrinsic
def _unowned(typing_context: Any, array: Any) -> Any:
    """The array's structure with nobody as its owner."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        copy = context.make_array(array)(context, builder, value=arguments[0])
        copy.meminfo = cgutils.get_null_value(copy.meminfo.type)
        return copy._getvalue()

    return array(array), code


@overload(borrow)
def _borrow(array: Any) -> Any:
    def borrowed(array: Any) -> Any:
        return _unowned(array)

    return borrowed
