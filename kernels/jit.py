"""The one way a kernel is compiled: nopython, cached, IEEE arithmetic, no threads.

A kernel is a name until it is called or compiled into another. A run whose loop lies in the cache asks for few of them,
and a verb that computes nothing for none, so that numba is loaded by those who need it.
"""

import functools
import importlib.util
import os
import pathlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar, cast

from kernels import cache

F = TypeVar("F", bound=Callable[..., Any])
BLAS = "scipy.linalg.cython_blas"
PLAIN = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")  # kernels are the Python functions that they are


class Kernel:
    """A function that numba compiles when it is needed. What is not said here (`compile`, `py_func`, `signatures`) is
    its dispatcher's."""

    def __init__(self, function: Callable[..., Any], signature: tuple[Any, ...], option: dict[str, Any]) -> None:
        functools.update_wrapper(self, function)
        self._made_of = function, signature, option

    @functools.cached_property
    def dispatcher(self) -> Any:
        """Numba's object for callers in Python."""
        function, signature, option = self._made_of
        return _dispatcher(function, signature, option)

    @functools.cached_property
    def part(self) -> Any:
        """Numba's object for callers that are kernels (`kernels.parts`)."""
        function, signature, option = self._made_of
        return _dispatcher(function, signature, option, is_part=True)

    def __call__(self, *arguments: Any) -> Any:
        return self.dispatcher(*arguments)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # protocols that Python asks every object for
            raise AttributeError(name)
        return getattr(self.dispatcher, name)

    @property
    def _numba_type_(self) -> Any:
        """What numba asks for where another kernel names this one."""
        return self.part._numba_type_

    def __repr__(self) -> str:
        return f"<Kernel {self._made_of[0].__module__}.{self._made_of[0].__qualname__}>"


def njit(function: F) -> F:
    """Compile lazily for the argument types met, and keep the result in the cache folder.

    >>> from kernels.jit import njit
    >>> @njit
    ... def double(x):
    ...     return 2 * x
    >>> double(21)
    42
    """
    return _kernel(function)


def njit_inline(function: F) -> F:
    """As `njit`, and pasted into its callers: for the small functions of a hot loop."""
    return _kernel(function, forceinline=True)


def njit_pasted(function: F) -> F:
    """As `njit`, and written out where it is called before types are known: for functions whose result compiled code
    cannot return (a tuple that holds a record)."""
    return _kernel(function, inline="always")


def njit_as(signature: Any, is_checked: bool = False) -> Callable[[F], F]:
    """Compile now for one signature, so that the result can be passed as a typed function pointer: a loop that takes
    such a pointer is compiled once for every policy or router. Where it `is_checked`, an index beyond an array is an
    `IndexError`, as in Python."""

    def wrap(function: F) -> F:
        return cast(F, _dispatcher(function, (signature,), {"boundscheck": True} if is_checked else {}))

    return wrap


def _kernel(function: F, *signature: Any, **option: Any) -> F:
    return function if PLAIN else cast(F, Kernel(function, signature, option))


def _dispatcher(
    function: Callable[..., Any], signature: tuple[Any, ...], option: dict[str, Any], is_part: bool = False
) -> Any:
    import numba
    from numba.core import typeinfer
    from numba.core.dispatcher import Dispatcher

    from kernels import parts

    _spare_scipy()
    option = option | parts.OPTION if is_part else option
    dispatcher = numba.njit(error_model="numpy", **option)(function)
    if isinstance(dispatcher, Dispatcher):  # a plain function where JIT is off
        parts.compiles_as(dispatcher, parts.Part if is_part else parts.Whole)
        if is_part:
            parts.takes_wide(dispatcher)
        file = function.__code__.co_filename
        if pathlib.Path(file).is_file():  # not a line typed at a prompt
            cache.keep(dispatcher, file, "part" if is_part else "whole")
        if signature:
            with typeinfer.register_dispatcher(dispatcher):
                dispatcher.compile(signature[0])
            dispatcher.disable_compile()
    return dispatcher


@functools.cache
def _spare_scipy() -> None:
    """Numba asks, where it sets itself up, whether scipy's BLAS can be imported, and imports it for the answer (0.15 to
    0.25 s). No kernel calls BLAS; where one of a user does, numba asks again and imports it then."""
    import numba

    if numba.config.DISABLE_JIT or BLAS in sys.modules or importlib.util.find_spec("scipy") is None:
        return
    sys.modules[BLAS] = ModuleType(BLAS)
    try:
        importlib.import_module("numba.np.arraymath")
    finally:
        del sys.modules[BLAS]
