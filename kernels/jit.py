"""The one way a kernel is compiled: nopython, cached, IEEE arithmetic, no threads."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

import kernels

numba.config.CACHE_DIR = kernels.CACHE_FOLDER  # also when numba was imported before this package

F = TypeVar("F", bound=Callable[..., Any])


def njit(function: F) -> F:
    """Compile lazily for the argument types met, and keep the result in the cache folder.

    >>> from kernels.jit import njit
    >>> @njit
    ... def double(x):
    ...     return 2 * x
    >>> double(21)
    42
    """
    return cast(F, numba.njit(cache=_has_file(function), error_model="numpy")(function))


def njit_inline(function: F) -> F:
    """As `njit`, and pasted into its callers: for the small functions of a hot loop."""
    return cast(F, numba.njit(cache=_has_file(function), error_model="numpy", forceinline=True)(function))


def njit_as(signature: Any) -> Callable[[F], F]:
    """Compile at import for one signature, so that the result can be passed as a typed function
    pointer: a loop that takes such a pointer is compiled once for every policy or router."""

    def wrap(function: F) -> F:
        return cast(F, numba.njit(signature, cache=_has_file(function), error_model="numpy")(function))

    return wrap


def _has_file(function: Callable[..., Any]) -> bool:
    return not function.__code__.co_filename.startswith("<")
