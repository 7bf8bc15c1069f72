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
        """Numba's object."""
        function, signature, option = self._made_of
        return _dispatcher(function, signature, option)

    def __call__(self, *arguments: Any) -> Any:
        return self.dispatcher(*arguments)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # protocols that Python asks every object for
            raise AttributeError(name)
        return getattr(self.dispatcher, name)

    @property
    def _numba_type_(self) -> Any:
        """What numba asks for where another kernel names this one."""
        return self.dispatcher._numba_type_

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


def njit_once(signature: Any) -> Callable[[F], F]:
    """As `njit`, for one signature, whatever the types of literal arguments."""

    def wrap(function: F) -> F:
        return _kernel(function, signature)

    return wrap


def njit_as(signature: Any) -> Callable[[F], F]:
    """Compile now for one signature, so that the result can be passed as a typed function pointer: a loop that takes
    such a pointer is compiled once for every policy or router."""

    def wrap(function: F) -> F:
        return cast(F, _dispatcher(function, (signature,), {}))

    return wrap


def _kernel(function: F, *signature: Any, **option: Any) -> F:
    return function if PLAIN else cast(F, Kernel(function, signature, option))


def _dispatcher(function: Callable[..., Any], signature: tuple[Any, ...], option: dict[str, Any]) -> Any:
    import numba
    from numba.core import typeinfer
    from numba.core.dispatcher import Dispatcher

    _spare_scipy()
    dispatcher = numba.njit(error_model="numpy", **option)(function)
    if isinstance(dispatcher, Dispatcher):  # a plain function where JIT is off
        file = function.__code__.co_filename
        if pathlib.Path(file).is_file():  # not a line typed at a prompt
            cache.keep(dispatcher, file)
        if signature:
            with typeinfer.register_dispatcher(dispatcher):
                dispatcher.compile(signature[0])
            dispatcher.disable_compile()
            _keep_pointers(dispatcher)
    return dispatcher


class _Pointers:
    """What a compiled function passed as a pointer is asked for at every call, found once: its addresses."""

    def __init__(self, result: Any) -> None:
        self.fndesc, self.library, self._held = result.fndesc, self, result  # which owns the code
        self._address: dict[str, int] = {}

    def get_pointer_to_function(self, name: str) -> int:
        if name not in self._address:
            self._address[name] = self._held.library.get_pointer_to_function(name)
        return self._address[name]


def _keep_pointers(dispatcher: Any) -> None:
    """Numba looks a function's addresses up by the hash of its whole signature, a millisecond for an engine's arrays:
    a function of one signature keeps them once they are found."""
    find = dispatcher.get_compile_result
    found: list[_Pointers] = []

    def once(signature: Any) -> _Pointers:
        if not found:
            found.append(_Pointers(find(signature)))
        return found[0]

    dispatcher.get_compile_result = once


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
