"""Kernels as parts of others: typed and lowered once, and made machine code only inside what is called.

Numba optimises a function together with all that it calls, and again inside each function that calls it, and makes
machine code of it every time: what lies ten calls deep is compiled ten times. Kernels call kernels; only few are called
from outside. So a kernel has two dispatchers (`kernels.jit.Kernel`). The one that other kernels call leaves a *part*,
code that is neither optimised nor run. The one that Python calls leaves a *whole*, where that happens once, for all the
parts inside.
"""

import functools
from typing import Any

from numba.core import types as numba_types
from numba.core.codegen import JITCodeLibrary
from numba.core.environment import lookup_environment
from numba.core.registry import cpu_target

OPTION = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # nobody outside calls a part
_ENVIRONMENT = "_ZN08NumbaEnv"  # how the names of functions' environments begin


class _Quiet:
    """A code generator for what does not run: environments are set in the whole."""

    def __init__(self, codegen: Any) -> None:
        self._codegen = codegen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codegen, name)

    def set_env(self, name: str, environment: Any) -> None:
        """Nothing."""


class Part(JITCodeLibrary):
    """Code that is linked into other code and does not run itself."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        return 0

    def serialize_using_object_code(self) -> Any:
        return self.serialize_using_bitcode()

    @property
    def codegen(self) -> Any:
        return _Quiet(self._codegen)


class Whole(JITCodeLibrary):
    """Code that runs, with all its parts."""

    def _finalize_specific(self) -> None:
        super()._finalize_specific()
        for variable in self._final_module.global_variables:
            if variable.name.startswith(_ENVIRONMENT):
                environment = lookup_environment(variable.name)
                if environment is not None:
                    self._codegen.set_env(variable.name, environment)


def compiles_as(dispatcher: Any, kind: type[JITCodeLibrary]) -> None:
    """Let a dispatcher leave code of this kind, and so all that numba compiles for it on the way."""
    compile_one = dispatcher.compile

    @functools.wraps(compile_one)
    def compile_as(signature: Any) -> Any:
        codegen = cpu_target.target_context.codegen()
        before = codegen._library_class
        codegen._library_class = kind
        try:
            return compile_one(signature)
        finally:
            codegen._library_class = before

    dispatcher.compile = compile_as


def takes_wide(dispatcher: Any) -> None:
    """Let a dispatcher be typed once for whole numbers of any width: those of fields, of counts and of constants."""
    find = dispatcher.get_call_template

    @functools.wraps(find)
    def find_wide(arguments: Any, named: Any) -> Any:
        return find(tuple(map(_wide, arguments)), {name: _wide(kind) for name, kind in named.items()})

    dispatcher.get_call_template = find_wide


def _wide(kind: Any) -> Any:
    types: Any = numba_types
    kind = types.unliteral(kind)
    return types.int64 if isinstance(kind, types.Integer) and kind.signed else kind
