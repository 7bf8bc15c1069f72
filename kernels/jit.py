"""The one way a kernel is compiled: nopython, cached, IEEE arithmetic, no threads."""

import importlib.util
import pathlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar, cast

import numba
from numba.core import typeinfer
from numba.core.dispatcher import Dispatcher

from kernels import cache

F = TypeVar("F", bound=Callable[..., Any])
BLAS = "scipy.linalg.cython_blas"


def _spare_scipy() -> None:
    """Numba asks, where it sets itself up, whether scipy's BLAS can be imported, and imports it for the answer (0.15 to
    0.25 s). No kernel calls BLAS; where one of a user does, numba asks again and imports it then."""
    if numba.config.DISABLE_JIT or BLAS in sys.modules or importlib.util.find_spec("scipy") is None:
        return
    sys.modules[BLAS] = ModuleType(BLAS)
    try:
        importlib.import_module("numba.np.arraymath")
    finally:
        del sys.modules[BLAS]


_spare_scipy()


def njit(function: F) -> F:
    """Compile lazily for the argument types met, and keep the result in the cache folder.

    >>> from kernels.jit import njit
    >>> @njit
    ... def double(x):
    ...     return 2 * x
    >>> double(21)
    42
    """
    return _compiled(function)


def njit_inline(function: F) -> F:
    """As `njit`, and pasted into its callers: for the small functions of a hot loop."""
    return _compiled(function, forceinline=True)


def njit_as(signature: Any) -> Callable[[F], F]:
    """Compile at import for one signature, so that the result can be passed as a typed function
    pointer: a loop that takes such a pointer is compiled once for every policy or router."""

    def wrap(function: F) -> F:
        return _compiled(function, signature)

    return wrap


def _compiled(function: F, *signature: Any, **option: bool) -> F:
    dispatcher = numba.njit(error_model="numpy", **option)(function)
    if isinstance(dispatcher, Dispatcher):  # a plain function where JIT is off
        file = function.__code__.co_filename
        if pathlib.Path(file).is_file():  # not a line typed at a prompt
            cache.keep(dispatcher, file)
        if signature:
            with typeinfer.register_dispatcher(dispatcher):
                dispatcher.compile(signature[0])
            dispatcher.disable_compile()
    return cast(F, dispatcher)
