"""Functions of users before they are compiled: none calls itself, and every index into an array is checked.

Compiled code has no end to its depth (beyond its stack the process dies), and an index beyond an array reads and writes
whatever lies there.
"""

from collections.abc import Callable, Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any

from kernels import blame
from kernels.errors import InputError
from kernels.jit import Kernel


def prepare(function: Callable[..., Any]) -> None:
    """Have all functions of users that `function`, once compiled, would reach check their indices. An `InputError` with
    file and line where one of them calls itself, directly or through others.

    >>> prepare(lambda replica: 0)
    """
    _walk(function, (), set())


def prepare_file(names: Mapping[str, Any]) -> None:
    """As `prepare`, of all that a user's file, which ran in `names`, defines or names."""
    done: set[Any] = set()
    for value in list(names.values()):
        function = value if isinstance(value, FunctionType) else _compiled(value)
        if function is not None and function.__code__.co_filename in blame.FILES:
            _walk(function, (), done)


def _walk(function: Any, above: tuple[Any, ...], done: set[Any]) -> None:
    if function in above:
        code = function.__code__
        raise InputError(
            "calls itself, and compiled code has no end to that", file=code.co_filename, line=code.co_firstlineno,
            field="function", value=code.co_name, allowed="a loop; or COMPILED = False",
        )  # fmt: skip
    if function not in done:
        for dispatcher in _called(function):
            if not dispatcher.overloads and dispatcher.targetoptions.get("boundscheck") is None:
                dispatcher.targetoptions["boundscheck"] = True
            _walk(dispatcher.py_func, (*above, function), done)
        done.add(function)


def _called(function: Any) -> Iterator[Any]:
    """Compiled functions of users that this one names: of its module, of modules that it names, of its closure."""
    named = function.__code__.co_names
    values = [function.__globals__[name] for name in named if name in function.__globals__]
    for module in [value for value in values if isinstance(value, ModuleType)]:
        values += [vars(module)[name] for name in named if name in vars(module)]
    for cell in function.__closure__ or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:  # not filled yet
            continue
    for value in values:
        plain = _compiled(value)
        if plain is not None and plain.__code__.co_filename in blame.FILES:
            yield from (value.part, value.dispatcher) if isinstance(value, Kernel) else (value,)


def _compiled(value: Any) -> FunctionType | None:
    """The plain function of what is compiled, by the project's `njit` or by numba's; None of anything else."""
    if isinstance(value, ModuleType | FunctionType | type):
        return None
    plain = value.__wrapped__ if isinstance(value, Kernel) else getattr(value, "py_func", None)
    return plain if isinstance(plain, FunctionType) else None
